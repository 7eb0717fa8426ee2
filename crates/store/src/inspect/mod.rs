//! What the log, a segment, an old log or a snapshot holds, as values to print, and whether it is whole.
//! Read-only; for `ottla inspect` and `ottla verify`.

mod directory;
mod wal;

use crate::batch::BatchHeader;
use crate::disk::Disk;
use crate::files::{FileError, NamedFile};
use crate::oldlog::{OldLogReader, OldLogSummary};
use crate::records::Records;
use crate::segment::{Scan, SegmentMeta};
use crate::snapshot::{Snapshot, SnapshotHeader};
use crate::{Lsn, Offset};

pub use directory::{Contents, DirectoryReport, NamedOldLog, NamedSegment, contents, directory};
pub use wal::{WalEvent, WalFile, WalGroup, WalItem, WalSummary, wal, wal_file};

/// Damage in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: String,
    /// Where in it.
    pub position: u64,
    /// What is wrong there.
    pub what: String,
}

/// What a segment holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Bytes up to the end or the first damage.
    pub bytes: u64,
    /// Batches in them.
    pub batches: u64,
    /// Records in those.
    pub records: u64,
    /// The first and the last offset.
    pub offsets: Option<(Offset, Offset)>,
    /// The largest timestamp in ms; -1 if there is none.
    pub max_timestamp: i64,
    /// The first damage; what stands behind it cannot be told apart.
    pub damage: Option<Finding>,
}

/// One object of a snapshot, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectSummary {
    /// Its key.
    pub key: Vec<u8>,
    /// The place of its newest fact.
    pub applied: Lsn,
    /// How many bytes it has.
    pub bytes: u64,
}

/// Walks the segment in the file `path`, every CRC and every record, handing each batch's position
/// and header to `each`. Without `meta` the whole file is taken for the segment, which it need not
/// be. Damage is in the summary; an error is the disk's.
pub fn segment(
    disk: &dyn Disk,
    path: &str,
    meta: Option<&SegmentMeta>,
    each: &mut dyn FnMut(u64, &BatchHeader),
) -> Result<SegmentSummary, FileError> {
    let meta = match meta {
        Some(meta) => meta.clone(),
        None => SegmentMeta {
            next: Offset(i64::MAX),
            bytes: NamedFile::open_read(disk, path)?.len()?,
            ..SegmentMeta::empty(0, Offset::ZERO)
        },
    };
    let mut scan = Scan::open(disk, path, &meta)?;
    let mut summary = SegmentSummary { max_timestamp: -1, ..SegmentSummary::default() };
    loop {
        let found = match scan.next_batch() {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(summary),
            Err(error) => {
                summary.damage = Some(finding(error)?);
                return Ok(summary);
            }
        };
        let header = &found.header;
        let records = Records::open(&found.batch)
            .and_then(|records| records.iter().try_fold(0, |sum, record| record.map(|_| sum + 1)));
        match records {
            Ok(records) => summary.records += records,
            Err(error) => {
                let (path, position) = (path.to_owned(), found.position);
                let what = error.to_string();
                summary.damage.get_or_insert(Finding { path, position, what });
            }
        }
        summary.bytes += found.batch.len() as u64;
        summary.batches += 1;
        let first = summary.offsets.map_or(header.base_offset, |(first, _)| first);
        summary.offsets = Some((first, header.last_offset()));
        summary.max_timestamp = summary.max_timestamp.max(header.max_timestamp);
        each(found.position, header);
    }
}

/// Opens the old log in the file `path` and reads all of it, index included. Without `bytes` the
/// whole file is taken for it. The summary is missing if it could not even be opened.
pub fn old_log(
    disk: &dyn Disk,
    path: &str,
    bytes: Option<u64>,
) -> Result<(Option<OldLogSummary>, Option<Finding>), FileError> {
    let bytes = match bytes {
        Some(bytes) => bytes,
        None => NamedFile::open_read(disk, path)?.len()?,
    };
    match OldLogReader::open(disk, path, bytes) {
        Ok(reader) => match reader.verify() {
            Ok(()) => Ok((Some(reader.summary()), None)),
            Err(error) => Ok((Some(reader.summary()), Some(finding(error)?))),
        },
        Err(error) => Ok((None, Some(finding(error)?))),
    }
}

