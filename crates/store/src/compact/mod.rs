//! Compaction: sealed segments become one that keeps the last record of each key (kafka.md 2.8).
//!
//! Offsets, producers and the bounds of batches stay; a batch that keeps all its records is copied
//! verbatim. The inputs are only read: the caller lists the output and drops the inputs in one frame
//! (rule 13), and must not hand in anything at or above the last stable offset.

mod survivors;

use std::collections::HashSet;

use crate::Offset;
use crate::batch::{BatchBuilder, BatchHeader, RecordDraft};
use crate::disk::Disk;
use crate::files::FileError;
use crate::index::SegmentIndex;
use crate::records::{Record, Records};
use crate::segment::{Scan, Scanned, SegmentMeta, SegmentWriter};

use survivors::Survivors;

/// A segment to be compacted.
#[derive(Clone, Debug)]
pub struct CompactInput {
    /// Its file.
    pub path: String,
    /// What it holds.
    pub meta: SegmentMeta,
}

/// What compaction needs to know from those who know it.
#[derive(Clone, Copy)]
pub struct CompactRules<'a> {
    /// The wall clock, ms since 1970.
    pub now_ms: i64,
    /// `delete.retention.ms`: how long tombstones and markers stay after they were first seen here.
    pub delete_retention_ms: i64,
    /// Whether the data batch with this header belongs to an aborted transaction.
    pub aborted: &'a dyn Fn(&BatchHeader) -> bool,
    /// The last offset of the newest batch of a producer whose state is still kept.
    pub last_of_producer: &'a dyn Fn(i64) -> Option<Offset>,
    /// Whether the first input is the first segment of the partition.
    pub from_start: bool,
    /// Bytes the map of keys may take; more passes are made where it does not suffice.
    pub map_bytes_max: usize,
    /// Called after every mebibyte; `false` ends the compaction with an error of kind `Interrupted`.
    pub between: &'a dyn Fn() -> bool,
}

/// Counts bytes up to the next call of [`CompactRules::between`].
#[derive(Debug, Default)]
struct Pace {
    bytes: usize,
}

impl Pace {
    /// Whether a piece is complete; then the caller has to [`rest`](Self::rest).
    fn is_due(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        let due = self.bytes >= PIECE_BYTES;
        if due {
            self.bytes = 0;
        }
        due
    }

    fn rest(rules: &CompactRules<'_>, path: &str) -> Result<(), FileError> {
        if (rules.between)() {
            return Ok(());
        }
        Err(FileError::io("compacting", path, std::io::ErrorKind::Interrupted.into()))
    }
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The new segment, synced and closed. Its directory is not synced yet. It reaches as far as the
    /// inputs did, and may be empty.
    pub meta: SegmentMeta,
    /// Its index.
    pub index: SegmentIndex,
    /// Records in the inputs.
    pub records_before: u64,
    /// Records in the output.
    pub records_after: u64,
}

/// Compacts `inputs`, ascending and without overlap, into the new file `path` numbered `file`.
///
/// # Panics
/// If there is no input.
pub fn compact(
    disk: &dyn Disk,
    inputs: &[CompactInput],
    path: &str,
    file: u64,
    rules: &CompactRules<'_>,
) -> Result<Compacted, FileError> {
    let (Some(first), Some(last)) = (inputs.first(), inputs.last()) else {
        panic!("nothing to compact");
    };
    let survivors = Survivors::find(disk, inputs, rules)?;
    let writer = SegmentWriter::create(disk, path, file, first.meta.base)?;
    let mut run = Run {
        rules,
        survivors,
        writer,
        index: SegmentIndex::default(),
        with_data: HashSet::new(),
        ordinal: 0,
        records_after: 0,
    };
    let mut pace = Pace::default();
    for input in inputs {
        let mut scan = Scan::open(disk, &input.path, &input.meta)?;
        while let Some(found) = scan.next_batch()? {
            run.batch(&found, &input.path)?;
            if pace.is_due(found.batch.len()) {
                run.writer.sync()?; // so that little is left for the last one
                Pace::rest(rules, path)?;
            }
        }
    }
    let mut meta = run.writer.finish()?;
    meta.next = last.meta.next;
    let (records_before, records_after) = (run.ordinal, run.records_after);
    Ok(Compacted { meta, index: run.index, records_before, records_after })
}

/// The second walk over the inputs, which writes.
struct Run<'a> {
    rules: &'a CompactRules<'a>,
    survivors: Survivors,
    writer: SegmentWriter,
    index: SegmentIndex,
    /// Producers with transactional data kept since their last marker.
    with_data: HashSet<i64>,
    ordinal: u64,
    records_after: u64,
}

impl Run<'_> {
    fn batch(&mut self, found: &Scanned, path: &str) -> Result<(), FileError> {
        let opened = open(found, path)?;
        let header = opened.header();
        let due = header.delete_horizon_ms().is_some_and(|horizon| horizon <= self.rules.now_ms);
        let mut kept = Vec::new();
        for record in &opened {
            let record = record.map_err(|error| damaged(found, path, &error))?;
            let survives = self.survivors.contains(self.ordinal);
            self.ordinal += 1;
            if header.is_control() || (survives && !(record.value.is_none() && due)) {
                kept.push(record);
            }
        }
        if header.is_control() {
            let had_data = self.with_data.remove(&header.producer_id);
            if due && !had_data && self.rules.from_start {
                kept.clear();
            }
        } else if header.is_transactional() && !kept.is_empty() {
            self.with_data.insert(header.producer_id);
        }
        self.write(found, header, &kept)
    }

    fn write(
        &mut self,
        found: &Scanned,
        header: &BatchHeader,
        kept: &[Record<'_>],
    ) -> Result<(), FileError> {
        let newest = header.has_producer()
            && (self.rules.last_of_producer)(header.producer_id) == Some(header.last_offset());
        if kept.is_empty() && !newest {
            return Ok(());
        }
        self.records_after += kept.len() as u64;
        let mortal = header.is_control() || kept.iter().any(|record| record.value.is_none());
        let horizon = (mortal && header.delete_horizon_ms().is_none())
            .then(|| self.rules.now_ms.saturating_add(self.rules.delete_retention_ms));
        if horizon.is_none() && i32::try_from(kept.len()) == Ok(header.count) {
            return self.writer.push(&found.batch, Some(&mut self.index));
        }
        let mut builder = BatchBuilder::in_place_of(header, horizon);
        for record in kept {
            let headers: Vec<_> = record.headers.collect();
            let delta = record.offset.0 - header.base_offset.0;
            builder.push_at(
                i32::try_from(delta).unwrap_or(header.last_offset_delta),
                &RecordDraft {
                    timestamp_ms: record.timestamp_ms,
                    key: record.key,
                    value: record.value,
                    headers: &headers,
                },
            );
        }
        let batch = builder.build().to_bytes(header.base_offset);
        self.writer.push(&batch, Some(&mut self.index))
    }
}

fn open<'a>(found: &'a Scanned, path: &str) -> Result<Records<'a>, FileError> {
    Records::open(&found.batch).map_err(|error| damaged(found, path, &error))
}

fn damaged(found: &Scanned, path: &str, what: &dyn std::fmt::Display) -> FileError {
    FileError::damaged(path, found.position, what.to_string())
}

impl std::fmt::Debug for CompactRules<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompactRules")
            .field("now_ms", &self.now_ms)
            .field("delete_retention_ms", &self.delete_retention_ms)
            .field("from_start", &self.from_start)
            .field("map_bytes_max", &self.map_bytes_max)
            .finish_non_exhaustive()
    }
}

/// Bytes between two calls of `between`.
const PIECE_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests;
