//! The dead letters of a group: look at them, send them back.

use std::collections::HashMap;
use std::time::Duration;

use crate::address::Address;
use crate::connection::{Connection, DeadLetter, Delivery, Feed, Incoming, UNPARK, dead_address};
use crate::error::Result;
use crate::transport::Subscription;

/// The messages that a service has given up.
///
/// ```
/// # use ottla::{Connection, dead_letters::DeadLetters};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> ottla::Result<()> {
/// # let connection = Connection::open("memory:").await?;
/// let dead = DeadLetters::new(&connection, "orders", "shipping");
/// for letter in dead.look(100).await? {
///     println!("{} {}: {}", letter.envelope.name, letter.reason, letter.cause);
/// }
/// let sent_back = dead.redrive(100).await?; // in their order, with their ids, attempts from the start
/// # assert_eq!(sent_back, 0);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct DeadLetters {
    connection: Connection,
    address: Address,
    group: String,
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
        let (feed, held) = self.take(max).await?;
        let letters = held.iter().filter_map(|letter| DeadLetter::read(letter.envelope.clone()));
        let letters = letters.collect();
        drop(held);
        feed.close().await?;
        Ok(letters)
    }

    /// Sends the first ones back to where they are tried again: in their order, with their ids, their
    /// attempts counted from the start. Each is there durably before it is gone from here. Returns how
    /// many. What is no dead letter stays.
    ///
    /// # Errors
    /// The broker cannot be reached. What was sent back may be here, too; its id tells.
    pub async fn redrive(&self, max: u32) -> Result<u64> {
        let (feed, held) = self.take(max).await?;
        let read = held.into_iter().filter_map(|delivery| {
            let letter = DeadLetter::read(delivery.envelope.clone())?;
            Some((delivery, letter))
        });
        let letters: Vec<(Delivery, DeadLetter)> = read.collect();
        let last: HashMap<Option<String>, usize> =
            letters.iter().enumerate().map(|(at, (_, l))| (l.envelope.key.clone(), at)).collect();
        let mut count = 0;
        for (at, (delivery, letter)) in letters.into_iter().enumerate() {
            let ends = letter.envelope.key.is_some() && last.get(&letter.envelope.key) == Some(&at);
            let (id, redrives) = (letter.envelope.id, letter.redrives + 1);
            let (to, envelope) = letter.redriven();
            let envelope = if ends { envelope.with_header(UNPARK, "1") } else { envelope };
            self.connection.send(&to, [envelope]).await?;
            delivery.ack();
            tracing::info!(%id, %to, redrives, "sent back");
            count += 1;
        }
        feed.close().await?;
        Ok(count)
    }

    async fn take(&self, max: u32) -> Result<(Feed, Vec<Delivery>)> {
        let depth = u32::try_from(self.count().await?).unwrap_or(u32::MAX).min(max.max(1));
        let subscription = Subscription::new(&self.address, &self.group).max_in_flight(depth);
        let mut feed = self.connection.subscribe(subscription).await?;
        let mut held = Vec::new();
        while held.len() < usize::try_from(depth).unwrap_or(usize::MAX) {
            match tokio::time::timeout(PATIENCE, feed.next()).await {
                Ok(Some(Ok(Incoming::Delivery(delivery)))) => held.push(delivery),
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => return Err(error),
                Ok(None) | Err(_) => break, // another operator has them
            }
        }
        Ok((feed, held))
    }
}

/// How long the next dead letter is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
