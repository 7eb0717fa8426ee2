//! What exists: partitions and queues, and what the store knows of each.
//!
//! Lock order: one partition after another in ascending id; the table's lock and the staging lock
//! come after, never before. No lock here is held across a copy, a CRC or a system call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::segment::SegmentMeta;
use crate::young::Young;
use crate::{Lsn, Offset, StreamId};

/// What a partition holds. Everything below `retired_end` is in `segments`, the rest in the WAL.
///
/// Invariants: `start <= end`, `retired_end <= end`; segments ascend and do not overlap.
#[derive(Debug, Default)]
pub(crate) struct PartitionState {
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    /// The place of the newest fact.
    pub(crate) changed: Lsn,
    pub(crate) young: Young,
    pub(crate) retired_end: Offset,
    pub(crate) segments: Arc<Vec<SegmentMeta>>,
    /// Below this everything was compacted.
    pub(crate) cleaned: Offset,
    /// Why it is quarantined.
    pub(crate) damaged: Option<String>,
}

impl PartitionState {
    /// The high watermark, computed on read.
    pub(crate) fn durable_end(&self, durable: Lsn) -> Offset {
        self.young.durable_end(durable).unwrap_or(self.retired_end).max(self.start)
    }

    /// Drops what lies below `start`; returns the segments that are not needed any more.
    pub(crate) fn trim(&mut self, start: Offset, lsn: Lsn) -> Vec<SegmentMeta> {
        self.changed = self.changed.max(lsn);
        if start <= self.start {
            return Vec::new();
        }
        self.start = start;
        self.end = self.end.max(start);
        self.young.trim(start);
        let (dropped, kept): (Vec<_>, Vec<_>) =
            self.segments.iter().cloned().partition(|segment| segment.next <= start);
        if !dropped.is_empty() {
            self.segments = Arc::new(kept);
        }
        dropped
    }

    /// Puts `new` in the place of the segments numbered `old`; `false` if they are not all there.
    pub(crate) fn replace(&mut self, old: &[u64], new: &SegmentMeta) -> bool {
        let is_old = |segment: &&SegmentMeta| old.contains(&segment.file);
        let count = self.segments.iter().filter(is_old).count();
        if count == 0 || count != old.len() {
            return false;
        }
        let mut segments = Vec::with_capacity(self.segments.len() + 1 - count);
        for segment in self.segments.iter() {
            if Some(&segment.file) == old.first() {
                segments.push(new.clone());
            }
            if !old.contains(&segment.file) {
                segments.push(segment.clone());
            }
        }
        self.segments = Arc::new(segments);
        self.cleaned = self.cleaned.max(new.next);
        true
    }

    /// Where the partition has to be trimmed for `retain` to hold, durable data only: segments go
    /// whole, young data batch by batch.
    pub(crate) fn expired(&self, durable: Lsn, retain: &Retain) -> Option<Offset> {
        let old = self.segments.iter().map(|file| (file.next, file.bytes, file.max_timestamp));
        let young = self.young.below(durable);
        let young = young.map(|batch| (batch.next, u64::from(batch.bytes), batch.max_timestamp));
        let size = self.segments.iter().map(|file| file.bytes).sum::<u64>() + self.young.bytes();
        let mut excess = retain.bytes_max.map_or(0, |max| size.saturating_sub(max));
        let mut cut = None;
        for (next, bytes, max_timestamp) in old.chain(young) {
            if bytes == 0 {
                continue; // compaction left nothing in it
            }
            let is_old = max_timestamp >= 0
                && retain.newer_than_ms.is_some_and(|limit| max_timestamp < limit);
            if !is_old && excess < bytes {
                break;
            }
            excess = excess.saturating_sub(bytes);
            cut = Some(next);
        }
        cut.filter(|cut| *cut > self.start)
    }
}

/// What retention keeps of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retain {
    /// Data whose largest timestamp is below this (ms since 1970) goes; `None` is none by age. Data
    /// without a timestamp stays.
    pub newer_than_ms: Option<i64>,
    /// The oldest goes as long as this many bytes are left; `None` is none by size.
    pub bytes_max: Option<u64>,
}

/// A partition behind its lock.
#[derive(Debug)]
pub(crate) struct Partition {
    state: Mutex<PartitionState>,
}

impl Partition {
    pub(crate) fn new(state: PartitionState) -> Self {
        Self { state: Mutex::new(state) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, PartitionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that exists.
#[derive(Clone, Debug)]
pub(crate) enum Stream {
    Partition(Arc<Partition>),
    Queue,
}

/// The table of streams and the counter their ids come from.
#[derive(Debug)]
pub(crate) struct Streams {
    table: RwLock<HashMap<StreamId, Stream>>,
    next_id: AtomicU64,
}

impl Streams {
    pub(crate) fn new(next_id: u64, table: HashMap<StreamId, Stream>) -> Self {
        Self { table: RwLock::new(table), next_id: AtomicU64::new(next_id) }
    }

    pub(crate) fn new_id(&self) -> StreamId {
        StreamId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.load(Ordering::Relaxed)
    }

    pub(crate) fn get(&self, id: StreamId) -> Option<Stream> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn partition(&self, id: StreamId) -> Option<Arc<Partition>> {
        match self.get(id) {
            Some(Stream::Partition(partition)) => Some(partition),
            _ => None,
        }
    }

    pub(crate) fn insert(&self, id: StreamId, stream: Stream) {
        self.next_id.fetch_max(id.0 + 1, Ordering::Relaxed);
        self.table.write().unwrap_or_else(PoisonError::into_inner).insert(id, stream);
    }

    pub(crate) fn remove(&self, id: StreamId) -> Option<Stream> {
        self.table.write().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    /// Everything that exists now, by ascending id.
    pub(crate) fn all(&self) -> Vec<(StreamId, Stream)> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = table.iter().map(|(id, stream)| (*id, stream.clone())).collect();
        drop(table);
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }
}

/// The directory of a partition's segments.
pub(crate) fn partition_dir(partition: StreamId) -> String {
    format!("{PARTITIONS_DIR}/{:016x}", partition.0)
}

/// The path of a segment without its extension.
pub(crate) fn segment_path(partition: StreamId, file: u64) -> String {
    format!("{PARTITIONS_DIR}/{:016x}/{file:016x}.seg", partition.0)
}

pub(crate) const PARTITIONS_DIR: &str = "partitions";
