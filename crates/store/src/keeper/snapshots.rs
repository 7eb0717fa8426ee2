//! Snapshots: collected object by object while the log goes on, named only when the log is durable
//! beyond everything in them (rules 4, 5 and 14).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::{Flushed, GENERATIONS, House, KeptSnapshot, Pending, fatal};
use crate::core::Core;
use crate::disk::Disk;
use crate::files::FileError;
use crate::manifest::{Manifest, PartitionMeta};
use crate::options::PlantedBug;
use crate::snapshot::{self, Snapshot, SnapshotHeader, SnapshotObject, SnapshotWriter};
use crate::state::State;
use crate::streams::Stream;
use crate::{Fatal, Lsn, OpenError};

/// Where the snapshots lie.
pub(crate) const SNAPSHOT_DIR: &str = "snapshots";
const TEMPORARY: &str = "snapshots/next.tmp";
/// The store's own object; the engine's keys stand behind another first byte.
const MANIFEST_KEY: &[u8] = b"s";
const ENGINE_KEY: u8 = b'e';

/// What the snapshots on disk say.
#[derive(Debug)]
pub(crate) struct Snapshots {
    /// Of the newest good one; that of an empty store if there is none.
    pub(crate) manifest: Manifest,
    /// The engine's objects in the newest good one.
    pub(crate) objects: Vec<SnapshotObject>,
    /// Of the older generation, for the files it names.
    pub(crate) older: Option<Manifest>,
    /// The good ones, oldest first.
    pub(crate) kept: Vec<KeptSnapshot>,
    /// Numbers of those that are not good.
    pub(crate) bad: Vec<u64>,
    /// Up to where the log was durable, as the names of the snapshots prove.
    pub(crate) known_durable: u64,
    /// The largest number of any, good or not.
    pub(crate) last_number: u64,
}

/// Reads the newest good snapshot and what the one before it needs.
pub(crate) fn load_snapshots(disk: &dyn Disk) -> Result<Snapshots, OpenError> {
    let numbers = snapshot::list(disk, SNAPSHOT_DIR).map_err(refused)?;
    let mut found = Snapshots {
        manifest: Manifest::empty(),
        objects: Vec::new(),
        older: None,
        kept: Vec::new(),
        bad: Vec::new(),
        known_durable: 0,
        last_number: numbers.first().copied().unwrap_or(0),
    };
    for number in numbers {
        let Some((kept, durable, manifest, objects)) = load(disk, number)? else {
            found.bad.push(number);
            continue;
        };
        found.known_durable = found.known_durable.max(durable);
        match found.kept.len() {
            0 => (found.manifest, found.objects) = (manifest, objects),
            1 => found.older = Some(manifest),
            _ => continue,
        }
        found.kept.insert(0, kept);
    }
    Ok(found)
}

type Loaded = (KeptSnapshot, u64, Manifest, Vec<SnapshotObject>);

/// `None` if the snapshot is damaged; an error if it cannot be judged.
fn load(disk: &dyn Disk, number: u64) -> Result<Option<Loaded>, OpenError> {
    let path = path_of(number);
    let snapshot = match Snapshot::open(disk, &path) {
        Ok(snapshot) => snapshot,
        Err(FileError::Damaged { .. }) => return Ok(None),
        Err(error) => return Err(refused(error)),
    };
    let mut manifest = None;
    let mut objects = Vec::new();
    snapshot
        .for_each(|mut object| -> Result<(), FileError> {
            if object.key == MANIFEST_KEY {
                manifest = Manifest::decode(&object.bytes);
            } else if object.key.first() == Some(&ENGINE_KEY) {
                object.key.remove(0);
                objects.push(object);
            }
            Ok(())
        })
        .map_err(refused)?;
    let Some(manifest) = manifest else { return Ok(None) };
    let header = snapshot.header();
    let kept = KeptSnapshot { number, floor: manifest.floor, bytes: snapshot.bytes() };
    // It got its name only when the log was durable up to its end (`publish`): without what lies below
    // the objects would know more than the log.
    let durable = header.durable_upto.0.max(header.end.0);
    Ok(Some((kept, durable, manifest, objects)))
}

fn refused(error: FileError) -> OpenError {
    match error {
        FileError::NewerFormat { path, found, supported } => {
            OpenError::NewerFormat { path, found, supported }
        }
        FileError::Io { doing, path, source } => {
            OpenError::Io { doing: format!("{doing} {path}"), source }
        }
        damaged => OpenError::Corrupt { what: damaged.to_string(), lsn: Lsn::ZERO },
    }
}

/// Up to where each partition is in segments.
pub(super) fn flushed_of(manifest: &Manifest) -> Flushed {
    let partitions = manifest.partitions.iter();
    partitions.map(|(id, partition)| (*id, partition.retired_end)).collect()
}

