//! Room on the disk: how much may still be written, and what is given up when it is all but full
//! (store.md rules 3 and 22).

use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;

use super::House;
use crate::Fatal;
use crate::core::Core;
use crate::limits::PAGE_BYTES;

/// What the keeper knows of the disk's room.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Bytes free, as measured last.
    free: u64,
    /// Bytes that new data may take.
    grow: u64,
    /// Bytes of the ballast.
    ballast: u64,
    /// Whether a piece of work just failed for want of room.
    wanted: bool,
    /// Work that failed for want of room waits until so much is free: a segment's making, the rest.
    prepare_from: u64,
    work_from: u64,
}

impl Room {
    /// Whether work that takes room may be tried.
    pub(super) const fn is_enough(&self) -> bool {
        self.free >= self.work_from
    }

    /// A piece of work failed for want of room.
    pub(super) const fn lacked(&mut self) {
        self.wanted = true;
        self.work_from = self.free.saturating_add(PAGE_BYTES as u64);
    }
}

impl House {
    /// How much may still be written. Every byte of new data needs a place in the log and later a
    /// second home: free space less what the unretired log and two snapshots need, and the reserve.
    /// Facts that free space take what fits into files of the log that are there, and what is free
    /// beyond a few more of them.
    pub(super) fn measure(&mut self, core: &Core) -> io::Result<()> {
        let free = core.disk.free_bytes()?;
        let capacity = core.options.segment_capacity();
        let staging = &core.wal.staging;
        let ready = core.wal.segments.room(staging.segment(), staging.end(), capacity);
        let unretired = core.wal.durable().saturating_sub(core.floor.load(Ordering::Acquire));
        let owed = unretired + 2 * self.snapshot_bytes() + core.options.disk_reserve_bytes;
        let budget = free.saturating_sub(owed);
        // Beyond the files that are there a byte takes its place in the log as well.
        let grow = budget.min(ready.saturating_add(budget.saturating_sub(ready) / 2));
        let kept_free = SEGMENTS_KEPT_FREE * capacity + 2 * self.snapshot_bytes();
        // A group that does not fit wastes the end of a segment.
        let shrink = (ready - ready / 8).saturating_add(free.saturating_sub(kept_free));
        (self.room.free, self.room.grow) = (free, grow);
        self.is_tight = grow < capacity || self.room.wanted || staging.is_stalled();
        core.admission.measured(grow, shrink, free);
        Ok(())
    }

    fn snapshot_bytes(&self) -> u64 {
        self.kept.back().map_or(0, |kept| kept.bytes)
    }

    /// Below this the keeper could not do its work: one more segment and two snapshots.
    fn hard_limit(&self, core: &Core) -> u64 {
        core.options.segment_capacity() + 2 * (PAGE_BYTES as u64 + self.snapshot_bytes())
    }

    /// Makes WAL segments ahead of need, unless that would take the last of the disk. A log that has
    /// outgrown the small segment of its start gets several: it fills one faster than a stride is
    /// retired.
    pub(super) fn prepare_segment(&mut self, core: &Core) -> Result<bool, Fatal> {
        let capacity = core.options.segment_capacity();
        let segments = &core.wal.segments;
        let mut plan = core.wal.staging.segment();
        let ahead = if self.is_tight || plan.capacity < capacity { 1 } else { AHEAD_MAX };
        let mut needed = self.hard_limit(core);
        for _ in 0..=ahead {
            if !segments.is_prepared(plan) {
                let enough = self.room.free >= needed.max(self.room.prepare_from);
                if !enough && !segments.has_free() {
                    return Ok(false);
                }
                self.room.prepare_from = self.room.free.saturating_add(PAGE_BYTES as u64);
                let made = segments
                    .prepare(plan, core.wal.proven())
                    .map_err(|source| Fatal { doing: "prepare a WAL segment".into(), source })?;
                self.room.prepare_from = 0;
                return Ok(made);
            }
            plan = plan.next(capacity);
            needed += capacity;
        }
        Ok(false)
    }

    /// Writes zeros to a piece of a segment made ahead. Beside a retirement that always finds work it has every second
    /// turn: a log that fills new segments needs a byte of each for a byte of its own.
    pub(super) fn write_ahead(&mut self, core: &Core, turn: Turn) -> Result<bool, Fatal> {
        let waits = turn == Turn::EverySecond && self.is_retirements_turn;
        self.is_retirements_turn = turn == Turn::EverySecond && !waits;
        if waits {
            return Ok(false);
        }
        core.wal
            .segments
            .write_ahead()
            .map_err(|source| Fatal { doing: "write zeros to a WAL segment".into(), source })
    }

    /// Gives up what only waits to be needed if the disk is all but full, or lays ballast down while
    /// there is still room for it, a piece at a time.
    pub(super) fn ballast(&mut self, core: &Core) -> Result<bool, Fatal> {
        let fatal = |source| Fatal { doing: format!("write {BALLAST_NAME}"), source };
        let is_stalled = core.wal.staging.is_stalled();
        let is_short = std::mem::take(&mut self.room.wanted);
        if is_short && !is_stalled && core.wal.segments.give_up_free().map_err(fatal)? {
            return Ok(true);
        }
        if is_short || is_stalled || self.room.free < self.hard_limit(core) {
            return self.drop_ballast(core);
        }
        let target = core.options.ballast_bytes;
        let is_wanted = self.room.ballast < target && self.room.free / BALLAST_FROM < target;
        if !is_wanted || !self.room.is_enough() || self.room.grow < 2 * target {
            return Ok(false);
        }
        let file = match core.disk.create(BALLAST_NAME) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                core.disk.open(BALLAST_NAME)
            }
            created => created,
        };
        let bytes = usize::try_from(target - self.room.ballast).unwrap_or(PIECE_BYTES);
        let piece = vec![0; bytes.min(PIECE_BYTES)];
        file.and_then(|file| file.write_at(&[IoSlice::new(&piece)], self.room.ballast))
            .map_err(fatal)?;
        self.room.ballast += piece.len() as u64;
        Ok(true)
    }

    /// What an earlier run left.
    pub(super) fn find_ballast(&mut self, core: &Core) -> io::Result<()> {
        match core.disk.open_read(BALLAST_NAME) {
            Ok(file) => self.room.ballast = file.len()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Gives the ballast up; `false` if there is none.
    fn drop_ballast(&mut self, core: &Core) -> Result<bool, Fatal> {
        if self.room.ballast == 0 {
            return Ok(false);
        }
        let removed = core.disk.remove(BALLAST_NAME).and_then(|()| core.disk.sync_dir(""));
        removed.map_err(|source| Fatal { doing: format!("remove {BALLAST_NAME}"), source })?;
        self.room.ballast = 0;
        Ok(true)
    }
}

/// When zeros are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// In turn with the work behind.
    EverySecond,
    /// There is no other work.
    Now,
}

/// Where the ballast lies.
pub(crate) const BALLAST_NAME: &str = "ballast";
/// It is laid down once less than this many times its size is free.
const BALLAST_FROM: u64 = 16;
/// Bytes of it written at once.
const PIECE_BYTES: usize = 1 << 20;
/// WAL segments made ahead of need.
const AHEAD_MAX: usize = 3;
/// Segments' worth of free space that no fact is promised: a few could be made between two looks.
const SEGMENTS_KEPT_FREE: u64 = 4;
