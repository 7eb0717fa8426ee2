//! A frame: facts that become durable together, or not at all.

use bytes::Bytes;

use crate::batch::PreparedBatch;
use crate::{Lsn, Offset, StreamId};

/// What a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Record batches with dense offsets, kept until trimmed.
    Partition,
    /// Messages, each kept until settled.
    Queue,
}

/// One fact. Everything but `State` is understood by the store itself.
#[derive(Clone, Debug)]
pub enum Item {
    /// The stream exists from here on.
    Create {
        /// From [`Store::new_stream_id`](crate::Store::new_stream_id).
        stream: StreamId,
        /// What it will hold.
        kind: StreamKind,
    },
    /// The stream and everything in it is gone.
    Delete {
        /// The stream.
        stream: StreamId,
    },
    /// Records below `start` are gone (DeleteRecords, retention).
    Trim {
        /// A partition.
        stream: StreamId,
        /// The new log start offset; never moves back.
        start: Offset,
    },
    /// One record batch of a partition; the store assigns its base offset.
    Batch {
        /// A partition.
        stream: StreamId,
        /// Checked and ready to be stamped.
        batch: PreparedBatch,
    },
    /// One message, stored once however many queues hold it. Its sequence number in each of them is
    /// its item's [`Lsn`].
    Message {
        /// The queues it was routed to; not empty.
        queues: Vec<StreamId>,
        /// Opaque to the store.
        body: Bytes,
    },
    /// Messages of one queue are consumed, moved or dropped.
    Settle {
        /// A queue.
        queue: StreamId,
        /// Their sequence numbers, ascending.
        messages: Vec<Lsn>,
    },
    /// A fact of the engine: catalogue, groups, transactions, counts. Opaque to the store.
    State {
        /// Opaque to the store.
        payload: Bytes,
    },
}

/// Facts that become durable together. A dead letter is `Settle` + `Message`; the end of a
/// transaction is a marker `Batch` for each partition + `State`; a topic is `Create`s + `State`.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    pub(crate) items: Vec<Item>,
    pub(crate) is_patient: bool,
}

/// Where a frame and its items stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The frame. A reply that reveals it waits until [`Store::durable`](crate::Store::durable) has passed this.
    pub lsn: Lsn,
    /// For each item in order: its own place.
    pub items: Vec<Lsn>,
    /// For each `Batch` item in order: the base offset it was given.
    pub offsets: Vec<Offset>,
}

impl Frame {
    /// An empty frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A frame with one fact.
    #[must_use]
    pub fn of(item: Item) -> Self {
        Self { items: vec![item], is_patient: false }
    }

    /// The same frame, for which nobody waits: the log role is not woken for it, it is written with the
    /// next frame that somebody waits for, and after some milliseconds at the latest.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { is_patient: true, ..self }
    }

    /// Adds a fact.
    pub fn push(&mut self, item: Item) {
        self.items.push(item);
    }

    /// Whether it holds no fact; such a frame must not be appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
