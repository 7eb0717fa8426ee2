//! Walks the log without changing it: files, groups, facts, and where it ends or breaks off.

use std::sync::Arc;

use super::Finding;
use crate::disk::Disk;
use crate::files::FileError;
use crate::keeper::load_snapshots;
use crate::options::PlantedBug;
use crate::recovery::chain::{self, Files};
use crate::wal::layout::{GROUP_HEADER_BYTES, GroupHeader, Kind};
use crate::wal::scan::{ScannedGroup, ScannedItem, read_group};
use crate::wal::segments::{WAL_DIR, WalSegment};
use crate::{Lsn, OpenError, StreamId};

/// A file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalFile {
    /// Where it is.
    pub path: String,
    /// Its number.
    pub seq: u64,
    /// Which life of the file.
    pub generation: u64,
    /// The place of its first group.
    pub start: Lsn,
    /// Where what counts of it ends at the latest: its own end, or the start of the next file.
    pub end: Lsn,
    /// Everything below was durable when it was begun.
    pub durable: Lsn,
}

/// A group: what one sync made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalGroup {
    /// The file.
    pub path: String,
    /// Where in the file.
    pub position: u64,
    /// Its place.
    pub lsn: Lsn,
    /// Bytes, the padding included.
    pub bytes: u64,
    /// Frames in it; 0 proves the group before.
    pub frames: u32,
    /// Everything below was durable when it was written.
    pub durable_upto: Lsn,
}

/// A fact of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalItem {
    /// The file.
    pub path: String,
    /// Where in the file.
    pub position: u64,
    /// Its frame: facts of one frame become durable together.
    pub frame: Lsn,
    /// Its place.
    pub lsn: Lsn,
    /// What it is, a word of `docs/format/wal.md`.
    pub kind: &'static str,
    /// The partition or queue; 0 for the broker's own state.
    pub stream: StreamId,
    /// What it means depends on the kind: base offset, start offset, number of queues or messages.
    pub aux: u64,
    /// Bytes of its payload.
    pub bytes: u64,
    /// Whether the payload is what was written.
    pub is_whole: bool,
}

/// What the walk meets, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalEvent {
    /// A file begins.
    File(WalFile),
    /// A group begins.
    Group(WalGroup),
    /// A fact of it.
    Item(WalItem),
}

/// What the walk found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalSummary {
    /// Files in use.
    pub files: u64,
    /// Files that are free, unfinished or damaged at their head.
    pub spares: Vec<String>,
    /// Groups in them.
    pub groups: u64,
    /// Frames in those.
    pub frames: u64,
    /// Facts in those.
    pub items: u64,
    /// Where the log is needed from: below everything is in the newest snapshot.
    pub floor: Lsn,
    /// Where it ends.
    pub end: Lsn,
    /// Everything below is known to have been durable.
    pub proven: Lsn,
    /// Acknowledged data that cannot be read.
    pub damage: Vec<Finding>,
}

/// Walks the whole log of a data directory, what snapshots already contain included, and judges it as
/// a start would (store.md rule 1). Damage is in the summary; an error is the disk's.
pub fn wal(disk: &dyn Disk, each: &mut dyn FnMut(&WalEvent)) -> Result<WalSummary, FileError> {
    walk(disk, &mut |event, _| each(event))
}

/// As [`wal`], with the payload of each fact.
pub(super) fn walk(
    disk: &dyn Disk,
    each: &mut dyn FnMut(&WalEvent, &[u8]),
) -> Result<WalSummary, FileError> {
    let mut summary = WalSummary::default();
    let snapshots = match load_snapshots(disk) {
        Ok(snapshots) => snapshots,
        Err(error) => return Err(unreadable(error)),
    };
    let files = chain::list(disk).map_err(unreadable)?;
    let (floor, seed) = (snapshots.manifest.floor, snapshots.manifest.floor_chain);
    summary.floor = Lsn(floor);
    summary.spares = files.spares.iter().map(|(path, _)| path.clone()).collect();
    match chain::follow(&files, floor, seed, snapshots.known_durable, PlantedBug::None) {
        Ok(chain) => {
            summary.end = Lsn(chain.end);
            summary.proven = Lsn(chain.proven);
        }
        Err(OpenError::Corrupt { what, lsn }) => {
            let (path, position) = place(&files, lsn.0);
            summary.end = lsn;
            summary.damage.push(Finding { path, position, what });
        }
        Err(error) => return Err(unreadable(error)),
    }
    for segment in &files.segments {
        if segment.end() > segment.header.start {
            file(segment, &mut summary, each)?;
        }
    }
    Ok(summary)
}