pub(super) fn path_of(number: u64) -> String {
    format!("{SNAPSHOT_DIR}/{}", snapshot::file_name(number))
}

impl House {
    /// Writes a snapshot if the floor has moved since the last one. On a full disk also if files wait
    /// to be removed: there nothing moves the floor.
    pub(super) fn snapshot(&mut self, core: &Core, state: &dyn State) -> Result<bool, Fatal> {
        let floor = core.floor.load(Ordering::Acquire);
        let is_new = self.kept.back().map_or(0, |kept| kept.floor) < floor;
        let frees = self.is_tight && core.garbage.is_waiting(self.oldest_kept().number);
        if !is_new && !frees {
            return Ok(false);
        }
        self.write_snapshot(core, state, floor).inspect_err(|_| {
            drop(core.disk.remove(TEMPORARY)); // half a snapshot only takes room
        })?;
        Ok(true)
    }

    fn write_snapshot(&mut self, core: &Core, state: &dyn State, floor: u64) -> Result<(), Fatal> {
        let number = core.garbage.begin_snapshot();
        let begin = Lsn(core.wal.staging.end());
        let mut writer = SnapshotWriter::create(&*core.disk, TEMPORARY).map_err(fatal)?;
        let manifest = self.collect(core, number, floor);
        writer.object(MANIFEST_KEY, begin, &manifest.encode()).map_err(fatal)?;
        let mut failed = None;
        state.snapshot(&mut |key, applied, bytes| {
            let mut own = Vec::with_capacity(key.len() + 1);
            own.push(ENGINE_KEY);
            own.extend_from_slice(key);
            if failed.is_none() {
                failed = writer.object(&own, applied, bytes).err();
            }
        });
        if let Some(error) = failed {
            return Err(fatal(error));
        }
        let end = core.wal.staging.end();
        let header = SnapshotHeader {
            number,
            floor: Lsn(floor),
            begin,
            end: Lsn(end),
            durable_upto: Lsn(core.wal.proven()),
        };
        let bytes = writer.finish(&header).map_err(fatal)?;
        let flushed = flushed_of(&manifest);
        self.pending = Some(Pending { kept: KeptSnapshot { number, floor, bytes }, flushed, end });
        Ok(())
    }

    /// Gives the pending snapshot its name once no fact in it can be lost any more.
    pub(super) fn publish(&mut self, core: &Core) -> Result<bool, Fatal> {
        let hasty = core.options.planted == PlantedBug::LivenessFromUnsyncedSettles;
        let is_early = |pending: &Pending| core.wal.durable() < pending.end && !hasty;
        if self.pending.as_ref().is_none_or(is_early) {
            return Ok(false);
        }
        core.wal.sync_unsynced()?;
        let Some(Pending { kept, flushed, .. }) = self.pending.take() else { return Ok(false) };
        snapshot::publish(&*core.disk, TEMPORARY, &path_of(kept.number)).map_err(fatal)?;
        self.kept.push_back(kept);
        self.flushed.push_back(flushed);
        if self.flushed.len() > GENERATIONS {
            self.flushed.pop_front();
        }
        while self.kept.len() > GENERATIONS
            && let Some(old) = self.kept.pop_front()
        {
            let path = path_of(old.number);
            let mut removed = core.disk.remove(&path);
            if self.is_tight && removed.is_ok() {
                removed = core.disk.sync_dir(SNAPSHOT_DIR);
            }
            removed.map_err(|source| Fatal { doing: format!("remove {path}"), source })?;
        }
        Ok(true)
    }

    /// The store's own state as of the floor. Only the keeper moves the floor, so it stands still.
    fn collect(&self, core: &Core, number: u64, floor: u64) -> Manifest {
        let mut partitions = BTreeMap::new();
        let mut queues = Vec::new();
        for (id, stream) in core.streams.all() {
            match stream {
                Stream::Queue => queues.push(id),
                Stream::Partition(partition) => {
                    let state = partition.lock();
                    let meta = PartitionMeta {
                        start: state.start,
                        retired_end: state.retired_end,
                        changed: state.changed,
                        damaged: state.damaged.clone(),
                        segments: state.segments.to_vec(),
                        cleaned: state.cleaned,
                    };
                    drop(state);
                    partitions.insert(id, meta);
                }
            }
        }
        Manifest {
            number,
            floor,
            floor_chain: self.floor_chain,
            durable: core.wal.proven(),
            next_id: core.streams.next_id(),
            next_file: core.next_file.load(Ordering::Relaxed),
            partitions,
            queues,
            old_logs: core.old_logs.all().iter().map(|meta| (**meta).clone()).collect(),
            garbage: core.garbage.list(),
        }
    }
}
