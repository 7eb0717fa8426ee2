//! Retirement: every fact of the oldest stride that is still wanted gets its second home.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{House, fatal};
use crate::core::Core;
use crate::files::FileError;
use crate::messages::{OLD_LOG_DIR, OldLogMeta, old_bytes, old_log_path};
use crate::oldlog::{self, OldLogWriter, OldMessage};
use crate::segment::{SegmentMeta, SegmentWriter};
use crate::state::State;
use crate::streams::{PARTITIONS_DIR, Partition, partition_dir, segment_path};
use crate::wal::layout::{Kind, queues_of};
use crate::wal::scan::{ScannedGroup, ScannedItem, read_group};
use crate::wal::segments::WalSegment;
use crate::{Fatal, Lsn, Offset, StreamId};

/// What of a stride is still wanted.
#[derive(Default)]
struct Stride {
    batches: BTreeMap<StreamId, Vec<ScannedItem>>,
    /// By queue, then by place.
    messages: BTreeMap<(StreamId, u64), ScannedItem>,
    entries: u64,
}

impl House {
    /// Retires the oldest stride if the WAL is above its window.
    pub(super) fn retire(&mut self, core: &Core, state: &dyn State) -> Result<bool, Fatal> {
        let Some((segment, next)) = due(core) else { return Ok(false) };
        let (stride, chain) = self.scan(core, state, &segment, &next)?;
        let (from, to) = (core.floor.load(Ordering::Acquire), segment.end());
        if !stride.messages.is_empty()
            && core.old_logs.find(from).is_none()
            && !write_old_log(core, &stride, from, to)?
        {
            return Ok(false);
        }
        for (id, batches) in &stride.batches {
            retire_partition(core, *id, batches, Lsn(to))?;
        }
        core.young_entries
            .update(Ordering::Relaxed, Ordering::Relaxed, |n| n.saturating_sub(stride.entries));
        self.floor_chain = chain;
        core.floor.store(to, Ordering::Release);
        Ok(true)
    }

    /// Reads the stride and keeps what is wanted. Liveness is asked of the present state, durable or
    /// not: the snapshot that does without the dead is named only when that state is durable.
    fn scan(
        &self,
        core: &Core,
        state: &dyn State,
        segment: &Arc<WalSegment>,
        next: &Arc<WalSegment>,
    ) -> Result<(Stride, u32), Fatal> {
        let io = |source| Fatal { doing: format!("read {}", segment.path()), source };
        let mut stride = Stride::default();
        let mut chain = self.floor_chain;
        let mut at = core.floor.load(Ordering::Acquire);
        while let Some(group) = read_group(segment, at, chain).map_err(io)? {
            at = group.end();
            chain = group.chain;
            stride.take(core, state, &group);
        }
        // The chain must lead on to the next segment, or part of this one became unreadable.
        if at != segment.end() && read_group(next, next.header.start, chain).map_err(io)?.is_none()
        {
            let source = io::Error::other(format!("the log breaks off at {}", Lsn(at)));
            return Err(io(source));
        }
        Ok((stride, chain))
    }
}

/// The oldest segment above the floor, and the one after it, if it is time to retire it.
fn due(core: &Core) -> Option<(Arc<WalSegment>, Arc<WalSegment>)> {
    let floor = core.floor.load(Ordering::Acquire);
    let live: Vec<_> =
        core.wal.segments.live().into_iter().filter(|segment| segment.end() > floor).collect();
    let bytes: u64 = live.iter().map(|segment| segment.file_bytes()).sum();
    let entries = core.young_entries.load(Ordering::Relaxed);
    let is_above =
        bytes > core.options.wal_window_bytes || entries > core.options.wal_window_entries as u64;
    let (oldest, next) = (live.first()?, live.get(1)?);
    // The next one is in use, so nothing is written to the oldest any more.
    let is_settled = core.wal.durable() >= next.header.start;
    (is_above && is_settled).then(|| (Arc::clone(oldest), Arc::clone(next)))
}

impl Stride {
    fn take(&mut self, core: &Core, state: &dyn State, group: &ScannedGroup) {
        for item in group.frames().into_iter().flat_map(|frame| frame.items) {
            let id = StreamId(item.header.stream);
            match item.header.kind {
                Kind::Batch => {
                    self.entries += 1;
                    if core.streams.partition(id).is_some() {
                        self.batches.entry(id).or_default().push(item);
                    }
                }
                Kind::Message => {
                    self.entries += 1;
                    let holder = queues_of(&item.header, &item.payload)
                        .map(StreamId)
                        .find(|queue| state.holds(*queue, Lsn(item.lsn)));
                    if let Some(queue) = holder {
                        self.messages.insert((queue, item.lsn), item);
                    }
                }
                _ => {}
            }
        }
    }
}

/// `false` if it failed twice: the stride stays in the WAL.
fn write_old_log(core: &Core, stride: &Stride, from: u64, to: u64) -> Result<bool, Fatal> {
    for _ in 0..ATTEMPTS {
        let file = core.next_file.fetch_add(1, Ordering::Relaxed);
        match try_old_log(core, stride, file, from) {
            Ok((messages, bytes)) => {
                core.old_logs.insert(OldLogMeta { file, from, to, bytes, messages });
                return Ok(true);
            }
            Err(error) if is_full(&error) => return Err(fatal(error)),
            Err(error) => core.report(StreamId(0), Lsn(from), error.to_string()),
        }
    }
    Ok(false)
}

