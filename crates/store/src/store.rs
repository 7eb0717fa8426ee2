//! The store: its face to the engine.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::disk::Disk;
use crate::frame::{Appended, Frame};
use crate::{Fatal, Lsn, Offset, OpenError, ReadError, Refused, StreamId};

/// How a store behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether acknowledgement waits for the disk.
    pub durability: Durability,
    /// Bytes of a WAL segment; the first one is smaller.
    pub wal_segment_bytes: u64,
    /// Bytes the WAL may hold before the oldest stride is retired.
    pub wal_window_bytes: u64,
    /// Young batches and messages there may be before the oldest stride is retired.
    pub wal_window_entries: usize,
    /// Bytes of recent groups kept in memory for readers.
    pub cache_bytes: usize,
    /// Bytes that may be staged and not yet synced.
    pub unsynced_bytes_max: usize,
    /// Bytes of disk always left free for facts that free space.
    pub disk_reserve_bytes: u64,
    /// Seeds generations of WAL segments; differs at each start.
    pub seed: u64,
}

/// When a fact counts as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Once the WAL was synced past it.
    Sync,
    /// Once it was written: never synced. Survives the process, not the machine.
    Os,
}

/// What a write is for, which decides whether a full disk refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Adds data.
    Grow,
    /// Frees or settles: acks, offset commits, deletes. Taken from the reserve when the disk is full.
    Shrink,
}

/// Room for one frame, taken before any state changes.
#[derive(Debug)]
#[must_use]
pub struct Reservation {
    // private: bytes
}

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first offset that exists.
    pub start: Offset,
    /// The high watermark: after the last record that is durable.
    pub durable_end: Offset,
    /// After the last record that was appended, durable or not.
    pub end: Offset,
    /// The place of the newest fact about this partition.
    pub changed: Lsn,
}

/// How much a read may bring.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// Batches starting at or above this offset are left out (high watermark or last stable offset).
    pub end: Offset,
    /// Bytes to bring at most; the first batch comes whole even if it is larger (KIP-74).
    pub bytes_max: usize,
}

/// Batches as they were appended, stamped, in offset order, each whole.
#[derive(Clone, Debug, Default)]
pub struct Batches {
    /// One or more batches each; to be written one after the other.
    pub pieces: Vec<Bytes>,
    /// The sum of their lengths.
    pub bytes: usize,
}

/// The engine's own state, for snapshots and for the decision what is still alive.
pub trait State {
    /// Hands every object of the engine to `sink`, each under its own lock: key, place of its newest
    /// fact (`applied`), bytes.
    fn snapshot(&self, sink: &mut dyn FnMut(&[u8], Lsn, &[u8]));
    /// Whether `queue` still holds the message at `message`.
    fn holds(&self, queue: StreamId, message: Lsn) -> bool;
}

/// Receives what recovery finds: first every object of the snapshot, then every frame above it.
pub trait Replay {
    /// An object of the snapshot. An error refuses the start.
    fn object(&mut self, key: &[u8], applied: Lsn, bytes: &[u8]) -> Result<(), String>;
    /// A frame, in order. The receiver applies it to each object it touches whose `applied` is below `lsn`.
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
    Create(StreamId, crate::frame::StreamKind),
    /// See [`Item::Delete`](crate::frame::Item::Delete).
    Delete(StreamId),
    /// See [`Item::Trim`](crate::frame::Item::Trim).
    Trim(StreamId, Offset),
    /// See [`Item::Batch`](crate::frame::Item::Batch): the header, stamped, and the length of the whole.
    Batch(StreamId, crate::batch::BatchHeader),
    /// See [`Item::Message`](crate::frame::Item::Message).
    Message(Vec<StreamId>, &'a [u8]),
    /// See [`Item::Settle`](crate::frame::Item::Settle).
    Settle(StreamId, Vec<Lsn>),
    /// See [`Item::State`](crate::frame::Item::State).
    State(&'a [u8]),
}

/// A durable log. Cheap to share behind an [`Arc`]; every method takes `&self`.
#[derive(Debug)]
pub struct Store {}

impl Store {
    /// Recovers what the disk holds, or starts empty. The only way to start: there is no clean shutdown.
    pub fn open(disk: Arc<dyn Disk>, options: Options, replay: &mut dyn Replay) -> Result<Self, OpenError>;
    /// A stream id that was never used.
    pub fn new_stream_id(&self) -> StreamId;
    /// Takes room for a frame with `payload_bytes` of batches, bodies and state in `items` items.
    pub fn reserve(&self, purpose: Purpose, items: usize, payload_bytes: usize) -> Result<Reservation, Refused>;
    /// Appends a frame and returns its place. Never fails and never waits for the disk: after the
    /// reservation only a fatal error of the log can stop it, and then no reply is ever released.
    /// Callers that need several streams consistent hold their own locks around this call; offset
    /// order is LSN order in every stream.
    pub fn append(&self, reservation: Reservation, frame: Frame) -> Appended;
    /// Everything below this place is durable.
    pub fn durable(&self) -> Lsn;
    /// The place the next frame will have at the earliest: above every fact appended so far.
    pub fn end(&self) -> Lsn;
    /// What a partition holds; `None` if the stream does not exist.
    pub fn extent(&self, partition: StreamId) -> Option<Extent>;
    /// Reads batches from the one that contains `from` on. Durable batches only.
    pub fn read(&self, partition: StreamId, from: Offset, limit: ReadLimit) -> Result<Batches, ReadError>;
    /// As `read`, from memory alone: `None` when the disk would have to be read.
    pub fn read_cached(&self, partition: StreamId, from: Offset, limit: ReadLimit) -> Result<Option<Batches>, ReadError>;
    /// The first batch (whole) whose largest timestamp is at or above `timestamp_ms`.
    pub fn find_timestamp(&self, partition: StreamId, timestamp_ms: i64) -> Result<Option<Bytes>, ReadError>;
    /// The batch with the largest timestamp (ListOffsets -3).
    pub fn max_timestamp(&self, partition: StreamId) -> Result<Option<Bytes>, ReadError>;
    /// Bytes of a partition on disk and in the WAL.
    pub fn size(&self, partition: StreamId) -> u64;
    /// The body of a message.
    pub fn message(&self, message: Lsn) -> Result<Bytes, ReadError>;

    // Roles.
    /// Writes and syncs what is staged; `Ok(None)` if there was nothing. The log role calls it in a loop.
    pub fn commit(&self) -> Result<Option<Lsn>, Fatal>;
    /// Waits until something is staged, the WAL has been idle for `idle` with an unproven last group, or `stop` was called.
    pub fn park(&self, idle: Duration);
    /// One bounded piece of retiring, snapshotting, recycling, removing. `Ok(false)`: nothing to do.
    pub fn keep(&self, state: &dyn State) -> Result<bool, Fatal>;
}
