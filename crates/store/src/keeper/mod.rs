//! The keeper role: retires, snapshots, recycles, removes; one bounded piece at a time.
//!
//! Nothing here is needed to acknowledge anything. A stride leaves the WAL only after two snapshots
//! that do without it are durable (store.md rules 4 and 5).

mod old_logs;
mod retire;
mod room;
mod snapshots;
mod sweep;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use crate::core::Core;
use crate::disk::is_full;
use crate::files::FileError;
use crate::options::PlantedBug;
use crate::state::State;
use crate::{Fatal, Offset, OpenError, StreamId};

use retire::Retiring;
pub(crate) use room::BALLAST_NAME;
use room::{Room, Turn};
pub(crate) use snapshots::{SNAPSHOT_DIR, Snapshots, load_snapshots};
pub(crate) use sweep::sweep;

/// A snapshot that recovery could start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeptSnapshot {
    pub(crate) number: u64,
    pub(crate) floor: u64,
    pub(crate) bytes: u64,
}

/// Up to where each partition was in segments when a snapshot was taken.
type Flushed = HashMap<StreamId, Offset>;

/// A snapshot that is whole but waits for the log to be durable up to `end`.
#[derive(Debug)]
struct Pending {
    kept: KeptSnapshot,
    flushed: Flushed,
    end: u64,
}

#[derive(Debug)]
struct House {
    /// Good snapshots, oldest first; at most two.
    kept: VecDeque<KeptSnapshot>,
    /// For each of these.
    flushed: VecDeque<Flushed>,
    pending: Option<Pending>,
    room: Room,
    /// Whether new data is all but refused for want of room.
    is_tight: bool,
    /// Whether the next step retires before it writes zeros.
    is_retirements_turn: bool,
    /// The stride being retired.
    retiring: Option<Retiring>,
    /// The chain value of the last group below the floor.
    floor_chain: u32,
    /// The old log to look at next for dead messages.
    old_log_turn: u64,
    /// The floor as it was when an old log was last looked at.
    old_logs_seen: u64,
}

/// The keeper's own state; only the keeper role takes its lock, and holds it while it works.
#[derive(Debug)]
pub(crate) struct Keeper {
    house: Mutex<House>,
}

impl Keeper {
    pub(crate) fn new(snapshots: &Snapshots) -> Self {
        let manifests: Vec<_> =
            std::iter::once(&snapshots.manifest).chain(&snapshots.older).collect();
        let manifests = manifests.into_iter().take(snapshots.kept.len());
        let house = House {
            kept: snapshots.kept.iter().copied().collect(),
            flushed: manifests.rev().map(snapshots::flushed_of).collect(),
            pending: None,
            room: Room::default(),
            is_tight: false,
            is_retirements_turn: false,
            retiring: None,
            floor_chain: snapshots.manifest.floor_chain,
            old_log_turn: 0,
            old_logs_seen: 0,
        };
        Self { house: Mutex::new(house) }
    }

    /// The first measurement, before anything is taken.
    pub(crate) fn opened(&self, core: &Core) -> Result<(), OpenError> {
        let mut house = self.house.lock().unwrap_or_else(PoisonError::into_inner);
        house
            .find_ballast(core)
            .and_then(|()| house.measure(core))
            .map_err(|source| OpenError::Io { doing: "measure the disk".into(), source })
    }

    /// Up to where `partition` is in segments in every snapshot a start may begin from.
    pub(crate) fn flushed(&self, partition: StreamId) -> Offset {
        let house = self.house.lock().unwrap_or_else(PoisonError::into_inner);
        match house.flushed.front() {
            Some(oldest) if house.kept.len() >= GENERATIONS => {
                oldest.get(&partition).copied().unwrap_or_default()
            }
            _ => Offset::ZERO,
        }
    }

