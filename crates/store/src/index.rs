//! The sparse index of a segment: where to start looking for an offset or a time.
//!
//! It is a hint. It is rebuilt from the segment when it is missing, damaged or of another length,
//! and never says what the segment holds. Layout: `docs/format/segment.md`.

use std::ops::Range;

use crate::Offset;
use crate::batch::BatchHeader;
use crate::disk::Disk;
use crate::files::{FileError, FileWriter, NamedFile, i64_at, u32_at, u64_at};

/// One entry for every [`INDEX_INTERVAL_BYTES`] of a segment, at a batch's first byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentIndex {
    entries: Vec<IndexEntry>,
}

/// What stands from `position` up to the next entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Base offset of the batch at `position`.
    pub offset: Offset,
    /// A batch begins here.
    pub position: u64,
    /// The largest timestamp of the batches from here to the next entry, in ms.
    pub max_timestamp: i64,
}

impl SegmentIndex {
    /// Notes the batch that was appended at `position`.
    pub fn push(&mut self, position: u64, header: &BatchHeader) {
        if let Some(last) = self.entries.last_mut()
            && position < last.position + INDEX_INTERVAL_BYTES
        {
            last.max_timestamp = last.max_timestamp.max(header.max_timestamp);
            return;
        }
        self.entries.push(IndexEntry {
            offset: header.base_offset,
            position,
            max_timestamp: header.max_timestamp,
        });
    }

    /// Its entries, ascending.
    #[must_use]
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// Where to start looking for `offset`: not behind the batch that holds it.
    #[must_use]
    pub fn floor(&self, offset: Offset) -> u64 {
        self.span(offset).start
    }

    /// The batch that holds `offset`, if there is one, begins at the start of this or in it.
    #[must_use]
    pub fn span(&self, offset: Offset) -> Range<u64> {
        let above = self.entries.partition_point(|entry| entry.offset <= offset);
        let Some(floor) = above.checked_sub(1).and_then(|at| self.entries.get(at)) else {
            return 0..0;
        };
        if floor.offset == offset {
            return floor.position..floor.position;
        }
        let most = floor.position + INDEX_INTERVAL_BYTES;
        floor.position..self.entries.get(above).map_or(most, |next| next.position.min(most))
    }

    /// Where the first batch with a timestamp at or above `timestamp_ms` is at the earliest; `None`
    /// if there is none.
    #[must_use]
    pub fn first_at(&self, timestamp_ms: i64) -> Option<u64> {
        let entry = self.entries.iter().find(|entry| entry.max_timestamp >= timestamp_ms)?;
        Some(entry.position)
    }

    /// Writes it beside its segment of `segment_bytes`, synced.
    pub fn write(&self, disk: &dyn Disk, path: &str, segment_bytes: u64) -> Result<(), FileError> {
        let mut writer = FileWriter::create(disk, path)?;
        writer.push(&self.encode(segment_bytes))?;
        writer.finish()?;
        Ok(())
    }

    /// Reads the index of a segment of `segment_bytes`. An error of any kind means: rebuild it.
    pub fn load(disk: &dyn Disk, path: &str, segment_bytes: u64) -> Result<Self, FileError> {
        let file = NamedFile::open_read(disk, path)?;
        let most = HEADER_BYTES as u64
            + (segment_bytes / INDEX_INTERVAL_BYTES + 1) * ENTRY_BYTES as u64
            + 4;
        let length = usize::try_from(file.len()?.min(most)).unwrap_or(usize::MAX);
        let bytes = file.read(0, length)?;
        Self::decode(&bytes, segment_bytes).ok_or_else(|| file.damaged(0, "not this index"))
    }

    fn encode(&self, segment_bytes: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.entries.len() * ENTRY_BYTES + 4);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&INDEX_FORMAT.to_le_bytes());
        bytes.extend_from_slice(&segment_bytes.to_le_bytes());
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.offset.0.to_le_bytes());
            bytes.extend_from_slice(&entry.position.to_le_bytes());
            bytes.extend_from_slice(&entry.max_timestamp.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], segment_bytes: u64) -> Option<Self> {
        let (covered, crc) = bytes.split_last_chunk::<4>()?;
        let whole = crc32c::crc32c(covered) == u32::from_le_bytes(*crc)
            && covered.starts_with(MAGIC)
            && u32_at(covered, 4)? == INDEX_FORMAT
            && u64_at(covered, 8)? == segment_bytes;
        if !whole {
            return None;
        }
        let (entries, rest) = covered.get(HEADER_BYTES..)?.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() {
            return None;
        }
        let entries: Option<Vec<_>> = entries.iter().map(|entry| decode_entry(entry)).collect();
        Some(Self { entries: entries? })
    }
}

fn decode_entry(entry: &[u8]) -> Option<IndexEntry> {
    Some(IndexEntry {
        offset: Offset(i64_at(entry, 0)?),
        position: u64_at(entry, 8)?,
        max_timestamp: i64_at(entry, 16)?,
    })
}

/// Bytes of a segment for one entry, at least.
pub const INDEX_INTERVAL_BYTES: u64 = 32 << 10;
/// The version of the index file.
pub const INDEX_FORMAT: u32 = 1;
const MAGIC: &[u8; 4] = b"OTLX";
const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem_disk::MemDisk;

    #[test]
    fn golden_bytes_of_an_index() {
        let entry = IndexEntry { offset: Offset(7), position: 0x102, max_timestamp: -1 };
        let index = SegmentIndex { entries: vec![entry] };
        let bytes = index.encode(0x0304);
        let mut expected = b"OTLX\x01\0\0\0\x04\x03\0\0\0\0\0\0".to_vec();
        expected.extend_from_slice(b"\x07\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0");
        expected.extend_from_slice(&[0xff; 8]);
        expected.extend_from_slice(&crc32c::crc32c(&expected).to_le_bytes());
        assert_eq!(bytes, expected);
        assert_eq!(SegmentIndex::decode(&bytes, 0x0304), Some(index));
    }

    #[test]
    fn a_damaged_or_foreign_index_is_not_used() {
        let disk = MemDisk::default();
        let entry = IndexEntry { offset: Offset(7), position: 0, max_timestamp: 5 };
        let index = SegmentIndex { entries: vec![entry] };
        index.write(&disk, "a.index", 100).unwrap();
        assert_eq!(SegmentIndex::load(&disk, "a.index", 100).unwrap(), index);
        assert!(SegmentIndex::load(&disk, "a.index", 101).is_err(), "of another length");
        let good = disk.bytes("a.index");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            disk.put("a.index", &bad);
            assert!(SegmentIndex::load(&disk, "a.index", 100).is_err(), "byte {at}");
        }
    }
}
