//! Reads batches of one segment by offset or time.

use std::ops::Range;

use bytes::Bytes;

use super::SegmentMeta;
use super::scan::{Scan, Scanned};
use crate::Offset;
use crate::batch::BatchHeader;
use crate::disk::Disk;
use crate::files::{FileError, NamedFile};
use crate::index::SegmentIndex;
use crate::segment::scan::{check_crc, check_header};

/// An open segment. Positions are given, so any number of readers may share it.
#[derive(Clone, Debug)]
pub struct SegmentReader {
    file: NamedFile,
    meta: SegmentMeta,
}

impl SegmentReader {
    /// Opens the file `path` of the segment `meta`. Reads nothing yet.
    pub fn open(disk: &dyn Disk, path: &str, meta: SegmentMeta) -> Result<Self, FileError> {
        Ok(Self { file: NamedFile::open_read(disk, path)?, meta })
    }

    /// What it holds.
    #[must_use]
    pub const fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// Batches in one piece, from the one that contains `from` (or the first behind it, where
    /// compaction left a gap), below `end`, of at most `bytes_max`; the first comes whole even if it
    /// is larger. Every CRC was checked. Empty if there is none.
    pub fn read(
        &self,
        index: &SegmentIndex,
        from: Offset,
        end: Offset,
        bytes_max: usize,
    ) -> Result<Bytes, FileError> {
        let mut scan = Scan::of(self.file.clone(), &self.meta, index.floor(from));
        let first = loop {
            match scan.next_batch()? {
                Some(found) if found.header.last_offset() >= from => break found,
                Some(_) => {}
                None => return Ok(Bytes::new()),
            }
        };
        if first.header.base_offset >= end {
            return Ok(Bytes::new());
        }
        let behind = first.position + first.batch.len() as u64;
        let room = bytes_max.saturating_sub(first.batch.len());
        if room == 0 || behind >= self.meta.bytes {
            return Ok(first.batch);
        }
        self.read_run(&first, end, room)
    }

    /// The largest timestamp of the batches that hold a record at or above `from`.
    pub fn max_timestamp(
        &self,
        index: &SegmentIndex,
        from: Offset,
    ) -> Result<Option<i64>, FileError> {
        let mut scan = Scan::of(self.file.clone(), &self.meta, index.floor(from));
        let mut largest = None;
        while let Some(found) = scan.next_batch()? {
            if found.header.last_offset() >= from {
                largest = largest.max(Some(found.header.max_timestamp));
            }
        }
        Ok(largest)
    }

    /// The first batch with a timestamp at or above `timestamp_ms` and a record at or above `from`.
    pub fn find_timestamp(
        &self,
        index: &SegmentIndex,
        timestamp_ms: i64,
        from: Offset,
    ) -> Result<Option<Bytes>, FileError> {
        let Some(position) = index.first_at(timestamp_ms) else { return Ok(None) };
        let mut scan = Scan::of(self.file.clone(), &self.meta, position);
        while let Some(found) = scan.next_batch()? {
            let reaches = found.header.max_timestamp >= timestamp_ms;
            if reaches && found.header.last_offset() >= from {
                return Ok(Some(found.batch));
            }
        }
        Ok(None)
    }

    /// `first` and what follows it within `room`, read again in one piece: the first one stands in
    /// the page cache, and one piece is one write to the socket.
    fn read_run(&self, first: &Scanned, end: Offset, room: usize) -> Result<Bytes, FileError> {
        let start = first.position;
        let left = usize::try_from(self.meta.bytes - start).unwrap_or(usize::MAX);
        let piece = self.file.read(start, (first.batch.len() + room).min(left))?;
        let mut at = first.batch.len();
        let mut bounds = first.header.next_offset().0..self.meta.next.0;
        check_crc(&self.file, start, &first.header, piece.get(..at).unwrap_or_default())?;
        while let Some(rest) = piece.get(at..)
            && let Some(header) = self.header_of(rest, start + at as u64, &bounds)?
            && header.base_offset < end
            && let Some(batch) = rest.get(..header.bytes)
        {
            check_crc(&self.file, start + at as u64, &header, batch)?;
            at += header.bytes;
            bounds.start = header.next_offset().0;
        }
        let mut piece = Bytes::from(piece);
        piece.truncate(at);
        Ok(piece)
    }

    /// The header at the start of `rest`; `None` if it is cut off by the end of the piece.
    fn header_of(
        &self,
        rest: &[u8],
        position: u64,
        bounds: &Range<i64>,
    ) -> Result<Option<BatchHeader>, FileError> {
        if rest.len() < crate::batch::HEADER_BYTES {
            return Ok(None);
        }
        let header = BatchHeader::parse(rest)
            .map_err(|error| self.file.damaged(position, error.to_string()))?;
        check_header(&self.file, position, &header, bounds)?;
        Ok(Some(header))
    }
}
