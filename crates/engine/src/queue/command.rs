//! What can happen to a queue, and what follows from it.

use std::sync::Arc;

use ottla_store::Lsn;

use super::{Entry, Settings};

/// A consumer, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(pub u64);

/// A channel of a connection, unique in the process: who holds unacknowledged messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelKey(pub u64);

/// One thing that happens to a queue.
#[derive(Clone, Debug)]
pub enum Command<'a> {
    /// Published messages became durable and visible, or were recovered.
    Visible {
        /// In any order; most often ascending.
        entries: &'a [Entry],
    },
    /// `basic.consume`
    Consume(Consume),
    /// `basic.cancel`; what the consumer holds stays with its channel.
    Cancel {
        /// An unknown one is ignored.
        consumer: ConsumerId,
    },
    /// The consumer's mailbox has room for more deliveries.
    Credit {
        /// An unknown one is ignored.
        consumer: ConsumerId,
        /// Added to what is left.
        credit: u32,
    },
    /// `basic.qos` with `global`: one limit for all consumers of a channel.
    ChannelPrefetch {
        /// The channel.
        channel: ChannelKey,
        /// Most unacknowledged messages; 0 for no limit.
        limit: u32,
        /// How many of them other queues have delivered.
        elsewhere: u32,
    },
    /// `basic.get`
    Get {
        /// Who will hold the message.
        channel: ChannelKey,
        /// Settled by being delivered.
        no_ack: bool,
    },
    /// `basic.ack`, `basic.nack`, `basic.reject`
    Settle {
        /// Who holds the messages; others' are not touched.
        channel: ChannelKey,
        /// What it does not hold (any more) is ignored.
        messages: &'a [Lsn],
        /// What becomes of them.
        outcome: Outcome,
    },
    /// `basic.recover`: everything the channel holds is returned; not a failure.
    Recover {
        /// The channel.
        channel: ChannelKey,
    },
    /// The channel is gone with its consumers; what it held is returned, and counts as failed.
    Release {
        /// The channel.
        channel: ChannelKey,
    },
    /// `queue.purge`: removes what is ready.
    Purge,
    /// The queue was declared again: it is in use.
    Touch,
    /// Time has passed; see [`Machine::deadline`](super::Machine::deadline).
    Tick,
    /// Arguments or policies changed.
    Configure(Arc<Settings>),
    /// `queue.delete`
    Delete {
        /// Refuse while it has consumers.
        if_unused: bool,
        /// Refuse while it has ready messages.
        if_empty: bool,
    },
}

/// A consumer that wants messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consume {
    /// New.
    pub consumer: ConsumerId,
    /// Who will hold its messages.
    pub channel: ChannelKey,
    /// Most unacknowledged messages; 0 for no limit but the queue's own.
    pub prefetch: u32,
    /// Deliveries its mailbox has room for; `u32::MAX` for no limit.
    pub credit: u32,
    /// `x-priority`: higher is served first.
    pub priority: i32,
    /// Refuse while there are others, and refuse others.
    pub exclusive: bool,
    /// Settled by being delivered.
    pub no_ack: bool,
    /// `x-consumer-timeout` in ms; stands before the queue's.
    pub timeout: Option<u64>,
}

/// How a channel settles a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Ack,
    /// `basic.nack` with requeue: comes again.
    Nack,
    /// `basic.reject` with requeue: comes again, and counts as failed.
    Reject,
    /// Without requeue: dead.
    Dead,
}

/// What must be done for a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The consumer is accepted: answer before its first delivery.
    Consuming {
        /// It.
        consumer: ConsumerId,
    },
    /// Put this into the consumer's mailbox.
    Deliver {
        /// To whom.
        consumer: ConsumerId,
        /// What; `redelivered` and the counts are those to show.
        entry: Entry,
    },
    /// `basic.get-ok`
    Got {
        /// The message.
        entry: Entry,
        /// Messages still ready.
        ready: u64,
    },
    /// `basic.get-empty`
    GotNothing,
    /// Consumed: to be logged, and nobody waits for it.
    Settled {
        /// The message.
        seq: Lsn,
    },
    /// Dead: move it to the dead-letter exchange, in one frame with its removal here.
    DeadLetter {
        /// The message.
        entry: Entry,
        /// Why.
        reason: Death,
    },
    /// Dead, and there is no dead-letter exchange: to be logged like `Settled`.
    Drop {
        /// The message.
        entry: Entry,
        /// Why.
        reason: Death,
    },
    /// The message was returned: to be logged without waiting (store.md rule 9).
    CountDelivery {
        /// The message.
        seq: Lsn,
        /// As in [`Entry::delivery_count`].
        delivery_count: u32,
        /// As in [`Entry::acquired_count`].
        acquired_count: u32,
    },
    /// The channel held the message for too long and holds it no more.
    TimedOut {
        /// Who held it.
        channel: ChannelKey,
        /// The message.
        seq: Lsn,
    },
    /// The consumer is gone: tell it (`basic.cancel` from the server).
    CancelConsumer {
        /// It.
        consumer: ConsumerId,
        /// Why.
        reason: CancelReason,
    },
    /// All that was ready is gone: to be logged.
    Purged {
        /// In no order.
        messages: Vec<Lsn>,
    },
    /// The queue is gone with everything in it; nothing dies of it.
    Deleted {
        /// Why.
        reason: DeleteReason,
        /// Messages that were ready.
        ready: u64,
    },
    /// The command had no effect.
    Refused(Refusal),
}

/// Why a message is dead: the `reason` of `x-death` (research 1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Death {
    /// `rejected`
    Rejected,
    /// `expired`
    Expired,
    /// `maxlen`
    MaxLength,
    /// `delivery_limit`
    DeliveryLimit,
}

/// Why the queue ended a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// The queue is gone.
    Deleted,
    /// It held a message for too long.
    Timeout,
}

/// Why a queue is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteReason {
    /// A client asked for it.
    Asked,
    /// Auto-delete: its last consumer left.
    Unused,
    /// `x-expires` went by.
    Expired,
}

/// Why a command had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 403 `queue '…' in vhost '…' in exclusive use`
    ExclusiveUse,
    /// 405: `basic.get` from a queue with a single active consumer.
    SingleActive,
    /// The queue has as many consumers as it may.
    TooManyConsumers,
    /// 406 `queue '…' in vhost '…' in use`
    InUse,
    /// 406 `queue '…' in vhost '…' not empty`
    NotEmpty,
    /// The queue is gone.
    Gone,
}

impl Death {
    /// The word in `x-death`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}
