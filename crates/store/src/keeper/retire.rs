//! Retirement: every fact of the oldest stride that is still wanted gets its second home, a bounded
//! piece at a time, so that no commit waits behind a whole stride.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{House, fatal};
use crate::core::Core;
use crate::files::FileError;
use crate::messages::{OLD_LOG_DIR, OldLogMeta, old_bytes, old_log_path};
use crate::oldlog::{self, OldLogWriter, OldMessage};
use crate::segment::{SegmentMeta, SegmentWriter, first_timestamp};
use crate::state::State;
use crate::streams::{PARTITIONS_DIR, Partition, partition_dir, segment_path};
use crate::wal::layout::{Kind, queues_of};
use crate::wal::scan::{ScannedGroup, ScannedItem, read_group};
use crate::wal::segments::WalSegment;
use crate::{Fatal, Lsn, Offset, StreamId};

/// What of a stride is still wanted and has no second home yet.
#[derive(Debug, Default)]
struct Stride {
    batches: BTreeMap<StreamId, VecDeque<ScannedItem>>,
    /// By queue, then by place.
    messages: BTreeMap<(StreamId, u64), ScannedItem>,
    entries: u64,
}

/// A stride on its way out of the log. Dropped half-way, what it wrote does not count: the next
/// attempt begins at the floor again and leaves out what the partitions already have.
#[derive(Debug)]
pub(super) struct Retiring {
    segment: Arc<WalSegment>,
    next: Arc<WalSegment>,
    from: u64,
    /// How far it was read, and the chain value there.
    at: u64,
    chain: u32,
    stage: Stage,
    stride: Stride,
}

#[derive(Debug)]
enum Stage {
    Scan,
    Messages(Draft),
    Batches,
}

/// The old log being written.
#[derive(Debug, Default)]
struct Draft {
    /// The number of its file.
    file: u64,
    open: Option<OldLogWriter>,
    /// The last message in it.
    last: Option<(StreamId, u64)>,
    failures: usize,
}

/// What a step of the keeper may still do.
struct Budget(u64);

impl Budget {
    fn spend(&mut self, bytes: u64) {
        self.0 = self.0.saturating_sub(bytes);
    }

    const fn is_spent(&self) -> bool {
        self.0 == 0
    }
}

/// How far a stage came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The budget is spent.
    More,
    Done,
    /// It failed twice: the stride stays in the WAL.
    GivenUp,
}

impl House {
    /// Does a piece of retiring the oldest stride if the WAL is above its window.
    pub(super) fn retire(&mut self, core: &Core, state: &dyn State) -> Result<bool, Fatal> {
        let is_tight = self.is_tight;
        let begin = || Retiring::begin(core, self.floor_chain, is_tight);
        let begun = self.retiring.take().or_else(begin);
        let Some(mut retiring) = begun else { return Ok(false) };
        match retiring.advance(core, state)? {
            Progress::GivenUp => return Ok(false),
            Progress::More => self.retiring = Some(retiring),
            Progress::Done => {
                core.young_entries.update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                    n.saturating_sub(retiring.stride.entries)
                });
                self.floor_chain = retiring.chain;
                core.floor.store(retiring.segment.end(), Ordering::Release);
            }
        }
        Ok(true)
    }
}

impl Retiring {
    fn begin(core: &Core, chain: u32, is_tight: bool) -> Option<Self> {
        let (segment, next) = due(core, is_tight)?;
        let from = core.floor.load(Ordering::Acquire);
        let (stage, stride) = (Stage::Scan, Stride::default());
        Some(Self { segment, next, from, at: from, chain, stage, stride })
    }

    fn advance(&mut self, core: &Core, state: &dyn State) -> Result<Progress, Fatal> {
        let mut budget = Budget(STEP_BYTES);
        loop {
            let progress = match &mut self.stage {
                Stage::Scan => self.scan(core, state, &mut budget)?,
                Stage::Messages(draft) => {
                    let range = (self.from, self.segment.end());
                    draft.write(core, &self.stride, range, &mut budget)?
                }
                Stage::Batches => return self.stride.write(core, state, &mut budget),
            };
            match progress {
                Progress::Done => self.next_stage(core),
                unfinished => return Ok(unfinished),
            }
        }
    }

    fn next_stage(&mut self, core: &Core) {
        let wants_old_log = matches!(self.stage, Stage::Scan)
            && !self.stride.messages.is_empty()
            && core.old_logs.find(self.from).is_none();
        self.stage = if wants_old_log { Stage::Messages(Draft::default()) } else { Stage::Batches };
    }

