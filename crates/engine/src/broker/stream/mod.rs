//! Stream queues: a queue that is a view of one partition of a topic (docs/bridge.md). AMQP clients
//! append to the log that Kafka clients read, and the other way round.
//!
//! A stream queue has the identity of its partition: nothing of it is stored but its declaration.

mod append;
mod declare;
mod mapping;
mod offset;
mod reader;

use std::sync::Arc;

pub(super) use self::append::{Additions, additions};
pub(super) use self::declare::{SERVER_NAMED, TOPIC, bounds};
pub(super) use self::reader::{Readers, cancel_all};
use crate::topic::{Partition, Topic};

/// What a stream queue is a view of.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) topic: Arc<Topic>,
    pub(super) partition: Arc<Partition>,
}