/// Verifies the snapshot in the file `path` and lists its objects; or says where it is damaged.
pub fn snapshot(
    disk: &dyn Disk,
    path: &str,
) -> Result<Result<(SnapshotHeader, Vec<ObjectSummary>), Finding>, FileError> {
    let snapshot = match Snapshot::open(disk, path) {
        Ok(snapshot) => snapshot,
        Err(error) => return Ok(Err(finding(error)?)),
    };
    let mut objects = Vec::new();
    snapshot.for_each(|object| {
        let bytes = object.bytes.len() as u64;
        objects.push(ObjectSummary { key: object.key, applied: object.applied, bytes });
        Ok::<_, FileError>(())
    })?;
    Ok(Ok((*snapshot.header(), objects)))
}

/// Damage as a finding; what is not damage stays an error.
fn finding(error: FileError) -> Result<Finding, FileError> {
    match error {
        FileError::Damaged { path, position, what } => Ok(Finding { path, position, what }),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StreamId;
    use crate::batch::{BatchBuilder, RecordDraft};
    use crate::codec::Codec;
    use crate::mem_disk::MemDisk;
    use crate::oldlog::{OldLogWriter, OldMessage};
    use crate::segment::SegmentWriter;
    use crate::snapshot::SnapshotWriter;

    /// The file with one bit of the byte at `position` flipped.
    fn rot(disk: &MemDisk, path: &str, position: usize) {
        let mut bytes = disk.bytes(path);
        bytes[position] ^= 1;
        disk.put(path, &bytes);
    }

    #[test]
    fn a_segment_is_told_up_to_its_damage() {
        let disk = MemDisk::default();
        let mut writer = SegmentWriter::create(&disk, "a.seg", 1, Offset(5)).unwrap();
        let mut builder = BatchBuilder::new(Codec::Zstd);
        for timestamp_ms in [1, 9, 3] {
            builder.push(&RecordDraft { timestamp_ms, ..RecordDraft::default() });
        }
        let batch = builder.build();
        writer.push(&batch.to_bytes(Offset(5)), None).unwrap();
        writer.push(&batch.to_bytes(Offset(8)), None).unwrap();
        let meta = writer.finish().unwrap();
        let mut seen = Vec::new();
        let mut each = |position, header: &BatchHeader| seen.push((position, header.base_offset));
        let whole = segment(&disk, "a.seg", None, &mut each).unwrap();
        let one = batch.bytes_len() as u64;
        assert_eq!(seen, [(0, Offset(5)), (one, Offset(8))]);
        let expected = SegmentSummary {
            bytes: meta.bytes,
            batches: 2,
            records: 6,
            offsets: Some((Offset(5), Offset(10))),
            max_timestamp: 9,
            damage: None,
        };
        assert_eq!(whole, expected);
        rot(&disk, "a.seg", batch.bytes_len() + 60);
        let damaged = segment(&disk, "a.seg", Some(&meta), &mut |_, _| {}).unwrap();
        assert_eq!((damaged.batches, damaged.bytes), (1, one));
        assert_eq!(damaged.damage.unwrap().position, one);
    }

    #[test]
    fn an_old_log_is_read_in_full() {
        let disk = MemDisk::default();
        let mut writer = OldLogWriter::create(&disk, "a.old", Lsn(7)).unwrap();
        let (lsn, queue) = (Lsn(8), StreamId(1));
        writer.push(&OldMessage { lsn, queue, bytes: b"body" }).unwrap();
        let summary = writer.finish().unwrap();
        assert_eq!(old_log(&disk, "a.old", None).unwrap(), (Some(summary), None));
        rot(&disk, "a.old", 90);
        let (told, damage) = old_log(&disk, "a.old", None).unwrap();
        assert_eq!((told, damage.unwrap().position), (Some(summary), 64));
        rot(&disk, "a.old", 0);
        assert_eq!(old_log(&disk, "a.old", None).unwrap().0, None);
    }

    #[test]
    fn a_snapshot_is_listed_or_its_damage_told() {
        let disk = MemDisk::default();
        let mut writer = SnapshotWriter::create(&disk, "a.snap").unwrap();
        writer.object(b"topic/1", Lsn(3), b"state").unwrap();
        let (floor, begin, end) = (Lsn(1), Lsn(2), Lsn(4));
        let header = SnapshotHeader { number: 1, floor, begin, end, durable_upto: end };
        writer.finish(&header).unwrap();
        let object = ObjectSummary { key: b"topic/1".to_vec(), applied: Lsn(3), bytes: 5 };
        assert_eq!(snapshot(&disk, "a.snap").unwrap(), Ok((header, vec![object])));
        rot(&disk, "a.snap", 95);
        assert_eq!(snapshot(&disk, "a.snap").unwrap().unwrap_err().position, 64);
    }
}
