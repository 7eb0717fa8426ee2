//! The plumbing of the suite: names of its own, numbered messages, patience.

use std::fmt::Display;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Open;
use crate::address::Address;
use crate::connection::{Connection, Delivery, Feed, Incoming};
use crate::envelope::Envelope;
use crate::message::Message;
use crate::transport::Subscription;

/// A promise that is broken, and how.
#[derive(Debug)]
pub(super) struct Broken(pub(super) String);
pub(super) type Shown<T = ()> = Result<T, Broken>;

impl<E: Display> From<E> for Broken {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// A numbered message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counted {
    pub(super) key: String,
    pub(super) number: u32,
}

impl Message for Counted {
    const NAME: &'static str = "conformance.counted";

    fn key(&self) -> Option<std::borrow::Cow<'_, str>> {
        Some(self.key.as_str().into())
    }
}

/// A broker, and names that nobody used before.
pub(super) struct Rig {
    pub(super) connection: Connection,
    pub(super) open: Open,
    name: String,
}

impl Rig {
    pub(super) fn new(connection: Connection, open: Open) -> Self {
        let name = format!("conformance.{}", connection.mint().id().simple());
        Self { connection, open, name }
    }

    pub(super) fn topic(&self) -> Address {
        Address::topic(&self.name)
    }

    pub(super) fn queue(&self) -> Address {
        Address::queue(format!("{}.work", self.name))
    }

    /// Numbers from `from` to below `to`, over `keys` keys in turn.
    pub(super) fn counted(&self, from: u32, to: u32, keys: u32) -> Vec<Envelope> {
        let message = |number: u32| Counted { key: format!("key-{}", number % keys), number };
        let made = (from..to).map(|number| Envelope::of(&message(number), self.connection.mint()));
        made.filter_map(Result::ok).collect()
    }

    /// Publishes numbers.
    pub(super) async fn publish(&self, to: &Address, from: u32, until: u32, keys: u32) -> Shown {
        Ok(self.connection.send(to, self.counted(from, until, keys)).await?)
    }

    /// A consumer of the group "readers".
    pub(super) async fn consumer(&self, source: &Address) -> Shown<Feed> {
        self.member(source, "readers", 256).await
    }

    pub(super) async fn member(&self, source: &Address, group: &str, max: u32) -> Shown<Feed> {
        let subscription = Subscription::new(source, group).max_in_flight(max);
        Ok(self.connection.subscribe(subscription).await?)
    }
}

/// The next delivery; revocations are let go.
pub(super) async fn next(feed: &mut Feed) -> Shown<Delivery> {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            match feed.next().await {
                Some(Ok(Incoming::Delivery(delivery))) => return Ok(delivery),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Broken(error.to_string())),
                None => return Err(Broken("the feed ended".to_owned())),
            }
        }
    });
    waited.await.map_err(|_| Broken(format!("nothing was delivered within {PATIENCE:?}")))?
}

/// Whether nothing is delivered for a while.
pub(super) async fn quiet(feed: &mut Feed, span: Duration) -> Shown {
    match tokio::time::timeout(span, next(feed)).await {
        Err(_) => Ok(()),
        Ok(Ok(delivery)) => Err(Broken(format!("unexpected: {:?}", delivery.envelope))),
        Ok(Err(broken)) => Err(broken),
    }
}

pub(super) fn number(delivery: &Delivery) -> Shown<u32> {
    Ok(delivery.envelope.decode::<Counted>()?.number)
}

/// Takes and acknowledges `count` messages; their numbers.
pub(super) async fn drain(feed: &mut Feed, count: usize) -> Shown<Vec<u32>> {
    let mut numbers = Vec::with_capacity(count);
    while numbers.len() < count {
        let delivery = next(feed).await?;
        numbers.push(number(&delivery)?);
        delivery.ack();
    }
    Ok(numbers)
}

/// Says what is wrong unless it holds.
pub(super) fn hold(holds: bool, otherwise: impl Display) -> Shown {
    if holds { Ok(()) } else { Err(Broken(otherwise.to_string())) }
}

/// As long as a delivery may take: a consumer group of a busy Kafka needs seconds to form.
const PATIENCE: Duration = Duration::from_secs(30);
/// As long as a case may take.
pub(super) const CASE_MAX: Duration = Duration::from_secs(90);
