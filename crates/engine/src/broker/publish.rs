//! `basic.publish` and `tx.commit`: judged, routed, put into queues.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_store::{Lsn, Purpose, StreamId};

use super::Broker;
use super::arrive::{Arrived, Arriving, Leaving};
use super::connection::Channel;
use super::effects::Work;
use super::error::{BrokerError, ErrorKind};
use super::exchanges::DELAYED;
use super::message::{Head, Message};
use super::properties::Properties;
use super::queue::Queue;
use super::request::{Committed, Held, Publish, Published, Transaction};
use crate::clock::Now;
use crate::exchange::{Publication, routing_keys};
use crate::queue::{Command, Outcome};
use crate::value::Arguments;
use crate::vhost::{Access, Resource};

/// What became of a publish that may be gathered with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gathering {
    /// It was done at once.
    Done(Published),
    /// It waits for [`Broker::append_gathered`], which tells.
    Gathered,
    /// What was gathered comes first: [`Broker::append_gathered`], then again.
    Full,
}

/// Where a publish went that is routed by its exchange and key alone: the next one with the same goes there
/// too, and its user may send it, as long as nothing that exists has changed. At most one a channel.
#[derive(Debug)]
pub(super) struct Route {
    /// [`Broker::changes`] when it was found.
    changes: u64,
    exchange: Arc<str>,
    /// The routing key alone.
    keys: Arc<[Arc<str>]>,
    targets: Arc<[Arc<Queue>]>,
}

/// A publish that was judged: for queues, or for one direct reply.
enum Routed {
    Queues(Arriving),
    Reply(Arc<Message>),
}

impl Broker {
    /// `basic.publish` outside a transaction.
    ///
    /// # Errors
    /// What closes the channel; `Busy` and `DiskFull`, which change nothing.
    pub fn publish(
        &self,
        channel: &mut Channel,
        publish: Publish<'_>,
    ) -> Result<Published, BrokerError> {
        let now = self.clock.now();
        let arriving = match self.route(channel, publish, now)? {
            Routed::Reply(message) => {
                let routed = self.reply_to(&message);
                return Ok(Published { routed, ..Published::default() });
            }
            Routed::Queues(arriving) => arriving,
        };
        self.publish_routed(channel, arriving, now)
    }

    fn publish_routed(
        &self,
        channel: &mut Channel,
        arriving: Arriving,
        now: Now,
    ) -> Result<Published, BrokerError> {
        let message = Arc::clone(&arriving.message);
        let routed = !arriving.targets.is_empty();
        if !routed {
            self.remember(channel.vhost(), &message);
            self.published.fetch_add(1, Ordering::Relaxed);
            return Ok(Published::default());
        }
        self.need_memory(std::slice::from_ref(&arriving))?;
        let mut work = Work::default();
        let arrived = self.arrive_one(arriving, now, &mut work);
        self.finish(work, now);
        let Arrived { rejected, lsn, .. } = arrived?;
        self.published.fetch_add(1, Ordering::Relaxed);
        self.remember(channel.vhost(), &message);
        channel.last = channel.last.max(lsn);
        Ok(Published { routed, rejected, lsn })
    }

    /// Refuses what would be in memory alone while there is too much of that.
    fn need_memory(&self, arriving: &[Arriving]) -> Result<(), BrokerError> {
        match self.is_short_of_memory() && arriving.iter().any(Arriving::stays_in_memory) {
            true => Err(BrokerError::new(ErrorKind::MemoryFull, "too much in memory alone")),
            false => Ok(()),
        }
    }