    /// One piece of work; `Ok(false)` if there is none.
    pub(crate) fn step(&self, core: &Core, state: &dyn State) -> Result<bool, Fatal> {
        let mut house = self.house.lock().unwrap_or_else(PoisonError::into_inner);
        let measured = house.measure(core);
        let measured =
            measured.map_err(|source| Fatal { doing: "measure the disk".into(), source });
        let worked = measured.and_then(|()| house.work(core, state));
        if worked.is_err() {
            core.wal.poison();
        }
        worked
    }
}

/// A piece of work: `Ok(false)` if there is none of its kind.
type Piece = fn(&mut House, &Core, &dyn State) -> Result<bool, Fatal>;

impl House {
    /// Does the first piece there is. One that lacks room is passed over, for those behind it may
    /// make some; publishers are refused meanwhile.
    fn work(&mut self, core: &Core, state: &dyn State) -> Result<bool, Fatal> {
        let pieces: [Piece; 10] = [
            |house, core, _| house.ballast(core),
            |house, core, _| house.prepare_segment(core),
            |house, core, _| house.publish(core),
            |house, core, _| house.recycle(core),
            |house, core, _| house.remove_garbage(core),
            |house, core, _| house.write_ahead(core, Turn::EverySecond),
            |house, core, state| house.or_waits(|house| house.snapshot(core, state)),
            |house, core, state| house.or_waits(|house| house.retire(core, state)),
            |house, core, state| house.or_waits(|house| house.tidy_old_logs(core, state)),
            |house, core, _| house.write_ahead(core, Turn::Now),
        ];
        for piece in pieces {
            match piece(self, core, state) {
                Ok(false) => {}
                Err(fatal) if is_full(&fatal.source) => self.room.lacked(),
                done => return done,
            }
        }
        Ok(false)
    }

    /// Waits for the snapshot that waits for the log, and for room after a failure for want of it.
    fn or_waits(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<bool, Fatal>,
    ) -> Result<bool, Fatal> {
        if self.pending.is_some() || !self.room.is_enough() { Ok(false) } else { work(self) }
    }

    /// The older of the two generations: what is below its floor is needed by neither.
    fn oldest_kept(&self) -> KeptSnapshot {
        match self.kept.front() {
            Some(oldest) if self.kept.len() >= GENERATIONS => *oldest,
            _ => KeptSnapshot { number: 0, floor: 0, bytes: 0 },
        }
    }

    /// Takes WAL segments that no kept snapshot needs out of use (rule 4).
    fn recycle(&self, core: &Core) -> Result<bool, Fatal> {
        let floor = match core.options.planted {
            PlantedBug::RecyclesBeforeSync => core.floor.load(Ordering::Acquire),
            PlantedBug::FallbackSnapshotWithoutItsWal => {
                self.kept.back().map_or(0, |newest| newest.floor)
            }
            _ => self.oldest_kept().floor,
        };
        core.wal
            .segments
            .release_below(floor)
            .map_err(|source| Fatal { doing: "remove a WAL segment".into(), source })
    }

    fn remove_garbage(&self, core: &Core) -> Result<bool, Fatal> {
        let files = core.garbage.take(self.oldest_kept().number, GARBAGE_STEP_FILES);
        let mut directories = BTreeSet::new();
        for file in &files {
            match core.disk.remove(&file.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Fatal { doing: format!("remove {}", file.path), source: error });
                }
                _ => directories.extend(file.path.rsplit_once('/').map(|(directory, _)| directory)),
            }
        }
        // A name that could come back keeps its bytes: on a full disk they are wanted now.
        for directory in directories.into_iter().filter(|_| self.is_tight) {
            core.disk
                .sync_dir(directory)
                .map_err(|source| Fatal { doing: format!("sync directory {directory}"), source })?;
        }
        Ok(!files.is_empty())
    }
}

fn fatal(error: FileError) -> Fatal {
    match error {
        FileError::Io { doing, path, source } => Fatal { doing: format!("{doing} {path}"), source },
        other => Fatal { doing: other.to_string(), source: io::Error::other(other) },
    }
}

/// Snapshots kept.
const GENERATIONS: usize = 2;
/// Files removed in one step.
const GARBAGE_STEP_FILES: usize = 64;
