//! The store: its face to the engine.

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::admission::{DiskRoom, Reservation};
use crate::compacting::{CompactTask, Compaction};
use crate::core::Core;
use crate::disk::Disk;
use crate::frame::{Appended, Frame, StreamKind};
use crate::keeper::Keeper;
use crate::limits::{FRAME_BYTES_MAX, FRAME_ITEMS_MAX};
use crate::options::Options;
use crate::reading::{Batches, Depth, ReadLimit};
use crate::recovery;
use crate::segment::SegmentMeta;
use crate::state::{Damage, DurableObserver, Purpose, Replay, State};
use crate::streams::{Retain, Stream};
use crate::wal::layout::ITEM_HEADER_BYTES;
use crate::{Fatal, Lsn, Offset, OpenError, ReadError, Refused, StreamId};

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

/// A durable log. Cheap to share behind an [`Arc`]; every method takes `&self`.
///
/// Locks, outermost first: the caller's own; partitions by ascending id; the table of streams; the
/// garbage list; the staging lock. Every other lock is a leaf. None is held across a copy, a CRC or
/// a system call, except those of a role against itself.
pub struct Store {
    core: Core,
    keeper: Keeper,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("durable", &self.durable())
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Recovers what the disk holds, or starts empty. The only way to start: there is no clean shutdown.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        replay: &mut dyn Replay,
    ) -> Result<Self, OpenError> {
        let (core, keeper) = recovery::open(disk, options, replay)?;
        Ok(Self { core, keeper })
    }

    /// A stream id that was never used.
    pub fn new_stream_id(&self) -> StreamId {
        self.core.streams.new_id()
    }

    /// What kind of stream `stream` is; `None` if it does not exist.
    pub fn stream_kind(&self, stream: StreamId) -> Option<StreamKind> {
        match self.core.streams.get(stream)? {
            Stream::Partition(_) => Some(StreamKind::Partition),
            Stream::Queue => Some(StreamKind::Queue),
        }
    }

    /// Every stream that exists, by ascending id.
    pub fn streams(&self) -> Vec<(StreamId, StreamKind)> {
        let kind = |stream| match stream {
            Stream::Partition(_) => StreamKind::Partition,
            Stream::Queue => StreamKind::Queue,
        };
        self.core.streams.all().into_iter().map(|(id, stream)| (id, kind(stream))).collect()
    }

    /// Takes room for a frame with `payload_bytes` of batches, bodies and state in `items` items.
    /// Count 8 bytes for each further queue of a message and for each settled message.
    pub fn reserve(
        &self,
        purpose: Purpose,
        items: usize,
        payload_bytes: usize,
    ) -> Result<Reservation, Refused> {
        if self.core.wal.is_poisoned() {
            return Err(Refused::Poisoned);
        }
        if items > FRAME_ITEMS_MAX || payload_bytes > FRAME_BYTES_MAX {
            return Err(Refused::TooLarge);
        }
        self.core.admission.take(purpose, payload_bytes + items * ITEM_HEADER_BYTES)
    }

    /// Appends a frame and returns its place. Never fails and never waits for the disk: after the
    /// reservation only a fatal error of the log can stop it, and then no reply is ever released.
    /// Callers that need several streams consistent hold their own locks around this call; offset
    /// order is LSN order in every stream.
    ///
    /// # Panics
    /// If the frame is empty or far larger than was reserved.
    pub fn append(&self, reservation: Reservation, frame: Frame) -> Appended {
        self.core.append(reservation, &frame)
    }

    /// Everything below this place is durable.
    pub fn durable(&self) -> Lsn {
        self.core.durable()
    }

    /// The place the next frame will have at the earliest: above every fact appended so far.
    pub fn end(&self) -> Lsn {
        Lsn(self.core.wal.staging.end())
    }

    /// Below this everything is retired: out of the WAL, in segments, old logs and snapshots.
    pub fn floor(&self) -> Lsn {
        Lsn(self.core.floor.load(std::sync::atomic::Ordering::Acquire))
    }

    /// What a partition holds; `None` if the stream does not exist.
    pub fn extent(&self, partition: StreamId) -> Option<Extent> {
        let durable = self.core.durable();
        let partition = self.core.streams.partition(partition)?;
        let state = partition.lock();
        Some(Extent {
            start: state.start,
            durable_end: state.durable_end(durable),
            end: state.end,
            changed: state.changed,
        })
    }

    /// Reads batches from the one that contains `from` on. Durable batches only.
    pub fn read(
        &self,
        partition: StreamId,
        from: Offset,
        limit: ReadLimit,
    ) -> Result<Batches, ReadError> {
        let read = self.core.read_batches(partition, from, limit, Depth::Disk)?;
        Ok(read.unwrap_or_default())
    }

    /// As `read`, from memory alone: `None` when the disk would have to be read.
    pub fn read_cached(
        &self,
        partition: StreamId,
        from: Offset,
        limit: ReadLimit,
    ) -> Result<Option<Batches>, ReadError> {
        self.core.read_batches(partition, from, limit, Depth::Memory)
    }

    /// The first batch (whole) whose largest timestamp is at or above `timestamp_ms`.
    pub fn find_timestamp(
        &self,
        partition: StreamId,
        timestamp_ms: i64,
    ) -> Result<Option<Bytes>, ReadError> {
        self.core.find_timestamp(partition, timestamp_ms)
    }

    /// The batch with the largest timestamp (ListOffsets -3).
    pub fn max_timestamp(&self, partition: StreamId) -> Result<Option<Bytes>, ReadError> {
        self.core.max_timestamp(partition)
    }

    /// Bytes of a partition on disk and in the WAL; 0 if it does not exist.
    pub fn size(&self, partition: StreamId) -> u64 {
        self.core.streams.partition(partition).map_or(0, |partition| {
            let state = partition.lock();
            state.segments.iter().map(|segment| segment.bytes).sum::<u64>() + state.young.bytes()
        })
    }

    /// The partition's files below the WAL, oldest first: what retention decides by. To drop a
    /// segment and all before it, append a `Trim` to its `next`.
    pub fn segments(&self, partition: StreamId) -> Arc<Vec<SegmentMeta>> {
        let partition = self.core.streams.partition(partition);
        partition.map(|partition| Arc::clone(&partition.lock().segments)).unwrap_or_default()
    }

    /// Up to where records have to go for `retain` to hold: append a `Trim` to this offset. `None` if
    /// nothing has to. What is not durable is left alone.
    pub fn expired(&self, partition: StreamId, retain: &Retain) -> Option<Offset> {
        let durable = self.core.durable();
        let partition = self.core.streams.partition(partition)?;
        let state = partition.lock();
        state.expired(durable, retain)
    }

    /// The largest timestamp of the newest data of a partition, in ms; `None` if it has none.
    pub fn newest_timestamp(&self, partition: StreamId) -> Option<i64> {
        let partition = self.core.streams.partition(partition)?;
        let state = partition.lock();
        let young = state.young.last().map(|batch| batch.max_timestamp);
        young.or_else(|| state.segments.last().map(|file| file.max_timestamp)).filter(|ms| *ms >= 0)
    }

    /// Whether the log holds so much more than its window that the keeper role should not rest
    /// between its pieces.
    pub fn is_behind(&self) -> bool {
        let unretired = self.core.wal.staging.end().saturating_sub(self.floor().0);
        unretired > self.core.options.wal_window_bytes + self.core.options.wal_window_bytes / 4
    }

    /// The body of a message.
    pub fn message(&self, message: Lsn) -> Result<Bytes, ReadError> {
        self.core.message(message)
    }

    /// What was found damaged since the start, the start included.
    pub fn damage(&self) -> Vec<Damage> {
        self.core.damage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who is told after each sync; the first caller wins.
    pub fn observe(&self, observer: Box<dyn DurableObserver>) {
        drop(self.core.observer.set(observer));
    }

    /// Blocks until the fact at `lsn` is durable; `false` if the log failed or was stopped before.
    /// For embedded use and tests: servers use [`observe`](Self::observe).
    pub fn wait(&self, lsn: Lsn) -> bool {
        self.core.wal.wait(lsn.0 + 1)
    }

    /// What the disk has left; measured by every call of [`keep`](Self::keep).
    pub fn disk_room(&self) -> DiskRoom {
        self.core.admission.disk_room()
    }

    /// Bytes staged or reserved and not yet synced.
    pub fn unsynced_bytes(&self) -> usize {
        self.core.admission.unsynced()
    }

    /// Writes and syncs what is staged; `Ok(None)` if there was nothing, or no room for a segment: then
    /// it is tried again. The log role calls it in a loop, after [`park`](Self::park).
    pub fn commit(&self) -> Result<Option<Lsn>, Fatal> {
        let Some(committed) = self.core.wal.commit()? else { return Ok(None) };
        self.core.admission.synced(committed.staged_bytes, committed.written_bytes);
        let durable = Lsn(committed.durable);
        if let Some(observer) = self.core.observer.get() {
            observer.durable(durable, &committed.partitions);
        }
        Ok(Some(durable))
    }

    /// Waits until a staged frame is to be written (see [`Frame::patient`]), the WAL has been idle for
    /// `idle` with an unproven last group, or `stop` was called.
    pub fn park(&self, idle: Duration) {
        self.core.wal.staging.park(idle);
    }

    /// What `park` does when its time is up: the next `commit` writes an empty group if the last one
    /// holds frames and nothing is staged (store.md rule 1).
    pub fn prove(&self) {
        self.core.wal.staging.prove();
    }

    /// Wakes the parked log role and everyone in `wait`, for good.
    pub fn stop(&self) {
        self.core.wal.stop();
    }

    /// Whether `stop` was called. The log role ends once this holds and `commit` finds nothing.
    pub fn is_stopping(&self) -> bool {
        self.core.wal.staging.is_stopping()
    }

    /// Compacts a partition: of what is in closed segments, below `task.below` and known to every
    /// kept snapshot, only the last record of each key stays (research/kafka.md 2.8). `None` if that
    /// is not worth it now. Takes as long as it takes to read the segments twice, in pieces; not to
    /// be called for one partition twice at a time.
    pub fn compact(
        &self,
        partition: StreamId,
        task: &CompactTask<'_>,
    ) -> Result<Option<Compaction>, ReadError> {
        self.core.compact(partition, self.keeper.flushed(partition), task)
    }

    /// One bounded piece of retiring, snapshotting, recycling, removing. `Ok(false)`: nothing to do.
    pub fn keep(&self, state: &dyn State) -> Result<bool, Fatal> {
        let worked = self.keeper.step(&self.core, state)?;
        if !worked {
            self.core.buffers.rest();
        }
        Ok(worked)
    }
}
