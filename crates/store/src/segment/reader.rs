//! Reads batches of one segment by offset or time.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::SegmentMeta;
use super::scan::Scan;
use crate::Offset;
use crate::batch::{BatchHeader, HEADER_BYTES};
use crate::buffers::Buffers;
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
    /// is larger. The CRC of each was checked. Empty if there is none.
    ///
    /// Who reads one piece after the other reads the disk once for each: the index says where in the
    /// file a piece begins.
    pub(crate) fn read(
        &self,
        buffers: &Arc<Buffers>,
        index: &SegmentIndex,
        from: Offset,
        end: Offset,
        bytes_max: usize,
    ) -> Result<Bytes, FileError> {
        let span = index.span(from);
        let mut at = span.start;
        if at >= self.meta.bytes {
            return Ok(Bytes::new());
        }
        let before = usize::try_from(span.end - span.start).unwrap_or(0);
        let mut piece = self.piece(buffers, at, before.saturating_add(bytes_max))?;
        let mut bounds = self.meta.base.0..self.meta.next.0;
        let mut run: Option<Range<u64>> = None;
        while at < self.meta.bytes {
            let Some(header) = self.header_of(piece.behind(at), at, &bounds)? else {
                if run.is_some() {
                    break;
                }
                piece = self.piece(buffers, at, bytes_max)?;
                continue;
            };
            bounds.start = header.next_offset().0;
            let behind = at + header.bytes as u64;
            if header.last_offset() < from {
                at = behind;
                continue;
            }
            let start = run.as_ref().map_or(at, |run| run.start);
            let is_too_much = run.is_some() && behind - start > bytes_max as u64;
            if header.base_offset >= end || is_too_much {
                break;
            }
            match piece.get(at..behind) {
                Some(batch) => check_crc(&self.file, at, &header, &batch)?,
                None if run.is_some() => break,
                None => return self.alone(buffers, at, &header),
            }
            run = Some(start..behind);
            at = behind;
        }
        Ok(run.and_then(|run| piece.get(run)).unwrap_or_default())
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

    /// `bytes` of the file from `position` on, or what there is; at least a header.
    fn piece(
        &self,
        buffers: &Arc<Buffers>,
        position: u64,
        bytes: usize,
    ) -> Result<Piece, FileError> {
        let left = usize::try_from(self.meta.bytes - position).unwrap_or(usize::MAX);
        if left < HEADER_BYTES {
            return Err(self.file.damaged(position, "less than a header is left"));
        }
        let bytes = self.file.read_shared(buffers, position, bytes.max(HEADER_BYTES).min(left))?;
        Ok(Piece { position, bytes })
    }

    /// The batch at `position`, which is larger than was asked for.
    fn alone(
        &self,
        buffers: &Arc<Buffers>,
        position: u64,
        header: &BatchHeader,
    ) -> Result<Bytes, FileError> {
        if header.bytes as u64 > self.meta.bytes - position {
            return Err(self.file.damaged(position, "a batch reaches beyond the segment"));
        }
        let batch = self.file.read_shared(buffers, position, header.bytes)?;
        check_crc(&self.file, position, header, &batch)?;
        Ok(batch)
    }

    /// The header at the start of `rest`; `None` if it is cut off by the end of the piece.
    fn header_of(
        &self,
        rest: &[u8],
        position: u64,
        bounds: &Range<i64>,
    ) -> Result<Option<BatchHeader>, FileError> {
        if rest.len() < HEADER_BYTES {
            return Ok(None);
        }
        let header = BatchHeader::parse(rest)
            .map_err(|error| self.file.damaged(position, error.to_string()))?;
        check_header(&self.file, position, &header, bounds)?;
        Ok(Some(header))
    }
}

/// What was read of a file at once.
struct Piece {
    position: u64,
    bytes: Bytes,
}

impl Piece {
    /// What of it stands at `position` of the file and behind.
    fn behind(&self, position: u64) -> &[u8] {
        let skip = usize::try_from(position - self.position).unwrap_or(usize::MAX);
        self.bytes.get(skip..).unwrap_or_default()
    }

    /// The bytes at `range` of the file; `None` if they are not all in it.
    fn get(&self, range: Range<u64>) -> Option<Bytes> {
        let start = usize::try_from(range.start - self.position).ok()?;
        let end = usize::try_from(range.end - self.position).ok()?;
        (end <= self.bytes.len()).then(|| self.bytes.slice(start..end))
    }
}
