//! Commands as the workload thinks of them, and the frames they become.

use bytes::{BufMut, Bytes, BytesMut};
use ottla_store::batch::PreparedBatch;
use ottla_store::frame::{Frame, Item, StreamKind};
use ottla_store::{Lsn, Offset, StreamId};

/// One fact, as [`Item`] has it, but with what the model needs to know about it.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A stream exists from here on.
    Create(StreamId, StreamKind),
    /// A stream is gone.
    Delete(StreamId),
    /// Records below are gone.
    Trim(StreamId, Offset),
    /// A batch of a partition.
    Batch(StreamId, PreparedBatch),
    /// A message for these queues.
    Message(Vec<StreamId>, Bytes),
    /// Messages of a queue are consumed.
    Settle(StreamId, Vec<Lsn>),
    /// The engine's register of this number has this value.
    Register(u8, Bytes),
}

/// Facts that a client was promised together: all of them or none are there after any crash.
pub type Command = Vec<Fact>;

impl Fact {
    /// As the store takes it.
    #[must_use]
    pub fn to_item(&self) -> Item {
        match self {
            Self::Create(stream, kind) => Item::Create { stream: *stream, kind: *kind },
            Self::Delete(stream) => Item::Delete { stream: *stream },
            Self::Trim(stream, start) => Item::Trim { stream: *stream, start: *start },
            Self::Batch(stream, batch) => Item::Batch { stream: *stream, batch: batch.clone() },
            Self::Message(queues, body) => {
                Item::Message { queues: queues.clone(), body: body.clone() }
            }
            Self::Settle(queue, messages) => {
                Item::Settle { queue: *queue, messages: messages.clone() }
            }
            Self::Register(number, value) => {
                Item::State { payload: register_payload(*number, value) }
            }
        }
    }

    /// Bytes to reserve for it.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Create(..) | Self::Delete(_) | Self::Trim(..) => 0,
            Self::Batch(_, batch) => batch.bytes_len(),
            Self::Message(queues, body) => body.len() + 8 * queues.len(),
            Self::Settle(_, messages) => 8 * messages.len(),
            Self::Register(_, value) => 1 + value.len(),
        }
    }

    /// Whether it frees space, so that a full disk still takes it.
    #[must_use]
    pub const fn shrinks(&self) -> bool {
        matches!(self, Self::Delete(_) | Self::Trim(..) | Self::Settle(..))
    }
}

/// The frame of a command.
#[must_use]
pub fn frame_of(facts: &[Fact]) -> Frame {
    let mut frame = Frame::new();
    for fact in facts {
        frame.push(fact.to_item());
    }
    frame
}

fn register_payload(number: u8, value: &Bytes) -> Bytes {
    let mut payload = BytesMut::with_capacity(1 + value.len());
    payload.put_u8(number);
    payload.put_slice(value);
    payload.freeze()
}