    /// `basic.publish` outside a transaction, where what goes to streams is gathered: what one read of
    /// the socket brings becomes one frame of the log and one batch for each partition.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn gather(
        &self,
        channel: &mut Channel,
        publish: Publish<'_>,
    ) -> Result<Gathering, BrokerError> {
        if !self.has_streams.load(Ordering::Relaxed) {
            return self.publish(channel, publish).map(Gathering::Done);
        }
        let now = self.clock.now();
        let Routed::Queues(arriving) = self.route(channel, publish.clone(), now)? else {
            return self.publish(channel, publish).map(Gathering::Done);
        };
        if !arriving.targets.iter().any(|target| target.is_stream()) {
            return match channel.gathered.is_empty() {
                true => self.publish_routed(channel, arriving, now).map(Gathering::Done),
                false => Ok(Gathering::Full),
            };
        }
        self.need_memory(std::slice::from_ref(&arriving))?;
        let bytes = arriving.message.body.len().saturating_mul(arriving.targets.len());
        let full = channel.gathered.len() >= GATHERED_MAX
            || channel.gathered_bytes.saturating_add(bytes) > GATHERED_BYTES_MAX;
        if full && !channel.gathered.is_empty() {
            return Ok(Gathering::Full);
        }
        channel.gathered.push(arriving);
        channel.gathered_bytes += bytes;
        Ok(Gathering::Gathered)
    }

    /// Appends what was gathered; what became of each, in order. After an error all of it is still
    /// there.
    ///
    /// # Errors
    /// `Busy` and `DiskFull`, which change nothing.
    pub fn append_gathered(&self, channel: &mut Channel) -> Result<Vec<Published>, BrokerError> {
        if channel.gathered.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        let mut work = Work::default();
        for arriving in &mut channel.gathered {
            arriving.after = arriving.after.max(channel.last);
        }
        let arrived = self.arrive(Purpose::Grow, &channel.gathered, &[], now, &mut work);
        self.finish(work, now);
        let (arrived, _) = arrived?;
        let gathered = std::mem::take(&mut channel.gathered);
        let count = u64::try_from(gathered.len()).unwrap_or(u64::MAX);
        self.published.fetch_add(count, Ordering::Relaxed);
        gathered.iter().for_each(|one| self.remember(channel.vhost(), &one.message));
        channel.gathered_bytes = 0;
        let published = arrived.into_iter().map(|Arrived { rejected, lsn, .. }| {
            channel.last = channel.last.max(lsn);
            Published { routed: true, rejected, lsn }
        });
        Ok(published.collect())
    }

    /// What `publish` would refuse, without publishing: for `basic.publish` in a transaction.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn check_publish(
        &self,
        channel: &mut Channel,
        publish: &Publish<'_>,
    ) -> Result<(), BrokerError> {
        self.route(channel, publish.clone(), self.clock.now()).map(|_| ())
    }

    /// `tx.commit`: all publishes and acknowledgements become durable together.
    ///
    /// # Errors
    /// As [`publish`](Self::publish); nothing has happened then.
    pub fn commit(
        &self,
        channel: &mut Channel,
        transaction: Transaction<'_>,
    ) -> Result<Committed, BrokerError> {
        let now = self.clock.now();
        let mut arriving = Vec::new();
        let mut committed = Committed::default();
        let mut replies = Vec::new();
        let mut indexes = Vec::new();
        for (index, publish) in transaction.publishes.into_iter().enumerate() {
            let mut published = Published::default();
            match self.route(channel, publish, now)? {
                Routed::Reply(message) => {
                    replies.push(message);
                    published.routed = true;
                }
                Routed::Queues(arrives) if arrives.targets.is_empty() => {}
                Routed::Queues(arrives) => {
                    published.routed = true;
                    indexes.push(index);
                    arriving.push(arrives);
                }
            }
            committed.published.push(published);
        }
        if transaction.settlements.is_empty() {
            self.need_memory(&arriving)?; // who settles may be the one that makes room
        }
        let leaving = self.acknowledged(channel, &transaction.settlements);
        let mut work = Work::default();
        let (arrived, lsn) = self.arrive(Purpose::Grow, &arriving, &leaving, now, &mut work)?;
        for (index, arrived) in indexes.into_iter().zip(arrived) {
            if let Some(published) = committed.published.get_mut(index) {
                published.rejected = arrived.rejected;
                published.lsn = arrived.lsn;
            }
            channel.last = channel.last.max(arrived.lsn);
        }
        let count = u64::try_from(arriving.len()).unwrap_or(u64::MAX);
        self.published.fetch_add(count, Ordering::Relaxed);
        arriving.iter().for_each(|one| self.remember(channel.vhost(), &one.message));
        for message in replies {
            self.reply_to(&message);
        }
        for (messages, outcome) in &transaction.settlements {
            self.settle_held(channel, messages, *outcome, now, &mut work);
        }
        self.finish(work, now);
        committed.lsn = lsn;
        Ok(committed)
    }

    /// What a transaction acknowledges, by queue: it leaves in the transaction's own frame.
    fn acknowledged(
        &self,
        channel: &Channel,
        settlements: &[(Vec<Held>, Outcome)],
    ) -> Vec<Leaving> {
        let mut leaving: BTreeMap<StreamId, Leaving> = BTreeMap::new();
        let acked = settlements.iter().filter(|(_, outcome)| *outcome == Outcome::Ack);
        for held in acked.flat_map(|(messages, _)| messages) {
            let Some(queue) = channel.queues.get(&held.queue) else { continue };
            let new = || Leaving { queue: Arc::clone(queue), seqs: Vec::new(), with: None };
            leaving.entry(held.queue).or_insert_with(new).seqs.push(held.seq);
        }
        leaving.into_values().collect()
    }

    /// `basic.ack`, `basic.nack`, `basic.reject`: messages the channel holds, in the order of their
    /// delivery tags. Gather what one read of the socket brings into one call: it is one frame of the log.
    pub fn settle(&self, channel: &Channel, messages: &[Held], outcome: Outcome) {
        let now = self.clock.now();
        let mut work = Work::default();
        self.settle_held(channel, messages, outcome, now, &mut work);
        self.finish(work, now);
    }

    fn settle_held(
        &self,
        channel: &Channel,
        messages: &[Held],
        outcome: Outcome,
        now: Now,
        work: &mut Work,
    ) {
        channel.connection.mailbox.settled(channel.key, messages.len());
        let mut by_queue: BTreeMap<StreamId, Vec<Lsn>> = BTreeMap::new();
        for held in messages {
            by_queue.entry(held.queue).or_default().push(Lsn(held.seq.0));
        }
        for (id, messages) in by_queue {
            let Some(queue) = channel.queues.get(&id) else {
                channel.connection.readers().settle(channel.key, id, &messages);
                continue;
            };
            let command = Command::Settle { channel: channel.key, messages: &messages, outcome };
            let mut state = queue.lock();
            if !state.machine.is_gone() {
                self.apply(queue, &mut state, command, now, work);
            }
        }
    }

    /// Judges a publish and finds its queues.
    fn route(
        &self,
        channel: &mut Channel,
        publish: Publish<'_>,
        now: Now,
    ) -> Result<Routed, BrokerError> {
        let Publish { exchange, routing_key, properties: raw, body } = publish;
        let Some(properties) = Properties::parse(&raw) else {
            return Err(BrokerError::precondition("malformed properties"));
        };
        let head = judge(channel, &properties, body.len(), now)?;
        let mut verbatim = raw.clone();
        if properties.reply_to() == Some(REPLY_TO) {
            verbatim = self.reply_address(channel, &properties)?;
        }
        let selects = properties.may_have_header(b"CC");
        if !selects && let Some(route) = self.known_route(channel, exchange, routing_key) {
            let (exchange, keys) = (Arc::clone(&route.exchange), Arc::clone(&route.keys));
            let message = Arc::new(Message { head, exchange, keys, properties: verbatim, body });
            let targets = Arc::clone(&route.targets);
            return Ok(Routed::Queues(Arriving { message, targets, after: channel.last }));
        }
        let state = self.state();
        let vhost = self.vhost(&state, channel)?;
        self.permit(&state, channel, Access::Write, Resource::Exchange(exchange))?;
        let headers = match selects || vhost.topology.reads_headers() {
            true => properties.headers(),
            false => Arguments::new(),
        };
        let keys = routing_keys(routing_key, &headers)?;
        self.permit_topics(&state, channel, Access::Write, exchange, &keys)?;
        if headers.get("BCC").is_some() {
            let mut visible = headers.clone();
            visible.remove("BCC");
            verbatim = Properties::parse(&verbatim)
                .map_or(verbatim.clone(), |parsed| parsed.with_headers(&visible));
        }
        let mut message = Message {
            head,
            exchange: exchange.into(),
            keys: shown_keys(routing_key, &headers),
            properties: verbatim,
            body,
        };
        if exchange.is_empty() && routing_key.starts_with(REPLY_PREFIX) {
            return Ok(Routed::Reply(Arc::new(message)));
        }
        let publication = Publication {
            keys: &keys,
            headers: &headers,
            message_id: properties.message_id(),
            correlation_id: properties.correlation_id(),
            timestamp: properties.timestamp(),
            chance: self.chance().bits(),
        };
        let routed = vhost.topology.route(exchange, &publication);
        let routed =
            routed.map_err(|error| BrokerError::route(error, exchange, channel.vhost()))?;
        let mut targets: Arc<[Arc<Queue>]> =
            routed.queues.iter().filter_map(|id| state.queues.get(id).cloned()).collect();
        let delayed = vhost.topology.exchange(exchange).filter(|exchange| exchange.kind.delayed);
        if let Some(delay) = delayed.and_then(|known| known.kind.delay(&properties.headers())) {
            // it waits first and is routed when its time has come
            message.head.expiration = Some(delay);
            targets = vhost.queues.get(DELAYED).cloned().into_iter().collect();
        }
        let lasting = !selects && routed.by_keys;
        channel.route = (lasting && targets.len() <= ROUTE_TARGETS_MAX).then(|| Route {
            changes: self.changes.load(Ordering::Acquire), // nothing changes while `state` is read
            exchange: Arc::clone(&message.exchange),
            keys: Arc::clone(&message.keys),
            targets: Arc::clone(&targets),
        });
        let message = Arc::new(message);
        Ok(Routed::Queues(Arriving { message, targets, after: channel.last }))
    }

    /// Where the channel's newest publish went, if this one goes there too.
    fn known_route<'a>(
        &self,
        channel: &'a Channel,
        exchange: &str,
        routing_key: &str,
    ) -> Option<&'a Route> {
        channel.route.as_ref().filter(|route| {
            route.changes == self.changes.load(Ordering::Acquire)
                && *route.exchange == *exchange
                && route.keys.first().is_some_and(|key| **key == *routing_key)
        })
    }
}

