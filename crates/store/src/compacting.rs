//! Compaction of a running partition: which segments, where to, and the one fact that swaps them
//! (store.md rule 13).
//!
//! The inputs are closed, below the last stable offset, and in every snapshot that a start may begin
//! from: whichever it is, its log either has the fact and the inputs, or the snapshot the output. The
//! output is durable before the fact is written; the inputs are removed once no kept snapshot lists
//! them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::batch::BatchHeader;
use crate::compact::{CompactInput, CompactRules, Compacted, compact};
use crate::core::Core;
use crate::disk::is_full;
use crate::files::FileError;
use crate::segment::SegmentMeta;
use crate::state::Purpose;
use crate::streams::{Partition, partition_dir, segment_path};
use crate::wal::layout::{ITEM_HEADER_BYTES, Kind};
use crate::wal::prepare::staged;
use crate::wal::stage::StagedFrame;
use crate::{Offset, ReadError, StreamId};

/// What is to be compacted, and how.
#[derive(Clone, Copy)]
pub struct CompactTask<'a> {
    /// Records from here on are left alone: the last stable offset.
    pub below: Offset,
    /// Segments with a record at or above this time (ms since 1970) are left alone, and what follows
    /// them; `None` is none.
    pub older_than_ms: Option<i64>,
    /// The share of bytes never compacted, in percent, from which it is worth it.
    pub dirty_percent_min: u8,
    /// The wall clock, ms since 1970.
    pub now_ms: i64,
    /// How long tombstones and markers stay after they were first seen here.
    pub delete_retention_ms: i64,
    /// Whether the data batch with this header belongs to an aborted transaction.
    pub aborted: &'a dyn Fn(&BatchHeader) -> bool,
    /// Bytes the map of keys may take; more passes are made where it does not suffice.
    pub map_bytes_max: usize,
    /// Called after every mebibyte, holding no lock; `false` ends the compaction with nothing changed.
    pub between: &'a dyn Fn() -> bool,
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// Bytes of the segments that went.
    pub bytes_before: u64,
    /// Bytes of the one that came.
    pub bytes_after: u64,
    /// Records in the segments that went.
    pub records_before: u64,
    /// Records in the one that came.
    pub records_after: u64,
}

impl Core {
    pub(crate) fn compact(
        &self,
        id: StreamId,
        flushed: Offset,
        task: &CompactTask<'_>,
    ) -> Result<Option<Compaction>, ReadError> {
        let partition = self.streams.partition(id).ok_or(ReadError::UnknownStream(id))?;
        let chosen = choose(&partition, flushed, task);
        let bytes_before = chosen.iter().map(|segment| segment.bytes).sum();
        if chosen.is_empty() || self.admission.room() < bytes_before {
            return Ok(None);
        }
        let file = self.next_file.fetch_add(1, Ordering::Relaxed);
        let path = segment_path(id, file);
        let swapped = self
            .write_compacted(id, &chosen, file, task)
            .map(|output| (self.swap(id, &partition, &chosen, &output), output));
        match swapped {
            Ok((true, Compacted { meta, records_before, records_after, .. })) => {
                let bytes_after = meta.bytes;
                let done = Compaction { bytes_before, bytes_after, records_before, records_after };
                Ok(Some(done))
            }
            Ok((false, _)) => {
                drop(self.disk.remove(&path)); // nothing names it
                Ok(None)
            }
            Err(error) => {
                drop(self.disk.remove(&path));
                self.compaction_failed(id, &partition, &chosen, error)
            }
        }
    }

    fn write_compacted(
        &self,
        id: StreamId,
        chosen: &[SegmentMeta],
        file: u64,
        task: &CompactTask<'_>,
    ) -> Result<Compacted, FileError> {
        let input = |meta: &SegmentMeta| CompactInput {
            path: segment_path(id, meta.file),
            meta: meta.clone(),
        };
        let inputs: Vec<_> = chosen.iter().map(input).collect();
        let rules = CompactRules {
            now_ms: task.now_ms,
            delete_retention_ms: task.delete_retention_ms,
            aborted: task.aborted,
            // Sequences are remembered in snapshots, not by empty batches.
            last_of_producer: &|_| None,
            from_start: true,
            map_bytes_max: task.map_bytes_max,
            between: task.between,
        };
        let output = compact(&*self.disk, &inputs, &segment_path(id, file), file, &rules)?;
        let directory = partition_dir(id);
        self.disk
            .sync_dir(&directory)
            .map_err(|e| FileError::io("syncing directory", &directory, e))?;
        Ok(output)
    }

