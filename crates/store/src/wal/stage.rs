//! Staging: where a frame gets its place. The innermost lock of an append.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::layout::{
    FRAME_HEADER_BYTES, GROUP_HEADER_BYTES, ITEM_HEADER_BYTES, ItemHeader, padded,
};
use crate::limits::GROUP_BYTES_MAX;

/// An item ready to be written: everything but its place is known.
#[derive(Clone, Debug)]
pub(crate) struct StagedItem {
    pub(crate) header: ItemHeader,
    /// What stands before the body: a batch's header, a message's further queues.
    pub(crate) head: Vec<u8>,
    pub(crate) body: Bytes,
}

/// A frame ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct StagedFrame {
    pub(crate) items: Vec<StagedItem>,
    /// Of the whole frame on disk, with its headers.
    pub(crate) bytes: u64,
}

impl StagedFrame {
    pub(crate) fn new(items: Vec<StagedItem>) -> Self {
        let bytes = items.iter().fold(FRAME_HEADER_BYTES as u64, |sum, item| {
            sum + ITEM_HEADER_BYTES as u64 + u64::from(item.header.payload_bytes)
        });
        Self { items, bytes }
    }
}

/// A segment as staging lays it out; the file may not exist yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentPlan {
    pub(crate) seq: u64,
    pub(crate) start: u64,
    pub(crate) capacity: u64,
}

impl SegmentPlan {
    pub(crate) fn end(&self) -> u64 {
        self.start + self.capacity
    }

    pub(crate) fn next(&self, capacity: u64) -> Self {
        Self { seq: self.seq + 1, start: self.end(), capacity }
    }
}

/// A group whose place is fixed.
#[derive(Clone, Debug)]
pub(crate) struct GroupPlan {
    pub(crate) segment: SegmentPlan,
    pub(crate) base: u64,
    /// With the group header, without padding.
    pub(crate) bytes: u64,
    pub(crate) frames: Vec<StagedFrame>,
}

impl GroupPlan {
    pub(crate) fn end(&self) -> u64 {
        self.base + padded(self.bytes)
    }
}

/// Invariants: groups lie in LSN order without overlap, each within its segment; at most one is open
/// and nothing lies behind it.
#[derive(Debug)]
struct Stage {
    segment: SegmentPlan,
    /// Base of the next group to be opened.
    next: u64,
    open: Option<GroupPlan>,
    closed: VecDeque<GroupPlan>,
    /// Somebody waits for what is staged.
    awaited: bool,
    /// The last group on disk holds frames and no later group proves it (rule 1).
    unproven: bool,
    /// The log was idle: write an empty group.
    prove: bool,
    /// The log has groups for which the disk has no room.
    stalled: bool,
    stopping: bool,
}

/// The stage behind its lock, and the bell that wakes the log role.
#[derive(Debug)]
pub(crate) struct Staging {
    stage: Mutex<Stage>,
    bell: Condvar,
    segment_bytes: u64,
}

