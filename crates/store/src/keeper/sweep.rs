//! Files that no snapshot lists: put aside at a start, never deleted (rule 13).

use std::collections::HashSet;
use std::io;

use super::snapshots::path_of;
use super::{SNAPSHOT_DIR, Snapshots};
use crate::OpenError;
use crate::disk::Disk;
use crate::messages::{OLD_LOG_DIR, old_log_path};
use crate::streams::{PARTITIONS_DIR, segment_path};

/// Where they go.
const LOST_DIR: &str = "lost+found";

/// Moves what neither generation nor the log (`logged`) names to `lost+found/`. What only a snapshot can have left behind
/// unfinished is removed.
pub(crate) fn sweep(
    disk: &dyn Disk,
    snapshots: &Snapshots,
    logged: &[String],
) -> Result<(), OpenError> {
    let mut listed = listed(snapshots);
    listed.extend(logged.iter().cloned());
    for partition in names(disk, PARTITIONS_DIR)? {
        sweep_dir(disk, &format!("{PARTITIONS_DIR}/{partition}"), &listed)?;
    }
    sweep_dir(disk, OLD_LOG_DIR, &listed)?;
    sweep_dir(disk, SNAPSHOT_DIR, &listed)
}

fn listed(snapshots: &Snapshots) -> HashSet<String> {
    let mut listed: HashSet<String> =
        snapshots.kept.iter().map(|kept| path_of(kept.number)).collect();
    for manifest in std::iter::once(&snapshots.manifest).chain(&snapshots.older) {
        for (id, partition) in &manifest.partitions {
            listed.extend(partition.segments.iter().map(|file| segment_path(*id, file.file)));
        }
        listed.extend(manifest.old_logs.iter().map(|log| old_log_path(log.file)));
        listed.extend(manifest.garbage.iter().map(|file| file.path.clone()));
    }
    listed
}

fn sweep_dir(disk: &dyn Disk, dir: &str, listed: &HashSet<String>) -> Result<(), OpenError> {
    for name in names(disk, dir)? {
        let path = format!("{dir}/{name}");
        if listed.contains(&path) {
            continue;
        }
        let moved =
            if name.ends_with(".tmp") { disk.remove(&path) } else { put_aside(disk, &path) };
        moved.map_err(|source| OpenError::Io { doing: format!("put aside {path}"), source })?;
    }
    Ok(())
}

fn put_aside(disk: &dyn Disk, path: &str) -> io::Result<()> {
    disk.create_dir(LOST_DIR)?;
    let flat = path.replace('/', "-");
    let taken: HashSet<String> = disk.list(LOST_DIR)?.into_iter().collect();
    let mut name = flat.clone();
    let mut copy = 1_u64;
    while taken.contains(&name) {
        copy += 1;
        name = format!("{flat}.{copy}");
    }
    disk.rename(path, &format!("{LOST_DIR}/{name}"))
}

fn names(disk: &dyn Disk, dir: &str) -> Result<Vec<String>, OpenError> {
    match disk.list(dir) {
        Ok(names) => Ok(names),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(OpenError::Io { doing: format!("list {dir}"), source }),
    }
}
