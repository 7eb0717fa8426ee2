//! What the store asks of the engine, and what it tells it at a start.

use crate::batch::BatchHeader;
use crate::frame::StreamKind;
use crate::{Lsn, Offset, StreamId};

/// The engine's own state, for snapshots and for the decision what is still alive.
///
/// Both methods must see whatever an `append` that returned has changed: whoever appends holds the
/// object's lock from before the append until the object has taken the change.
pub trait State {
    /// Hands every object of the engine to `sink`, each under its own lock: key, place of its newest
    /// fact (`applied`), bytes.
    #[expect(clippy::type_complexity, reason = "three arguments, told above")]
    fn snapshot(&self, sink: &mut dyn FnMut(&[u8], Lsn, &[u8]));
    /// Whether `queue` still holds the message at `message`.
    fn holds(&self, queue: StreamId, message: Lsn) -> bool;
    /// Bytes after which a segment of `partition` is closed; `None` is the store's own
    /// [`segment_bytes`](crate::Options::segment_bytes).
    fn segment_bytes(&self, _partition: StreamId) -> Option<u64> {
        None
    }
    /// Milliseconds between the timestamps of a segment's first batch and of its last; a batch that is
    /// later begins the next segment of `partition`. `None` is any time.
    fn segment_ms(&self, _partition: StreamId) -> Option<i64> {
        None
    }
}

/// Receives what recovery finds: first every object of the snapshot, then every frame above it.
pub trait Replay {
    /// An object of the snapshot. An error refuses the start.
    fn object(&mut self, key: &[u8], applied: Lsn, bytes: &[u8]) -> Result<(), String>;
    /// A frame, in order. The receiver applies it to each object it touches whose `applied` is below
    /// `lsn`. Facts of streams that no longer exist at the end of the log are left out.
    fn frame(&mut self, lsn: Lsn, items: &[ReplayItem<'_>]) -> Result<(), String>;
}

/// One fact of a recovered frame.
#[derive(Clone, Debug)]
pub struct ReplayItem<'a> {
    /// Its place.
    pub lsn: Lsn,
    /// What it says.
    pub fact: ReplayFact<'a>,
}

/// What a recovered item says.
#[derive(Clone, Debug)]
pub enum ReplayFact<'a> {
    /// See [`Item::Create`](crate::frame::Item::Create).
    Create(StreamId, StreamKind),
    /// See [`Item::Delete`](crate::frame::Item::Delete).
    Delete(StreamId),
    /// See [`Item::Trim`](crate::frame::Item::Trim).
    Trim(StreamId, Offset),
    /// See [`Item::Batch`](crate::frame::Item::Batch): the header, stamped, and the length of the whole.
    Batch(StreamId, BatchHeader),
    /// See [`Item::Message`](crate::frame::Item::Message). Queues that no longer exist are left out.
    Message(Vec<StreamId>, &'a [u8]),
    /// See [`Item::Settle`](crate::frame::Item::Settle).
    Settle(StreamId, Vec<Lsn>),
    /// See [`Item::State`](crate::frame::Item::State).
    State(&'a [u8]),
}

/// Told by the log role after each sync, outside all locks. Must not block: whoever waits for the
/// disk waits behind it.
pub trait DurableObserver: Send + Sync {
    /// Everything below `upto` is durable; `partitions` (ascending) got new durable batches.
    fn durable(&self, upto: Lsn, partitions: &[StreamId]);
}

/// Something a start or a later read found damaged. The stream is quarantined; others go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The stream.
    pub stream: StreamId,
    /// Where in the log, if it was in the log.
    pub lsn: Lsn,
    /// What was found.
    pub what: String,
}

/// What a write is for, which decides whether a full disk refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Adds data.
    Grow,
    /// Frees or settles: acks, offset commits, deletes. Taken from the reserve when the disk is full.
    Shrink,
}