    /// Reads the stride and keeps what is wanted. Liveness is asked of the present state, durable or
    /// not: the snapshot that does without the dead is named only when that state is durable.
    fn scan(
        &mut self,
        core: &Core,
        state: &dyn State,
        budget: &mut Budget,
    ) -> Result<Progress, Fatal> {
        let io = |source| Fatal { doing: format!("read {}", self.segment.path()), source };
        while let Some(group) = read_group(&self.segment, self.at, self.chain).map_err(io)? {
            budget.spend((group.end() - group.base()) / READS_ARE_CHEAPER);
            self.at = group.end();
            self.chain = group.chain;
            self.stride.take(core, state, &group);
            if budget.is_spent() {
                return Ok(Progress::More);
            }
        }
        // The chain must lead on to the next segment, or part of this one became unreadable.
        let next = &self.next;
        if self.at != self.segment.end()
            && read_group(next, next.header.start, self.chain).map_err(io)?.is_none()
        {
            let source = io::Error::other(format!("the log breaks off at {}", Lsn(self.at)));
            return Err(io(source));
        }
        Ok(Progress::Done)
    }
}

/// The oldest segment above the floor, and the one after it, if it is time to retire it. On a full
/// disk that is always: what died in it gives its room back.
fn due(core: &Core, is_tight: bool) -> Option<(Arc<WalSegment>, Arc<WalSegment>)> {
    let floor = core.floor.load(Ordering::Acquire);
    let live: Vec<_> =
        core.wal.segments.live().into_iter().filter(|segment| segment.end() > floor).collect();
    let bytes: u64 = live.iter().map(|segment| segment.file_bytes()).sum();
    let entries = core.young_entries.load(Ordering::Relaxed);
    let is_above = is_tight
        || bytes > core.options.wal_window_bytes
        || entries > core.options.wal_window_entries as u64;
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
                        self.batches.entry(id).or_default().push_back(item);
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

    /// Gives batches to their partitions, as many as the budget allows.
    fn write(
        &mut self,
        core: &Core,
        state: &dyn State,
        budget: &mut Budget,
    ) -> Result<Progress, Fatal> {
        while let Some(mut first) = self.batches.first_entry() {
            if budget.is_spent() {
                return Ok(Progress::More);
            }
            retire_piece(core, state, *first.key(), first.get_mut(), budget)?;
            if first.get().is_empty() {
                first.remove();
            }
        }
        Ok(Progress::Done)
    }
}

impl Draft {
    fn write(
        &mut self,
        core: &Core,
        stride: &Stride,
        range: (u64, u64),
        budget: &mut Budget,
    ) -> Result<Progress, Fatal> {
        while self.failures < ATTEMPTS {
            match self.try_write(core, stride, range, budget) {
                Ok(progress) => return Ok(progress),
                Err(error) if is_full(&error) => {
                    drop(core.disk.remove(&temporary(self.file))); // half of it only takes room
                    return Err(fatal(error));
                }
                Err(error) => {
                    core.report(StreamId(0), Lsn(range.0), error.to_string());
                    *self = Self { failures: self.failures + 1, ..Self::default() };
                }
            }
        }
        Ok(Progress::GivenUp)
    }

    fn try_write(
        &mut self,
        core: &Core,
        stride: &Stride,
        (from, to): (u64, u64),
        budget: &mut Budget,
    ) -> Result<Progress, FileError> {
        let mut writer = match self.open.take() {
            Some(open) => open,
            None => {
                self.file = core.next_file.fetch_add(1, Ordering::Relaxed);
                OldLogWriter::create(&*core.disk, &temporary(self.file), Lsn(from))?
            }
        };
        let file = self.file;
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        for ((queue, lsn), item) in stride.messages.range((after, Bound::Unbounded)) {
            if budget.is_spent() {
                writer.sync()?;
                self.open = Some(writer);
                return Ok(Progress::More);
            }
            self.last = Some((*queue, *lsn));
            if !item.is_whole() {
                let what = format!("queue {queue}: message {lsn:#x} is damaged");
                core.report(*queue, Lsn(*lsn), what);
                continue;
            }
            let bytes = old_bytes(&item.header, &item.payload);
            writer.push(&OldMessage { lsn: Lsn(*lsn), queue: *queue, bytes: &bytes })?;
            budget.spend(bytes.len() as u64);
        }
        let summary = writer.finish()?;
        oldlog::publish(&*core.disk, &temporary(file), &old_log_path(file))?;
        let (bytes, messages) = (summary.bytes, summary.messages);
        core.old_logs.insert(OldLogMeta { file, from, to, bytes, messages });
        budget.spend(SYNC_COSTS_BYTES);
        Ok(Progress::Done)
    }
}

fn temporary(file: u64) -> String {
    format!("{OLD_LOG_DIR}/{file:016x}.tmp")
}