/// The keys a message keeps: without those of BCC.
fn shown_keys(routing_key: &str, headers: &Arguments) -> Arc<[Arc<str>]> {
    let mut shown = headers.clone();
    shown.remove("BCC");
    let keys = routing_keys(routing_key, &shown);
    keys.into_iter().flatten().map(Arc::from).collect()
}

/// Looks at what the broker has an opinion on.
fn judge(
    channel: &Channel,
    properties: &Properties<'_>,
    body: usize,
    now: Now,
) -> Result<Head, BrokerError> {
    let login = channel.connection.user();
    let may_pretend = || channel.connection.login.tags.iter().any(|tag| tag == "impersonator");
    if let Some(user) = properties.user_id().filter(|user| *user != login && !may_pretend()) {
        return Err(BrokerError::precondition(format!(
            "user_id property set to '{user}' but authenticated user was '{login}'"
        )));
    }
    let expiration = properties.expiration().map(|text| {
        text.parse::<u64>().map_err(|_| {
            let why = match text.parse::<i64>() {
                Ok(n) => format!("{{value_negative,{n}}}"),
                Err(_) => "no_integer".to_owned(),
            };
            BrokerError::precondition(format!("invalid expiration '{text}': {why}"))
        })
    });
    let bytes = u32::try_from(body)
        .map_err(|_| BrokerError::precondition(format!("message size {body} is too large")))?;
    Ok(Head {
        arrived: now.wall,
        expiration: expiration.transpose()?,
        priority: properties.priority(),
        persistent: properties.is_persistent(),
        dead: false,
        bytes,
    })
}

/// Queues of a route that a channel remembers; one with more is looked up each time.
const ROUTE_TARGETS_MAX: usize = 64;
/// Publishes gathered before they are appended.
const GATHERED_MAX: usize = 1024;
/// Bytes of their bodies, unless one alone has more.
const GATHERED_BYTES_MAX: usize = 1 << 20;

/// The pseudo-queue of direct reply-to, and what its addresses begin with.
pub(super) const REPLY_TO: &str = "amq.rabbitmq.reply-to";
pub(super) const REPLY_PREFIX: &str = "amq.rabbitmq.reply-to.";
