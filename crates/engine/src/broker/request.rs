//! What a session asks for and what it gets back.

use std::sync::Arc;

use bytes::Bytes;
use ottla_store::{Lsn, StreamId};

use crate::queue::{Outcome, QueueType};
use crate::topic::TopicId;
use crate::value::Arguments;

/// A queue, unique for as long as the process runs; a durable one for ever.
pub type QueueId = StreamId;

/// The number of a message in its queue: ascending in the order of arrival, meaningless after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// A message that a channel holds: what a delivery tag stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Held {
    /// Its queue.
    pub queue: QueueId,
    /// Its number there.
    pub seq: Seq,
}

/// `exchange.declare` (AMQP 0-9-1 §1.6.2.1)
#[derive(Clone, Debug)]
pub struct ExchangeDeclare<'a> {
    /// At most 255 bytes; line ends are removed.
    pub name: &'a str,
    /// The type's name on the wire.
    pub kind: &'a str,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last binding as a source.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// As they came.
    pub arguments: Arguments,
}

/// `queue.declare` (AMQP 0-9-1 §1.7.2.1)
#[derive(Clone, Debug)]
pub struct QueueDeclare<'a> {
    /// At most 255 bytes; empty for a name the broker makes up.
    pub name: &'a str,
    /// Survives a restart.
    pub durable: bool,
    /// For this connection only, and gone with it.
    pub exclusive: bool,
    /// Gone with its last consumer.
    pub auto_delete: bool,
    /// As they came.
    pub arguments: Arguments,
}

/// `queue.declare-ok`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueDeclared {
    /// As it was made.
    pub name: Arc<str>,
    /// Ready messages.
    pub messages: u64,
    /// Consumers.
    pub consumers: u64,
    /// The reply waits for this place.
    pub lsn: Lsn,
}

/// `queue.purge-ok`, `queue.delete-ok`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Messages that were ready.
    pub messages: u64,
    /// The reply waits for this place.
    pub lsn: Lsn,
    /// A stream's own topic, which the caller deletes: see [`Engine::delete_queue`](crate::Engine::delete_queue).
    pub topic: Option<TopicId>,
}

/// `queue.bind`, `exchange.bind` and their opposites.
#[derive(Clone, Debug)]
pub struct Bind<'a> {
    /// A queue (empty: the last declared on the channel) or an exchange.
    pub destination: &'a str,
    /// An exchange.
    pub source: &'a str,
    /// At most 255 bytes.
    pub key: &'a str,
    /// As they came.
    pub arguments: Arguments,
}

/// `basic.publish` with its content. `mandatory` is the session's: it returns what was not routed.
#[derive(Clone, Debug)]
pub struct Publish<'a> {
    /// Empty for the default exchange.
    pub exchange: &'a str,
    /// At most 255 bytes.
    pub routing_key: &'a str,
    /// Property flags and fields as on the wire (AMQP 0-9-1 §4.2.6.1), which the codec has checked.
    pub properties: Bytes,
    /// The content.
    pub body: Bytes,
}

/// What became of a published message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// At least one queue was found; if not, a mandatory message is returned before it is confirmed.
    pub routed: bool,
    /// A queue refused it: the confirm is a `basic.nack`.
    pub rejected: bool,
    /// The confirm waits for this place; `None`: nothing was logged, it waits for nothing.
    pub lsn: Option<Lsn>,
}

/// What a transaction has gathered.
#[derive(Clone, Debug, Default)]
pub struct Transaction<'a> {
    /// In order.
    pub publishes: Vec<Publish<'a>>,
    /// In order.
    pub settlements: Vec<(Vec<Held>, Outcome)>,
}

/// What became of a transaction. `tx.commit-ok` waits for every place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// One for each publish.
    pub published: Vec<Published>,
    /// The place of the one frame; `None` if nothing was logged.
    pub lsn: Option<Lsn>,
}

/// `basic.consume` (AMQP 0-9-1 §1.8.3.3)
#[derive(Clone, Debug)]
pub struct ConsumeRequest<'a> {
    /// Empty: the last declared on the channel.
    pub queue: &'a str,
    /// Unique on the channel; empty for one that the broker makes up.
    pub tag: &'a str,
    /// Settled by being delivered.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// `x-priority`, `x-consumer-timeout`.
    pub arguments: &'a Arguments,
}

/// `basic.qos`: whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefetchScope {
    /// `global = false`: of each consumer that begins from now on.
    Consumer,
    /// `global = true`: of all consumers of the channel together.
    Channel,
}

/// A condition of `queue.delete`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeleteIf {
    /// Only while it has no consumers.
    pub unused: bool,
    /// Only while it has no ready messages.
    pub empty: bool,
}

/// A queue as an operator sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Survives a restart.
    pub durable: bool,
    /// For one connection only.
    pub exclusive: bool,
    /// Gone with its last consumer.
    pub auto_delete: bool,
    /// Classic or quorum.
    pub queue_type: QueueType,
    /// As declared.
    pub arguments: Arguments,
    /// Messages that are ready.
    pub ready: u64,
    /// Messages that channels hold.
    pub unacked: u64,
    /// Consumers.
    pub consumers: u64,
}