/// Walks one file of the log alone. Nothing tells where it should end: where the groups do, the walk
/// ends, and only payloads are judged.
pub fn wal_file(
    disk: &dyn Disk,
    path: &str,
    each: &mut dyn FnMut(&WalEvent),
) -> Result<WalSummary, FileError> {
    let mut summary = WalSummary::default();
    let Some(segment) = chain::read_segment(disk, path).map_err(unreadable)? else {
        let what = "the header is not that of a log segment".to_owned();
        summary.damage.push(Finding { path: path.to_owned(), position: 0, what });
        return Ok(summary);
    };
    summary.end = Lsn(u64::MAX); // judges every payload
    file_at(&Arc::new(segment), path, &mut summary, &mut |event, _| each(event))?;
    Ok(summary)
}

fn file(
    segment: &Arc<WalSegment>,
    summary: &mut WalSummary,
    each: &mut dyn FnMut(&WalEvent, &[u8]),
) -> Result<(), FileError> {
    file_at(segment, &segment.path(), summary, each)
}

fn file_at(
    segment: &Arc<WalSegment>,
    path: &str,
    summary: &mut WalSummary,
    each: &mut dyn FnMut(&WalEvent, &[u8]),
) -> Result<(), FileError> {
    let io = |source| FileError::io("reading", path, source);
    let header = segment.header;
    let begun = WalFile {
        path: path.to_owned(),
        seq: header.seq,
        generation: header.generation,
        start: Lsn(header.start),
        end: Lsn(segment.end()),
        durable: Lsn(header.durable),
    };
    summary.files += 1;
    each(&WalEvent::File(begun), &[]);
    let mut head = [0; GROUP_HEADER_BYTES];
    let mut at = header.start;
    let read = segment.file.read_at(&mut head, segment.position(at)).map_err(io)?;
    let first = GroupHeader::decode(&head).filter(|_| read == head.len());
    let Some((first, _)) = first else { return Ok(()) };
    let mut chain = first.prev_chain;
    while let Some(group) = read_group(segment, at, chain).map_err(io)? {
        (at, chain) = (group.end(), group.chain);
        take(segment, path, &group, summary, each);
    }
    Ok(())
}

fn take(
    segment: &WalSegment,
    path: &str,
    group: &ScannedGroup,
    summary: &mut WalSummary,
    each: &mut dyn FnMut(&WalEvent, &[u8]),
) {
    summary.groups += 1;
    let told = WalGroup {
        path: path.to_owned(),
        position: segment.position(group.base()),
        lsn: Lsn(group.base()),
        bytes: group.end() - group.base(),
        frames: group.header.frames,
        durable_upto: Lsn(group.header.durable_upto),
    };
    each(&WalEvent::Group(told), &[]);
    for frame in group.frames() {
        summary.frames += 1;
        for item in &frame.items {
            summary.items += 1;
            let told = told_item(segment, path, frame.lsn, item);
            // Behind the end nothing was promised; below the floor nobody needs it any more.
            let counts = item.lsn >= summary.floor.0 && item.lsn < summary.end.0;
            if !told.is_whole && counts {
                let what = format!("the payload of the {} at {} is damaged", told.kind, told.lsn);
                let position = told.position;
                summary.damage.push(Finding { path: path.to_owned(), position, what });
            }
            each(&WalEvent::Item(told), &item.payload);
        }
    }
}

fn told_item(segment: &WalSegment, path: &str, frame: u64, item: &ScannedItem) -> WalItem {
    WalItem {
        path: path.to_owned(),
        position: segment.position(item.lsn),
        frame: Lsn(frame),
        lsn: Lsn(item.lsn),
        kind: word(item.header.kind),
        stream: StreamId(item.header.stream),
        aux: item.header.aux,
        bytes: u64::from(item.header.payload_bytes),
        is_whole: item.is_whole(),
    }
}

const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Create => "create",
        Kind::Delete => "delete",
        Kind::Trim => "trim",
        Kind::Batch => "batch",
        Kind::Message => "message",
        Kind::Settle => "settle",
        Kind::State => "state",
        Kind::Replaced => "replaced",
    }
}

/// The file and position at which `lsn` stands, or should.
fn place(files: &Files, lsn: u64) -> (String, u64) {
    let holder = files.segments.iter().rev().find(|segment| segment.header.start <= lsn);
    match holder {
        Some(segment) => (segment.path(), segment.position(lsn)),
        None => (WAL_DIR.to_owned(), 0),
    }
}

/// An error that is not damage of the log itself.
pub(super) fn unreadable(error: OpenError) -> FileError {
    match error {
        OpenError::NewerFormat { path, found, supported } => {
            FileError::NewerFormat { path, found, supported }
        }
        OpenError::Corrupt { what, lsn } => FileError::damaged(WAL_DIR, lsn.0, what),
        OpenError::Io { doing, source } => FileError::io("while trying to", &doing, source),
    }
}
