//! The dead letters of a group: look at them, send them back.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::Uuid;
use crate::address::Address;
use crate::connection::{
    Connection, DeadLetter, Delivery, Feed, Incoming, Reason, UNPARK, dead_address,
};
use crate::envelope::Envelope;
use crate::error::{Error, Result};
use crate::transport::Subscription;

/// The messages that a service has given up.
///
/// ```
/// # use ottla::{Connection, Reason, dead_letters::{DeadLetters, Filter, Redrive}};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> ottla::Result<()> {
/// # let connection = Connection::open("memory:").await?;
/// let dead = DeadLetters::new(&connection, "orders", "shipping");
/// for letter in dead.look(100).await? {
///     println!("{} {}: {}", letter.envelope.name, letter.reason, letter.cause);
/// }
/// let exhausted = Redrive::new(Filter::default().named("order.paid").because(Reason::Exhausted));
/// let would_go = dead.preview(&exhausted).await?; // nothing moves
/// let sent_back = dead.redrive_by(&exhausted.per_second(50)).await?; // with their ids, attempts from the start
/// # assert_eq!((would_go.len(), sent_back.sent), (0, 0));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct DeadLetters {
    connection: Connection,
    address: Address,
    group: String,
}

/// Which dead letters; what is not said does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    id: Option<Uuid>,
    name: Option<String>,
    reason: Option<Reason>,
}

/// Which dead letters to send back, how many, and how fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redrive {
    filter: Filter,
    limit: u64,
    per_second: Option<u32>,
}

/// What a redrive did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Dead letters that were sent back.
    pub sent: u64,
    /// What was looked at and stays: not asked for, above the limit, or no dead letter.
    pub stayed: u64,
}

impl Filter {
    /// Only the message with this id.
    #[must_use]
    pub fn id(self, id: Uuid) -> Self {
        Self { id: Some(id), ..self }
    }

    /// Only messages of this name.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Only those that were set aside for this reason.
    #[must_use]
    pub fn because(self, reason: Reason) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// Whether it lets this one through.
    #[must_use]
    pub fn takes(&self, letter: &DeadLetter) -> bool {
        self.id.is_none_or(|id| id == letter.envelope.id)
            && self.name.as_ref().is_none_or(|name| *name == letter.envelope.name)
            && self.reason.is_none_or(|reason| reason == letter.reason)
    }
}

impl Redrive {
    /// All that the filter lets through, as fast as they go.
    #[must_use]
    pub const fn new(filter: Filter) -> Self {
        Self { filter, limit: u64::MAX, per_second: None }
    }

    /// At most so many, the first ones.
    #[must_use]
    pub fn limit(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// At most so many a second, at least one; so that the service that stumbled is not pushed over. They
    /// are held meanwhile: a broker that ends slow consumers (RabbitMQ: after 30 minutes) bounds how long
    /// one redrive can take.
    #[must_use]
    pub fn per_second(self, rate: u32) -> Self {
        Self { per_second: Some(rate.max(1)), ..self }
    }
}

impl DeadLetters {
    /// Those of one service and one of its sources.
    pub fn new(connection: &Connection, source: impl Into<Address>, service: &str) -> Self {
        let address = dead_address(&source.into(), service);
        Self { connection: connection.clone(), address, group: service.to_owned() }
    }

    /// Where they are.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// How many there are.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub async fn count(&self) -> Result<u64> {
        self.connection.depth(&self.address, &self.group).await
    }