fn try_old_log(
    core: &Core,
    stride: &Stride,
    file: u64,
    from: u64,
) -> Result<(u64, u64), FileError> {
    let temporary = format!("{OLD_LOG_DIR}/{file:016x}.tmp");
    let mut writer = OldLogWriter::create(&*core.disk, &temporary, Lsn(from))?;
    for ((queue, lsn), item) in &stride.messages {
        if !item.is_whole() {
            core.report(*queue, Lsn(*lsn), format!("queue {queue}: message {lsn:#x} is damaged"));
            continue;
        }
        let bytes = old_bytes(&item.header, &item.payload);
        writer.push(&OldMessage { lsn: Lsn(*lsn), queue: *queue, bytes: &bytes })?;
    }
    let summary = writer.finish()?;
    oldlog::publish(&*core.disk, &temporary, &old_log_path(file))?;
    Ok((summary.messages, summary.bytes))
}

/// Writes a partition's batches behind its newest segment, or to a new one. A second failure
/// quarantines the partition (rule 6).
fn retire_partition(
    core: &Core,
    id: StreamId,
    batches: &[ScannedItem],
    to: Lsn,
) -> Result<(), Fatal> {
    let Some(partition) = core.streams.partition(id) else { return Ok(()) };
    let (start, retired_end, newest, is_first) = {
        let state = partition.lock();
        (state.start, state.retired_end, state.segments.last().cloned(), state.segments.is_empty())
    };
    // A full disk may have ended an earlier attempt after some partitions had their batches.
    let wanted: Vec<&ScannedItem> = batches
        .iter()
        .filter(|item| next_of(item) > start && base_of(item) >= retired_end)
        .collect();
    let mut grown = None;
    if !wanted.is_empty() {
        let run: u64 = wanted.iter().map(|item| item.payload.len() as u64).sum();
        let mut target = newest
            .filter(|newest| newest.bytes + run <= core.options.segment_bytes.max(newest.bytes));
        let mut failure = None;
        for _ in 0..ATTEMPTS {
            match try_segment(core, id, &wanted, target.take(), is_first) {
                Ok(meta) => {
                    grown = Some(meta);
                    break;
                }
                Err(error) if is_full(&error) => return Err(fatal(error)),
                Err(error) => failure = Some(error.to_string()),
            }
        }
        if grown.is_none() {
            let what = failure.unwrap_or_default();
            core.report(id, to, what.clone());
            partition.lock().damaged = Some(what);
        }
    }
    apply(core, id, &partition, grown, batches, to);
    Ok(())
}

fn try_segment(
    core: &Core,
    id: StreamId,
    batches: &[&ScannedItem],
    target: Option<SegmentMeta>,
    is_first: bool,
) -> Result<SegmentMeta, FileError> {
    let directory = partition_dir(id);
    let is_new = target.is_none();
    let mut writer = match target {
        Some(meta) => {
            let path = segment_path(id, meta.file);
            SegmentWriter::resume(&*core.disk, &path, meta)?
        }
        None => {
            if is_first {
                core.disk
                    .create_dir(&directory)
                    .and_then(|()| core.disk.sync_dir(PARTITIONS_DIR))
                    .map_err(|e| FileError::io("making", &directory, e))?;
            }
            let file = core.next_file.fetch_add(1, Ordering::Relaxed);
            let base = batches.first().map_or(Offset::ZERO, |item| base_of(item));
            SegmentWriter::create(&*core.disk, &segment_path(id, file), file, base)?
        }
    };
    for item in batches {
        if !item.is_whole() {
            let what = format!("the log's copy of the batch at {} is damaged", Lsn(item.lsn));
            return Err(FileError::damaged(&directory, item.lsn, what));
        }
        writer.push(&item.payload, None)?;
    }
    let meta = writer.finish()?;
    if is_new {
        core.disk
            .sync_dir(&directory)
            .map_err(|e| FileError::io("syncing directory", &directory, e))?;
    }
    Ok(meta)
}

/// The partition takes note: from here on readers go to the segment.
fn apply(
    core: &Core,
    id: StreamId,
    partition: &Partition,
    grown: Option<SegmentMeta>,
    batches: &[ScannedItem],
    to: Lsn,
) {
    let path = grown.as_ref().map(|meta| segment_path(id, meta.file));
    let mut state = partition.lock();
    if let Some(meta) = grown {
        let mut segments: Vec<_> =
            state.segments.iter().filter(|old| old.file != meta.file).cloned().collect();
        if meta.next > state.start {
            // A trim may have dropped the file while it grew.
            core.garbage.rescue(&segment_path(id, meta.file));
            segments.push(meta);
        } else {
            core.garbage.add([segment_path(id, meta.file)]);
        }
        state.segments = Arc::new(segments);
    }
    if let Some(last) = batches.last() {
        state.retired_end = state.retired_end.max(next_of(last));
    }
    state.young.retire(to);
    drop(state);
    if let Some(path) = path
        && core.streams.partition(id).is_none()
    {
        core.garbage.add([path]); // deleted meanwhile
    }
}

fn base_of(item: &ScannedItem) -> Offset {
    Offset(item.header.aux.cast_signed())
}

fn next_of(item: &ScannedItem) -> Offset {
    crate::batch::BatchHeader::parse(&item.payload).map_or_else(
        |_| base_of(item),
        |header| crate::append::after(base_of(item), header.last_offset_delta),
    )
}

fn is_full(error: &FileError) -> bool {
    matches!(error, FileError::Io { source, .. } if super::is_full(source))
}

const ATTEMPTS: usize = 2;
