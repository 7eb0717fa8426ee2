//! Group commit: what is staged, one write and one sync, then the durable position. Nobody else
//! syncs the WAL.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes;

use super::cache::Cache;
use super::encode::{EncodedGroup, encode};
use super::segments::{Segments, WalSegment};
use super::stage::{GroupPlan, Staging};
use crate::disk::is_full;
use crate::limits::WRITE_PARTS_MAX;
use crate::{Fatal, StreamId};

/// What one commit made durable.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) durable: u64,
    /// Partitions with new durable batches, ascending.
    pub(crate) partitions: Vec<StreamId>,
    /// Bytes of frames that are no longer unsynced.
    pub(crate) staged_bytes: u64,
    /// Bytes written.
    pub(crate) written_bytes: u64,
}

#[derive(Debug)]
struct Log {
    chain: u32,
    current: Arc<WalSegment>,
    /// Groups for which the disk had no segment: written once it has.
    waiting: VecDeque<GroupPlan>,
}

/// The write-ahead log of a running store.
///
/// Invariant: `durable` never moves back, and after an error it never moves again.
#[derive(Debug)]
pub(crate) struct Wal {
    pub(crate) staging: Staging,
    pub(crate) segments: Segments,
    pub(crate) cache: Cache,
    log: Mutex<Log>,
    durable: AtomicU64,
    poisoned: AtomicBool,
    sync: bool,
    waiters: Mutex<()>,
    moved: Condvar,
}

impl Wal {
    /// A log that goes on at `durable` in `current` after the group with chain value `chain`.
    pub(crate) fn new(
        staging: Staging,
        segments: Segments,
        cache: Cache,
        place: (Arc<WalSegment>, u32, u64),
        sync: bool,
    ) -> Self {
        let (current, chain, durable) = place;
        Self {
            staging,
            segments,
            cache,
            log: Mutex::new(Log { chain, current, waiting: VecDeque::new() }),
            durable: AtomicU64::new(durable),
            poisoned: AtomicBool::new(false),
            sync,
            waiters: Mutex::new(()),
            moved: Condvar::new(),
        }
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// What is on the disk for certain. Without syncs nothing is: a start must not miss what it never
    /// had.
    pub(crate) fn proven(&self) -> u64 {
        if self.sync { self.durable() } else { 0 }
    }

    /// Syncs everything in use, if commits do not: a snapshot must not know more than the log.
    pub(crate) fn sync_unsynced(&self) -> Result<(), Fatal> {
        if self.sync {
            return Ok(());
        }
        for segment in self.segments.live() {
            segment
                .file
                .sync()
                .map_err(|source| Fatal { doing: format!("sync {}", segment.path()), source })?;
        }
        Ok(())
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Writes and syncs everything staged. On a disk without room for a segment it does what it can:
    /// nothing is lost by waiting, for nothing was acknowledged (store.md rule 22).
    pub(crate) fn commit(&self) -> Result<Option<Committed>, Fatal> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_poisoned() {
            let source = io::Error::other("an earlier write or sync failed");
            return Err(Fatal { doing: "commit".into(), source });
        }
        log.waiting.extend(self.staging.take());
        if log.waiting.is_empty() {
            return Ok(None);
        }
        match self.write_all(&mut log) {
            Ok(committed) => {
                self.staging.stall(!log.waiting.is_empty());
                if committed.written_bytes == 0 {
                    return Ok(None);
                }
                self.publish(committed.durable);
                Ok(Some(committed))
            }
            Err(fatal) => {
                // The kernel may have dropped the pages: never retry (rule 6).
                self.poison();
                Err(fatal)
            }
        }
    }

    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
        let guard = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        drop(guard);
        self.moved.notify_all();
    }

    /// Waits until everything below `lsn` is durable; `false` if the log failed or stopped before.
    pub(crate) fn wait(&self, lsn: u64) -> bool {
        let mut guard = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        while self.durable() < lsn {
            if self.is_poisoned() || self.staging.is_stopping() {
                return false;
            }
            guard = self.moved.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    pub(crate) fn stop(&self) {
        self.staging.stop();
        let guard = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        drop(guard);
        self.moved.notify_all();
    }

    fn write_all(&self, log: &mut Log) -> Result<Committed, Fatal> {
        let durable = self.durable();
        let durable_upto = self.proven();
        let mut committed =
            Committed { durable, partitions: Vec::new(), staged_bytes: 0, written_bytes: 0 };
        while let Some(plan) = log.waiting.pop_front() {
            if plan.segment.seq != log.current.header.seq {
                // A later segment must not survive a loss in this one.
                self.sync(&log.current)?;
                match self.segments.activate(plan.segment, durable_upto) {
                    Ok(segment) => log.current = segment,
                    Err(error) if is_full(&error) => {
                        log.waiting.push_front(plan);
                        break;
                    }
                    Err(source) => {
                        return Err(Fatal { doing: "make a WAL segment".into(), source });
                    }
                }
            }
            let group = encode(&plan, log.current.header.generation, durable_upto, log.chain);
            assert!(group.base >= committed.durable, "group below the durable position");
            write_group(&log.current, &group)?;
            log.chain = group.chain;
            committed.durable = group.end;
            committed.staged_bytes += group.staged_bytes;
            committed.written_bytes += group.end - group.base;
            committed.partitions.extend_from_slice(&group.partitions);
            self.cache.insert(&group);
        }
        self.sync(&log.current)?;
        committed.partitions.sort_unstable();
        committed.partitions.dedup();
        Ok(committed)
    }

    fn sync(&self, segment: &WalSegment) -> Result<(), Fatal> {
        if !self.sync {
            return Ok(());
        }
        segment
            .file
            .sync()
            .map_err(|source| Fatal { doing: format!("sync {}", segment.path()), source })
    }

    fn publish(&self, durable: u64) {
        let before = self.durable.swap(durable, Ordering::AcqRel);
        assert!(before <= durable, "durable position moved back");
        let guard = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        drop(guard);
        self.moved.notify_all();
    }
}

/// Writes a group to its place, in as few calls as its parts allow.
pub(crate) fn write_group(segment: &WalSegment, group: &EncodedGroup) -> Result<(), Fatal> {
    let mut position = segment.position(group.base);
    for parts in group.parts.chunks(WRITE_PARTS_MAX) {
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        segment
            .file
            .write_at(&slices, position)
            .map_err(|source| Fatal { doing: format!("write {}", segment.path()), source })?;
        position += parts.iter().map(Bytes::len).sum::<usize>() as u64;
    }
    Ok(())
}