    /// The first ones, which stay there.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub async fn look(&self, max: u32) -> Result<Vec<DeadLetter>> {
        self.find(&Filter::default(), max).await
    }

    /// The first ones that the filter lets through, which stay there.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub async fn find(&self, filter: &Filter, max: u32) -> Result<Vec<DeadLetter>> {
        let at_once = if *filter == Filter::default() { max.max(1) } else { HELD_MAX };
        let envelopes = match self.connection.look(&self.address, &self.group, at_once).await? {
            Some(found) => found,
            None => self.take_and_give_back(at_once).await?,
        };
        let letters = envelopes.into_iter().filter_map(DeadLetter::read);
        let letters = letters.filter(|letter| filter.takes(letter));
        Ok(letters.take(usize::try_from(max).unwrap_or(usize::MAX)).collect())
    }

    /// What [`redrive_by`](Self::redrive_by) would send back now. Nothing moves.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub async fn preview(&self, which: &Redrive) -> Result<Vec<DeadLetter>> {
        let max = u32::try_from(which.limit).unwrap_or(u32::MAX);
        self.find(&which.filter, max).await
    }

    /// Sends the first ones back to where they are tried again: in their order, with their ids, their
    /// attempts counted from the start. Each is there durably before it is gone from here. Returns how
    /// many. What is no dead letter stays.
    ///
    /// # Errors
    /// The broker cannot be reached. What was sent back may be here, too; its id tells.
    pub async fn redrive(&self, max: u32) -> Result<u64> {
        let all = Redrive::new(Filter::default()).limit(max.into());
        self.redrive_by(&all).await.map(|done| done.sent)
    }

    /// The same by choice. A key that is [parked](crate::policy::Order::ParkKey) goes on once none of its
    /// letters is left here. On Kafka, where only a beginning of a partition can be settled, what stays
    /// before something that goes is put behind it, in its order.
    ///
    /// # Errors
    /// As [`redrive`](Self::redrive).
    pub async fn redrive_by(&self, which: &Redrive) -> Result<Redriven> {
        let Some((feed, held)) = self.take(HELD_MAX).await? else { return Ok(Redriven::default()) };
        let (chosen, last) = choose(&held, which);
        let last_chosen = chosen.iter().max().copied();
        let mut done = Redriven::default();
        let pace = which.per_second.map(|rate| Duration::from_secs(1) / rate);
        let mut next = Instant::now();
        for (at, delivery) in held.into_iter().enumerate() {
            match DeadLetter::read(delivery.envelope.clone()).filter(|_| chosen.contains(&at)) {
                Some(letter) => {
                    tokio::time::sleep_until(next).await;
                    next = pace.map_or(next, |pace| Instant::now() + pace);
                    self.send_back(letter, delivery, last.contains(&at)).await?;
                    done.sent += 1;
                }
                None => {
                    let passed = last_chosen > Some(at);
                    self.keep(delivery, passed).await?;
                    done.stayed += 1;
                }
            }
        }
        feed.close().await?;
        Ok(done)
    }

    async fn send_back(&self, letter: DeadLetter, held: Delivery, ends: bool) -> Result<()> {
        let (id, redrives) = (letter.envelope.id, letter.redrives + 1);
        let (to, envelope) = letter.redriven();
        let envelope = if ends { envelope.with_header(UNPARK, "1") } else { envelope };
        self.connection.send(&to, [envelope]).await?;
        held.ack();
        tracing::info!(%id, %to, redrives, "sent back");
        Ok(())
    }

    /// What stays where it is, or, where nothing behind it could be settled otherwise, behind it.
    async fn keep(&self, held: Delivery, passed: bool) -> Result<()> {
        if passed && !self.connection.caps().selective_ack {
            self.connection.send(&self.address, [held.envelope.clone()]).await?;
            held.ack();
        }
        Ok(())
    }

    async fn take_and_give_back(&self, max: u32) -> Result<Vec<Envelope>> {
        let Some((feed, held)) = self.take(max).await? else { return Ok(Vec::new()) };
        let envelopes = held.iter().map(|letter| letter.envelope.clone()).collect();
        drop(held);
        feed.close().await?;
        Ok(envelopes)
    }

    /// `None`: there are none. Nobody subscribes then, which would make the address.
    async fn take(&self, max: u32) -> Result<Option<(Feed, Vec<Delivery>)>> {
        let depth = u32::try_from(self.count().await?).unwrap_or(u32::MAX).min(max);
        if depth == 0 {
            return Ok(None);
        }
        let subscription = Subscription::new(&self.address, &self.group).max_in_flight(depth);
        let mut feed = self.connection.subscribe(subscription).await?;
        let mut held = Vec::new();
        while held.len() < usize::try_from(depth).unwrap_or(usize::MAX) {
            match tokio::time::timeout(PATIENCE, feed.next()).await {
                Ok(Some(Ok(Incoming::Delivery(delivery)))) => held.push(delivery),
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => return Err(error),
                Ok(None) => return Err(Error::Closed("the feed of dead letters")),
                Err(_) => break, // another operator has them
            }
        }
        Ok(Some((feed, held)))
    }
}

/// The places of those that go, and of those after which nothing of their key is left here.
fn choose(held: &[Delivery], which: &Redrive) -> (HashSet<usize>, HashSet<usize>) {
    let mut chosen = HashSet::new();
    let mut done: HashSet<Option<&str>> = HashSet::from([None]); // without a key nothing is parked
    for (at, delivery) in held.iter().enumerate() {
        let room = u64::try_from(chosen.len()).unwrap_or(u64::MAX) < which.limit;
        let letter = DeadLetter::read(delivery.envelope.clone()).filter(|_| room);
        if letter.is_some_and(|letter| which.filter.takes(&letter)) {
            chosen.insert(at);
        } else {
            done.insert(delivery.envelope.key.as_deref()); // one of its key stays
        }
    }
    let backwards = held.iter().enumerate().rev();
    let last = backwards.filter(|(_, held)| done.insert(held.envelope.key.as_deref()));
    let last = last.map(|(at, _)| at).collect();
    (chosen, last)
}

/// How long the next dead letter is waited for: a group on Kafka forms for three seconds and more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Dead letters that an operator holds at a time: what AMQP's prefetch can say.
const HELD_MAX: u32 = 65_535;