impl Staging {
    /// Starts at `next` in `segment`; further segments are `segment_bytes` large.
    pub(crate) fn new(segment: SegmentPlan, next: u64, segment_bytes: u64) -> Self {
        let stage = Stage {
            segment,
            next,
            open: None,
            closed: VecDeque::new(),
            awaited: false,
            unproven: false,
            prove: false,
            stalled: false,
            stopping: false,
        };
        Self { stage: Mutex::new(stage), bell: Condvar::new(), segment_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the frame the next place and returns it. A patient one rings no bell unless it is the
    /// first: then its time begins.
    pub(crate) fn push(&self, frame: StagedFrame, is_patient: bool) -> u64 {
        let (lsn, rings) = {
            let mut stage = self.lock();
            let is_first = stage.is_empty();
            let is_first_awaited = !is_patient && !stage.awaited;
            stage.awaited |= !is_patient;
            (stage.push(frame, self.segment_bytes), is_first || is_first_awaited)
        };
        if rings {
            self.bell.notify_all();
        }
        lsn
    }

    /// Above every staged frame, at or below the next one.
    pub(crate) fn end(&self) -> u64 {
        let stage = self.lock();
        stage.open.as_ref().map_or(stage.next, |group| group.base + group.bytes)
    }

    /// The segment that the newest group lies in.
    pub(crate) fn segment(&self) -> SegmentPlan {
        self.lock().segment
    }

    /// Everything staged, in order; an empty group if one is due to prove the last.
    pub(crate) fn take(&self) -> Vec<GroupPlan> {
        let mut stage = self.lock();
        stage.awaited = false;
        let mut groups: Vec<GroupPlan> = stage.closed.drain(..).collect();
        if let Some(group) = stage.open.take() {
            stage.next = group.end();
            groups.push(group);
        }
        if groups.is_empty() && stage.prove && stage.unproven {
            stage.open_group(0, self.segment_bytes);
            if let Some(group) = stage.open.take() {
                stage.next = group.end();
                groups.push(group);
            }
        }
        stage.prove = false;
        if let Some(last) = groups.last() {
            stage.unproven = !last.frames.is_empty();
        }
        groups
    }

    /// The next `take` writes an empty group if the last one is unproven and nothing is staged.
    pub(crate) fn prove(&self) {
        self.lock().prove = true;
        self.bell.notify_all();
    }

    /// Whether the log waits for room on the disk.
    pub(crate) fn stall(&self, stalled: bool) {
        self.lock().stalled = stalled;
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.lock().stalled
    }

    /// Waits until something staged is awaited or has been patient for long enough, an empty group is
    /// due, or `stop` was called; a moment only if the log waits for room.
    pub(crate) fn park(&self, idle: Duration) {
        let mut stage = self.lock();
        if stage.stalled && !stage.stopping {
            drop(self.ring_within(stage, idle.max(STALL)));
            return;
        }
        while !stage.stopping && !stage.prove && !stage.awaited {
            let was_empty = stage.is_empty();
            if was_empty && !stage.unproven {
                stage = self.bell.wait(stage).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (back, timed_out) =
                self.ring_within(stage, if was_empty { idle } else { PATIENCE });
            stage = back;
            if timed_out && !was_empty {
                return;
            }
            stage.prove |= timed_out && stage.is_empty();
        }
    }

    fn ring_within<'a>(
        &self,
        stage: MutexGuard<'a, Stage>,
        time: Duration,
    ) -> (MutexGuard<'a, Stage>, bool) {
        let waited = self.bell.wait_timeout(stage, time);
        let (stage, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        (stage, timeout.timed_out())
    }

    /// Wakes the log role for good.
    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
        self.bell.notify_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.lock().stopping
    }
}

impl Stage {
    fn is_empty(&self) -> bool {
        self.open.is_none() && self.closed.is_empty()
    }

    fn push(&mut self, frame: StagedFrame, segment_bytes: u64) -> u64 {
        let fits = self.open.as_ref().is_some_and(|group| {
            let bytes = group.bytes + frame.bytes;
            bytes <= GROUP_BYTES_MAX as u64 && group.base + padded(bytes) <= group.segment.end()
        });
        if !fits {
            if let Some(group) = self.open.take() {
                self.next = group.end();
                self.closed.push_back(group);
            }
            self.open_group(frame.bytes, segment_bytes);
        }
        let Some(group) = self.open.as_mut() else { return self.next };
        let lsn = group.base + group.bytes;
        group.bytes += frame.bytes;
        group.frames.push(frame);
        assert!(group.end() <= group.segment.end(), "group runs over its segment");
        lsn
    }

    /// Opens a group with room for `bytes` of frames, in the next segment if need be.
    fn open_group(&mut self, bytes: u64, segment_bytes: u64) {
        let needed = padded(GROUP_HEADER_BYTES as u64 + bytes);
        if self.next + needed > self.segment.end() {
            self.segment = self.segment.next(segment_bytes.max(needed));
            self.next = self.segment.start;
        }
        let (segment, base) = (self.segment, self.next);
        let bytes = GROUP_HEADER_BYTES as u64;
        self.open = Some(GroupPlan { segment, base, bytes, frames: Vec::new() });
    }
}

/// How long the log role waits before it asks a full disk for a segment again.
const STALL: Duration = Duration::from_millis(20);
/// How long a patient frame waits for company.
const PATIENCE: Duration = Duration::from_millis(3);