    /// Logs the swap and makes it; `false` if the inputs went meanwhile or the log takes nothing.
    fn swap(
        &self,
        id: StreamId,
        partition: &Arc<Partition>,
        chosen: &[SegmentMeta],
        output: &Compacted,
    ) -> bool {
        let old: Vec<u64> = chosen.iter().map(|segment| segment.file).collect();
        let payload = encode_replaced(&output.meta, &old);
        let room = payload.len() + 2 * ITEM_HEADER_BYTES;
        let Ok(reservation) = self.admission.take(Purpose::Shrink, room) else { return false };
        let mut state = partition.lock();
        // A stream leaves the table before its segments are listed as garbage, under this lock.
        if self.streams.partition(id).is_none() || !state.replace(&old, &output.meta) {
            return false;
        }
        let frame = StagedFrame::new(vec![staged(Kind::Replaced, id, 0, Vec::new(), payload)]);
        let bytes = frame.bytes;
        self.wal.staging.push(frame, true); // nobody asked for it
        self.garbage.add(old.iter().map(|file| segment_path(id, *file)));
        drop(state);
        reservation.staged(usize::try_from(bytes).unwrap_or(usize::MAX));
        true
    }

    fn compaction_failed(
        &self,
        id: StreamId,
        partition: &Partition,
        chosen: &[SegmentMeta],
        error: FileError,
    ) -> Result<Option<Compaction>, ReadError> {
        let state = partition.lock();
        let listed = |file: &SegmentMeta| state.segments.iter().any(|one| one.file == file.file);
        let is_stale = self.streams.partition(id).is_none() || !chosen.iter().all(listed);
        drop(state);
        match error {
            _ if is_stale => Ok(None), // trimmed or deleted meanwhile, and the files with it
            FileError::Io { source, .. }
                if is_full(&source) || source.kind() == io::ErrorKind::Interrupted =>
            {
                Ok(None)
            }
            error => Err(self.unreadable(id, error)),
        }
    }
}

/// The closed segments that may go, oldest first; none if it is not worth it.
fn choose(partition: &Partition, flushed: Offset, task: &CompactTask<'_>) -> Vec<SegmentMeta> {
    let state = partition.lock();
    if state.damaged.is_some() {
        return Vec::new();
    }
    let closed = state.segments.len().saturating_sub(1); // the last one still grows
    let below = flushed.min(task.below);
    let may_go = |segment: &&SegmentMeta| {
        segment.next <= below && task.older_than_ms.is_none_or(|time| segment.max_timestamp < time)
    };
    let chosen: Vec<_> = state.segments.iter().take(closed).take_while(may_go).cloned().collect();
    let bytes: u64 = chosen.iter().map(|segment| segment.bytes).sum();
    let is_dirty = |segment: &&SegmentMeta| segment.next > state.cleaned;
    let dirty: u64 = chosen.iter().filter(is_dirty).map(|segment| segment.bytes).sum();
    let is_worth_it = dirty > 0 && dirty * 100 >= bytes * u64::from(task.dirty_percent_min);
    if is_worth_it { chosen } else { Vec::new() }
}

/// The payload of a `Replaced` item: the new segment, then the numbers of the old ones.
fn encode_replaced(new: &SegmentMeta, old: &[u64]) -> Bytes {
    let fixed = [
        new.file,
        new.base.0.cast_unsigned(),
        new.next.0.cast_unsigned(),
        new.bytes,
        new.max_timestamp.cast_unsigned(),
    ];
    fixed.iter().chain(old).flat_map(|word| word.to_le_bytes()).collect()
}

/// The new segment and the numbers of the old ones; `None` if the payload is not of that form.
pub(crate) fn decode_replaced(payload: &[u8]) -> Option<(SegmentMeta, Vec<u64>)> {
    let (words, rest) = payload.as_chunks::<8>();
    let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
    let new = SegmentMeta {
        file: words.next()?,
        base: Offset(words.next()?.cast_signed()),
        next: Offset(words.next()?.cast_signed()),
        bytes: words.next()?,
        max_timestamp: words.next()?.cast_signed(),
    };
    let old: Vec<u64> = words.collect();
    (rest.is_empty() && !old.is_empty()).then_some((new, old))
}

impl std::fmt::Debug for CompactTask<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompactTask")
            .field("below", &self.below)
            .field("now_ms", &self.now_ms)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
