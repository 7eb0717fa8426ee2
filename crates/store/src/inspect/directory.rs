//! A whole data directory: everything that a start or a reader would need, read in full.

use std::collections::HashSet;
use std::io;

use super::wal::{WalEvent, WalSummary, unreadable, walk};
use super::{Finding, finding, old_log, segment};
use crate::compacting::decode_replaced;
use crate::disk::Disk;
use crate::files::FileError;
use crate::keeper::{SNAPSHOT_DIR, load_snapshots};
use crate::manifest::Manifest;
use crate::messages::{OLD_LOG_DIR, old_log_path};
use crate::segment::SegmentMeta;
use crate::snapshot;
use crate::streams::{PARTITIONS_DIR, segment_path};
use crate::{Lsn, Offset, StreamId};

/// A segment that the newest snapshot or the log names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSegment {
    /// Its partition.
    pub partition: StreamId,
    /// Its file.
    pub path: String,
    /// What it should hold.
    pub meta: SegmentMeta,
}

/// An old log that the newest snapshot names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedOldLog {
    /// Its file.
    pub path: String,
    /// What counts of it.
    pub bytes: u64,
    /// The stride of the log that it stands for.
    pub range: (Lsn, Lsn),
    /// Messages in it.
    pub messages: u64,
}

/// What the newest good snapshot says is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Partitions and their first offset.
    pub partitions: Vec<(StreamId, Offset)>,
    /// Segments, by partition and offset.
    pub segments: Vec<NamedSegment>,
    /// Old logs, oldest first.
    pub old_logs: Vec<NamedOldLog>,
    /// Snapshots, newest first: number and file.
    pub snapshots: Vec<(u64, String)>,
}

/// What [`directory`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectoryReport {
    /// Snapshots that are whole.
    pub snapshots: u64,
    /// The log.
    pub wal: WalSummary,
    /// Partitions in the newest snapshot.
    pub partitions: u64,
    /// Segments.
    pub segments: u64,
    /// Batches in them.
    pub batches: u64,
    /// Records in those.
    pub records: u64,
    /// Old logs.
    pub old_logs: u64,
    /// Messages in them.
    pub messages: u64,
    /// Bytes read of segments and old logs.
    pub bytes: u64,
    /// What is damaged or missing, the log's damage included.
    pub findings: Vec<Finding>,
    /// Files that nothing names; the next start puts them into `lost+found/`.
    pub unlisted: Vec<String>,
}

/// What the newest good snapshot of a data directory says is there.
pub fn contents(disk: &dyn Disk) -> Result<Contents, FileError> {
    let snapshots = load_snapshots(disk).map_err(unreadable)?;
    let mut contents = named(&snapshots.manifest);
    for number in snapshot::list(disk, SNAPSHOT_DIR)? {
        let path = format!("{SNAPSHOT_DIR}/{}", snapshot::file_name(number));
        contents.snapshots.push((number, path));
    }
    Ok(contents)
}

fn named(manifest: &Manifest) -> Contents {
    let mut contents = Contents::default();
    for (id, partition) in &manifest.partitions {
        contents.partitions.push((*id, partition.start));
        contents.segments.extend(partition.segments.iter().map(|meta| NamedSegment {
            partition: *id,
            path: segment_path(*id, meta.file),
            meta: meta.clone(),
        }));
    }
    contents.old_logs.extend(manifest.old_logs.iter().map(|log| NamedOldLog {
        path: old_log_path(log.file),
        bytes: log.bytes,
        range: (Lsn(log.from), Lsn(log.to)),
        messages: log.messages,
    }));
    contents
}

