//! The queues of a run.

use ottla_amqp_proto::methods::{QueueDeclare, QueueDelete};
use ottla_amqp_proto::{ShortStr, Table, Value};

use super::args::{Kind, Load};
use super::wire::Wire;
use crate::Failure;

/// Makes the queues of a run, empty.
pub(super) fn prepare(load: &Load) -> Result<(), Failure> {
    let mut wire = Wire::open(&load.broker)?;
    for index in 0..load.queues {
        let queue = ShortStr::try_from(load.queue_name(index))?;
        wire.call(QueueDelete { queue, ..Default::default() }, "queue.delete-ok")?;
        wire.call(declare(load, index)?, "queue.declare-ok")?;
    }
    wire.close()
}

/// Deletes them.
pub(super) fn clean(load: &Load) -> Result<(), Failure> {
    let mut wire = Wire::open(&load.broker)?;
    for index in 0..load.queues {
        let queue = ShortStr::try_from(load.queue_name(index))?;
        wire.call(QueueDelete { queue, ..Default::default() }, "queue.delete-ok")?;
    }
    wire.close()
}

pub(super) fn declare(load: &Load, index: u32) -> Result<QueueDeclare, Failure> {
    let kind: &[u8] = match load.queue_type {
        Kind::Classic => b"classic",
        Kind::Quorum => b"quorum",
    };
    let arguments = Table::new().with("x-queue-type", Value::Str(kind.into())).encode()?;
    let queue = ShortStr::try_from(load.queue_name(index))?;
    Ok(QueueDeclare { queue, durable: true, arguments, ..Default::default() })
}

/// The queues of one consumer: every `consumers`th, or one if there are fewer queues.
pub(super) fn share(load: &Load, consumer: u32) -> impl Iterator<Item = u32> {
    let (queues, consumers) = (load.queues.max(1), load.consumers.max(1));
    let of_consumer = move |queue: &u32| match queues < consumers {
        true => *queue == consumer % queues,
        false => queue % consumers == consumer,
    };
    (0..queues).filter(of_consumer)
}