/// Writes a run of a partition's batches behind its newest segment, or to a new one, and takes them
/// out of `batches`. A second failure quarantines the partition (rule 6).
fn retire_piece(
    core: &Core,
    state: &dyn State,
    id: StreamId,
    batches: &mut VecDeque<ScannedItem>,
    budget: &mut Budget,
) -> Result<(), Fatal> {
    let Some(partition) = core.streams.partition(id) else {
        batches.clear();
        return Ok(());
    };
    let (start, retired_end, newest, is_first) = {
        let state = partition.lock();
        (state.start, state.retired_end, state.segments.last().cloned(), state.segments.is_empty())
    };
    // A full disk may have ended an earlier attempt after some of these had been written.
    let wanted = |item: &ScannedItem| next_of(item) > start && base_of(item) >= retired_end;
    let mut piece = Vec::new();
    while batches.front().is_some_and(|item| !wanted(item)) {
        piece.extend(batches.pop_front());
    }
    let passed = piece.len();
    let (mut target, mut room) = match batches.front() {
        Some(first) => Room::for_run(core, state, id, newest, first),
        None => (None, Room { bytes: 0, until_ms: 0 }),
    };
    while let Some(item) = batches.front() {
        if piece.len() > passed && (!room.holds(item) || budget.is_spent()) {
            break;
        }
        let bytes = item.payload.len() as u64;
        room.bytes = room.bytes.saturating_sub(bytes);
        budget.spend(bytes);
        piece.extend(batches.pop_front());
    }
    let run = piece.get(passed..).unwrap_or_default();
    let mut grown = None;
    if !run.is_empty() {
        budget.spend(SYNC_COSTS_BYTES);
        let mut failure = None;
        for _ in 0..ATTEMPTS {
            match try_segment(core, id, run, target.take(), is_first) {
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
            let lsn = run.first().map_or(0, |item| item.lsn);
            core.report(id, Lsn(lsn), what.clone());
            partition.lock().damaged = Some(what);
            piece.extend(batches.drain(..));
        }
    }
    apply(core, id, &partition, grown, &piece);
    Ok(())
}

/// What a segment still takes.
struct Room {
    bytes: u64,
    /// The latest timestamp: `segment.ms` after that of its first batch, as in Kafka.
    until_ms: i64,
}

impl Room {
    /// Where a run that begins with `first` goes: behind the newest segment, or to a new one (`None`).
    fn for_run(
        core: &Core,
        state: &dyn State,
        id: StreamId,
        newest: Option<SegmentMeta>,
        first: &ScannedItem,
    ) -> (Option<SegmentMeta>, Self) {
        let limit = state.segment_bytes(id).unwrap_or(core.options.segment_bytes);
        let span = state.segment_ms(id).unwrap_or(i64::MAX);
        let until = |begun: i64| if begun < 0 { i64::MAX } else { begun.saturating_add(span) };
        if let Some(newest) = newest
            // A segment that cannot be read is not written to either.
            && let Ok(begun) = first_timestamp(&*core.disk, &segment_path(id, newest.file), &newest)
        {
            let bytes = limit.saturating_sub(newest.bytes);
            let room = Self { bytes, until_ms: until(begun) };
            if room.holds(first) {
                return (Some(newest), room);
            }
        }
        (None, Self { bytes: limit, until_ms: until(time_of(first)) })
    }

    fn holds(&self, item: &ScannedItem) -> bool {
        item.payload.len() as u64 <= self.bytes && time_of(item) <= self.until_ms
    }
}

fn try_segment(
    core: &Core,
    id: StreamId,
    batches: &[ScannedItem],
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
            let base = batches.first().map_or(Offset::ZERO, base_of);
            SegmentWriter::create(&*core.disk, &segment_path(id, file), file, base)?
        }
    };
    let path = segment_path(id, writer.meta().file);
    let written = fill(&mut writer, &directory, batches).and_then(|()| writer.finish());
    let meta = written.inspect_err(|error| {
        if is_new && is_full(error) {
            drop(core.disk.remove(&path)); // half of it only takes room
        }
    })?;
    if is_new {
        core.disk
            .sync_dir(&directory)
            .map_err(|e| FileError::io("syncing directory", &directory, e))?;
    }
    Ok(meta)
}

fn fill(
    writer: &mut SegmentWriter,
    directory: &str,
    batches: &[ScannedItem],
) -> Result<(), FileError> {
    for item in batches {
        if !item.is_whole() {
            let what = format!("the log's copy of the batch at {} is damaged", Lsn(item.lsn));
            return Err(FileError::damaged(directory, item.lsn, what));
        }
        writer.push(&item.payload, None)?;
    }
    Ok(())
}

/// The partition takes note: from here on readers go to the segment.
fn apply(
    core: &Core,
    id: StreamId,
    partition: &Partition,
    grown: Option<SegmentMeta>,
    batches: &[ScannedItem],
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
        state.young.retire(Lsn(last.lsn + 1));
    }
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

/// The largest timestamp of a batch, in ms; -1 if it has none.
fn time_of(item: &ScannedItem) -> i64 {
    crate::batch::BatchHeader::parse(&item.payload).map_or(-1, |header| header.max_timestamp)
}

fn next_of(item: &ScannedItem) -> Offset {
    crate::batch::BatchHeader::parse(&item.payload).map_or_else(
        |_| base_of(item),
        |header| crate::append::after(base_of(item), header.last_offset_delta),
    )
}

fn is_full(error: &FileError) -> bool {
    matches!(error, FileError::Io { source, .. } if crate::disk::is_full(source))
}

const ATTEMPTS: usize = 2;
/// Bytes that one step of the keeper writes at most, but for one batch or message that is larger.
const STEP_BYTES: u64 = 1 << 20;
/// What a sync takes of that.
const SYNC_COSTS_BYTES: u64 = 64 << 10;
/// Bytes read that count as one written.
const READS_ARE_CHEAPER: u64 = 4;