/// Reads everything in a data directory that counts, every checksum and every record, and changes
/// nothing. Damage is in the report; an error is the disk's. While a broker writes, files may change
/// hands between the look at the snapshot and the look at them: what is found then has to be found
/// again to count.
pub fn directory(disk: &dyn Disk) -> Result<DirectoryReport, FileError> {
    let mut report = DirectoryReport::default();
    let contents = contents(disk)?;
    let mut listed: HashSet<String> = HashSet::new();
    for (_, path) in &contents.snapshots {
        listed.insert(path.clone());
        match super::snapshot(disk, path) {
            Ok(Ok(_)) => report.snapshots += 1,
            Ok(Err(damage)) => report.findings.push(damage),
            Err(error) => report.findings.push(missing(error)?),
        }
    }
    report.partitions = contents.partitions.len() as u64;
    let mut segments = contents.segments;
    report.wal = walk(disk, &mut |event, payload| {
        if let WalEvent::Item(item) = event
            && item.kind == "replaced"
            && item.is_whole
            && let Some((meta, _)) = decode_replaced(payload)
            && !segments.iter().any(|known| known.meta.file == meta.file)
        {
            // Its output may have been replaced itself, and be gone: listed, but not read.
            listed.insert(segment_path(item.stream, meta.file));
        }
    })?;
    report.findings.extend(report.wal.damage.iter().cloned());
    for named in segments.drain(..) {
        read_segment(disk, &named, &mut report)?;
        listed.insert(named.path);
    }
    for named in contents.old_logs {
        read_old_log(disk, &named, &mut report)?;
        listed.insert(named.path);
    }
    let snapshots = load_snapshots(disk).map_err(unreadable)?;
    for manifest in std::iter::once(&snapshots.manifest).chain(&snapshots.older) {
        listed.extend(named(manifest).segments.into_iter().map(|named| named.path));
        listed.extend(named(manifest).old_logs.into_iter().map(|named| named.path));
        listed.extend(manifest.garbage.iter().map(|file| file.path.clone()));
    }
    report.unlisted = unlisted(disk, &listed)?;
    Ok(report)
}

fn read_segment(
    disk: &dyn Disk,
    named: &NamedSegment,
    report: &mut DirectoryReport,
) -> Result<(), FileError> {
    report.segments += 1;
    match segment(disk, &named.path, Some(&named.meta), &mut |_, _| {}) {
        Ok(summary) => {
            report.batches += summary.batches;
            report.records += summary.records;
            report.bytes += summary.bytes;
            report.findings.extend(summary.damage);
        }
        Err(error) => report.findings.push(missing(error)?),
    }
    Ok(())
}

fn read_old_log(
    disk: &dyn Disk,
    named: &NamedOldLog,
    report: &mut DirectoryReport,
) -> Result<(), FileError> {
    report.old_logs += 1;
    match old_log(disk, &named.path, Some(named.bytes)) {
        Ok((summary, damage)) => {
            report.messages += summary.map_or(0, |summary| summary.messages);
            report.bytes += named.bytes;
            report.findings.extend(damage);
        }
        Err(error) => report.findings.push(missing(error)?),
    }
    Ok(())
}

/// A file that is not there, as a finding; other errors of the disk stay errors.
fn missing(error: FileError) -> Result<Finding, FileError> {
    match error {
        FileError::Io { path, source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Ok(Finding { path, position: 0, what: "the file is missing".to_owned() })
        }
        error => finding(error),
    }
}

/// Files in the directories of data that nothing names.
fn unlisted(disk: &dyn Disk, listed: &HashSet<String>) -> Result<Vec<String>, FileError> {
    let mut unlisted = Vec::new();
    let mut directories = vec![OLD_LOG_DIR.to_owned()];
    let partitions = names(disk, PARTITIONS_DIR)?;
    directories.extend(partitions.into_iter().map(|name| format!("{PARTITIONS_DIR}/{name}")));
    for directory in directories {
        for name in names(disk, &directory)? {
            let path = format!("{directory}/{name}");
            if !listed.contains(&path) {
                unlisted.push(path);
            }
        }
    }
    Ok(unlisted)
}

fn names(disk: &dyn Disk, directory: &str) -> Result<Vec<String>, FileError> {
    match disk.list(directory) {
        Ok(names) => Ok(names),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(FileError::io("listing", directory, error)),
    }
}
