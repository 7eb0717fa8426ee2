//! The keeper role: one bounded piece of housekeeping at a time.

use std::sync::{Mutex, PoisonError};

use crate::core::Core;
use crate::disk::Disk;
use crate::manifest::Manifest;
use crate::state::State;
use crate::{Fatal, Lsn, OpenError};

/// An object of a snapshot.
#[derive(Debug)]
pub(crate) struct SnapshotObject {
    pub(crate) key: Vec<u8>,
    pub(crate) applied: Lsn,
    pub(crate) bytes: Vec<u8>,
}

/// What the snapshots on disk say.
#[derive(Debug)]
pub(crate) struct Snapshots {
    pub(crate) manifest: Manifest,
    pub(crate) objects: Vec<SnapshotObject>,
    /// The largest `durable` of any.
    pub(crate) known_durable: u64,
    /// The largest number of any, good or not.
    pub(crate) last_number: u64,
}

/// Reads the newest good snapshot.
pub(crate) fn load_snapshots(_disk: &dyn Disk) -> Result<Snapshots, OpenError> {
    Ok(Snapshots {
        manifest: Manifest::empty(),
        objects: Vec::new(),
        known_durable: 0,
        last_number: 0,
    })
}

#[derive(Debug)]
struct Kept {
    floor_chain: u32,
}

/// The keeper's own state.
#[derive(Debug)]
pub(crate) struct Keeper {
    kept: Mutex<Kept>,
}

impl Keeper {
    pub(crate) fn new(snapshots: &Snapshots) -> Self {
        Self { kept: Mutex::new(Kept { floor_chain: snapshots.manifest.floor_chain }) }
    }

    /// The first measurement, before anything is taken.
    pub(crate) fn opened(&self, core: &Core, _snapshots: &Snapshots) -> Result<(), OpenError> {
        measure(core).map_err(|source| OpenError::Io { doing: "measure the disk".into(), source })
    }

    /// One piece of work.
    pub(crate) fn step(&self, core: &Core, _state: &dyn State) -> Result<bool, Fatal> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = kept.floor_chain;
        let io = |source| Fatal { doing: "prepare a WAL segment".into(), source };
        measure(core).map_err(io)?;
        let current = core.wal.staging.segment();
        if core.wal.segments.is_prepared(current.seq + 1) {
            return Ok(false);
        }
        let plan = current.next(core.options.segment_capacity());
        core.wal.segments.prepare(plan, core.wal.durable()).map_err(io)?;
        Ok(true)
    }
}

/// How much may still be written: free space less what retirement and two snapshots need (rule 3).
fn measure(core: &Core) -> std::io::Result<()> {
    let free = core.disk.free_bytes()?;
    let owed = core.wal.segments.file_bytes();
    let shrink = free.saturating_sub(2 * core.options.segment_capacity());
    core.admission.measured(free.saturating_sub(owed + core.options.disk_reserve_bytes), shrink);
    Ok(())
}

pub(crate) const SNAPSHOT_DIR: &str = "snapshots";
