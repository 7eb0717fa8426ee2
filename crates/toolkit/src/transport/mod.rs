//! What carries envelopes: the border to brokers. Applications use [`Connection`](crate::Connection).
//!
//! A transport publishes durably, hands out deliveries and takes them back settled. It knows two ways
//! to settle, *done* and *given back*; retry, delay between attempts and dead letters are made of
//! publish and *done*, so that they are the same on every broker.

#[cfg(feature = "amqp")]
pub mod amqp;
#[cfg(feature = "embedded")]
pub mod embedded;
mod feed;
#[cfg(feature = "kafka")]
pub mod kafka;
mod log;
pub mod memory;
mod orders;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::envelope::Envelope;
use crate::error::Result;

pub use self::feed::{Credit, Event, FeedControl, Handed, Lane, RawFeed, Revoked, feed};

/// A future that a trait object returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What carries envelopes. Every implementation passes the conformance suite.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// What it can do.
    fn caps(&self) -> Caps;

    /// Publishes in order. `Ok`: every message is durable, as the broker understands it. Otherwise any
    /// of them may have been published: publish all again, with the same ids.
    fn publish<'a>(&'a self, to: &'a Address, batch: Vec<Parcel>) -> BoxFuture<'a, Result<()>>;

    /// Begins to hand out messages. What does not exist is made.
    fn subscribe<'a>(&'a self, to: &'a Subscription) -> BoxFuture<'a, Result<RawFeed>>;

    /// Messages that the group has not settled.
    fn depth<'a>(&'a self, at: &'a Address, group: &'a str) -> BoxFuture<'a, Result<u64>>;

    /// At most `max` messages that the group has not settled, as they lie there: nothing is held, nothing is
    /// made, no consumer is disturbed. `None`: here nobody can look without taking.
    fn look<'a>(
        &'a self,
        _at: &'a Address,
        _group: &'a str,
        _max: u32,
    ) -> BoxFuture<'a, Result<Option<Vec<Envelope>>>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Syncs, commits, leaves; afterwards everything is [`Error::Closed`](crate::Error::Closed).
    fn close(&self) -> BoxFuture<'_, Result<()>>;
}

/// What a transport can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Messages with one key keep their order across all consumers of a group.
    pub keyed_order: bool,
    /// A group that subscribes for the first time gets what was published before.
    pub replay: bool,
    /// A crashed consumer's deliveries are counted.
    pub redelivery_count: bool,
    /// Published messages survive the end of the process.
    pub durable: bool,
    /// A message of a queue can be settled for good while one before it is not.
    pub selective_ack: bool,
}

/// A message to be published.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// What.
    pub envelope: Envelope,
    /// How long before anybody sees it.
    pub delay: Option<Duration>,
}

impl From<Envelope> for Parcel {
    fn from(envelope: Envelope) -> Self {
        Self { envelope, delay: None }
    }
}

/// What is wanted, and by whom.
///
/// ```
/// use ottla::transport::Subscription;
///
/// let competing = Subscription::new("orders", "shipping").max_in_flight(64);
/// let everything = Subscription::all("prices"); // each subscriber all of it, from the beginning
/// # let _ = (competing, everything);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Where from.
    pub source: Address,
    /// Consumers of one group share the messages; `None`: this subscriber gets every message from the
    /// beginning, and nothing of it is remembered.
    pub group: Option<String>,
    /// Deliveries that may be unsettled at a time; at least 1.
    pub max_in_flight: u32,
}

impl Subscription {
    /// As a member of a group.
    pub fn new(source: impl Into<Address>, group: impl Into<String>) -> Self {
        Self { source: source.into(), group: Some(group.into()), max_in_flight: IN_FLIGHT }
    }

    /// Every message from the beginning, whoever else reads: for local views.
    pub fn all(source: impl Into<Address>) -> Self {
        Self { source: source.into(), group: None, max_in_flight: IN_FLIGHT }
    }

    /// How many deliveries may be unsettled at a time.
    #[must_use]
    pub fn max_in_flight(self, max: u32) -> Self {
        Self { max_in_flight: max.max(1), ..self }
    }
}

/// Takes settled deliveries back. Calls return at once; a failure shows as a redelivery.
pub trait Settler: fmt::Debug + Send + Sync + 'static {
    /// Done: never delivered again.
    fn ack(&self, token: Token);

    /// Not done: delivered again, to whomever, without counting as an attempt.
    fn release(&self, token: Token);
}

/// What a transport knows a delivery by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// The partition, or 0.
    pub lane: Lane,
    /// The offset, or the delivery tag.
    pub number: u64,
}

/// Settles a delivery once, or gives it back when it is dropped.
#[derive(Debug)]
pub struct Settlement {
    settler: Arc<dyn Settler>,
    token: Token,
    settled: bool,
}

impl Settlement {
    /// For transports.
    #[must_use]
    pub fn new(settler: Arc<dyn Settler>, token: Token) -> Self {
        Self { settler, token, settled: false }
    }

    /// Done.
    pub fn ack(mut self) {
        self.settled = true;
        self.settler.ack(self.token);
    }

    /// Given back.
    pub fn release(self) {
        drop(self);
    }

    /// Which part of the source it came from.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        self.token.lane
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        if !self.settled {
            self.settler.release(self.token);
        }
    }
}

/// Deliveries that may be unsettled, unless a subscription says otherwise.
const IN_FLIGHT: u32 = 256;
