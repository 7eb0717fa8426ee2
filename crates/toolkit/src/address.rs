//! Where messages go: topics, which every group reads in full, and queues, whose messages go to one
//! consumer each.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A place to publish to and to subscribe to.
///
/// ```
/// use ottla::Address;
///
/// assert_eq!(Address::from("orders"), Address::topic("orders"));
/// assert_eq!(Address::from("queue:mail"), Address::queue("mail"));
/// ```
///
/// | | topic | queue |
/// |---|---|---|
/// | who gets a message | one consumer of *each* group | one consumer |
/// | embedded Ottla, `memory:` | a topic with partitions | a queue |
/// | Apache Kafka | a topic, consumer groups | a topic, one consumer group of the queue's name |
/// | RabbitMQ | a fanout exchange, one quorum queue for each group | a quorum queue |
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// Events: each group sees all of them, in order per key.
    Topic(String),
    /// Work: each message for one consumer.
    Queue(String),
}

impl Address {
    /// A topic.
    pub fn topic(name: impl Into<String>) -> Self {
        Self::Topic(name.into())
    }

    /// A queue.
    pub fn queue(name: impl Into<String>) -> Self {
        Self::Queue(name.into())
    }

    /// Its name, without what kind it is.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Topic(name) | Self::Queue(name) => name,
        }
    }

    /// Whether its messages go to one consumer each.
    #[must_use]
    pub const fn is_queue(&self) -> bool {
        matches!(self, Self::Queue(_))
    }

    /// Refuses names that not every broker takes: letters, digits, `.`, `_` and `-`, at most 200.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let name = self.name();
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(known);
        if fits && name != "." && name != ".." {
            return Ok(());
        }
        Err(Error::address(
            &self.to_string(),
            format!("a name has 1 to {NAME_MAX} of the characters a-z A-Z 0-9 . _ -"),
        ))
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        match text.split_once(':') {
            Some(("queue", name)) => Self::queue(name),
            Some(("topic", name)) => Self::topic(name),
            _ => Self::topic(text),
        }
    }
}

impl From<String> for Address {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&String> for Address {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&Self> for Address {
    fn from(address: &Self) -> Self {
        address.clone()
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let address = Self::from(text);
        address.check()?;
        Ok(address)
    }
}

/// As it can be read back: a topic is its name, a queue is `queue:NAME`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(name) => f.write_str(name),
            Self::Queue(name) => write!(f, "queue:{name}"),
        }
    }
}

/// Kafka's 249, less what retries and dead letters append.
const NAME_MAX: usize = 200;
