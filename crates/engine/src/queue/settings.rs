//! What a queue's arguments and policies amount to for the machine.

use super::entry::NEVER;
use crate::clock::Wall;

/// The rules of one queue; may change under it when a policy does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where returned messages go.
    pub order: Order,
    /// The highest priority lane; 0 for a queue without priorities.
    pub max_priority: u8,
    /// The lane of a message without priority.
    pub default_priority: u8,
    /// Most ready messages.
    pub max_length: Option<u64>,
    /// Most bytes of ready bodies.
    pub max_bytes: Option<u64>,
    /// What happens to the one too many.
    pub overflow: Overflow,
    /// Milliseconds a message lives in this queue.
    pub message_ttl: Option<u64>,
    /// Milliseconds this queue lives unused.
    pub expires: Option<u64>,
    /// Whether it has a dead-letter exchange; without, dead messages are dropped.
    pub dead_letters: bool,
    /// Failed deliveries a message may have; one more and it is dead.
    pub delivery_limit: Option<u32>,
    /// Whether `basic.nack` with requeue is a failed delivery (it is not since RabbitMQ 4.3).
    pub nack_counts: bool,
    /// Whether returned messages wait before they are ready again.
    pub retry: Option<Retry>,
    /// Milliseconds a consumer may hold a message.
    pub consumer_timeout: Option<u64>,
    /// One consumer gets everything until it leaves.
    pub single_active: bool,
    /// The queue goes with its last consumer.
    pub auto_delete: bool,
}

/// Where a returned message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// To its original position (classic queues).
    Position,
    /// Before all others, in the order of the returns (quorum queues).
    ReturnedFirst,
}

/// What happens when a queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The next message to be delivered is dropped, or dead-lettered.
    DropHead,
    /// The new message is refused.
    RejectPublish,
    /// The new message is refused and dead-lettered.
    RejectPublishDeadLetter,
}

/// Returned messages wait `min × delivery count`, at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Which returns wait.
    pub on: RetryOn,
    /// Milliseconds for each delivery.
    pub min: u64,
    /// Milliseconds at most.
    pub max: u64,
}

/// Which returns are delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOn {
    /// All.
    All,
    /// Those that count as failed deliveries.
    Failed,
    /// Those that do not.
    Returned,
}

/// Whether a queue takes one more message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// Yes.
    Accept,
    /// No: negative confirm.
    Reject,
    /// No: negative confirm, and it is dead-lettered with reason `maxlen`.
    RejectAndDeadLetter,
}

impl Settings {
    /// A classic queue without arguments.
    #[must_use]
    pub const fn classic() -> Self {
        Self {
            order: Order::Position,
            max_priority: 0,
            default_priority: 0,
            max_length: None,
            max_bytes: None,
            overflow: Overflow::DropHead,
            message_ttl: None,
            expires: None,
            dead_letters: false,
            delivery_limit: None,
            nack_counts: false,
            retry: None,
            consumer_timeout: None,
            single_active: false,
            auto_delete: false,
        }
    }

    /// A quorum queue without arguments: priorities 0 to 31, 20 failed deliveries.
    #[must_use]
    pub const fn quorum() -> Self {
        Self {
            order: Order::ReturnedFirst,
            max_priority: QUORUM_PRIORITY_MAX,
            default_priority: QUORUM_PRIORITY_DEFAULT,
            delivery_limit: Some(QUORUM_DELIVERY_LIMIT),
            ..Self::classic()
        }
    }

    /// The lane of a message with this priority property: clamped, and the default if it has none.
    #[must_use]
    pub fn lane(&self, priority: Option<u8>) -> u8 {
        priority.unwrap_or(self.default_priority).min(self.max_priority)
    }

    /// When a message that arrives now expires, and whether it must be delivered at once (TTL 0).
    /// `expiration` is the message's own time to live in ms; the shorter one counts.
    #[must_use]
    pub fn expiry(&self, arrived: Wall, expiration: Option<u64>) -> (Wall, bool) {
        let ttl = match (self.message_ttl, expiration) {
            (Some(a), Some(b)) => a.min(b),
            (Some(ttl), None) | (None, Some(ttl)) => ttl,
            (None, None) => return (NEVER, false),
        };
        (arrived.after(ttl), ttl == 0)
    }
}

/// Priorities of a quorum queue (RabbitMQ 4.3).
pub(super) const QUORUM_PRIORITY_MAX: u8 = 31;
const QUORUM_PRIORITY_DEFAULT: u8 = 4;
/// Failed deliveries of a quorum queue (RabbitMQ 4.0).
const QUORUM_DELIVERY_LIMIT: u32 = 20;
