//! Walks a segment batch by batch, in bounded pieces.

use std::ops::Range;

use bytes::Bytes;

use super::SegmentMeta;
use crate::Offset;
use crate::batch::{BatchHeader, CRC_COVERS_FROM, HEADER_BYTES};
use crate::disk::Disk;
use crate::files::{FileError, NamedFile};
use crate::index::SegmentIndex;
use crate::limits::FRAME_BYTES_MAX;

/// A batch found by a [`Scan`].
#[derive(Clone, Debug)]
pub struct Scanned {
    /// Where it begins.
    pub position: u64,
    /// Its header.
    pub header: BatchHeader,
    /// All of it, CRC checked.
    pub batch: Bytes,
}

/// Reads the batches of a segment from a position on; after an error it ends. Holds a piece of the
/// file and at most one batch in memory.
#[derive(Debug)]
pub struct Scan {
    file: NamedFile,
    position: u64,
    end: u64,
    piece: Bytes,
    /// Offsets must not fall below the start, nor reach the end.
    bounds: Range<i64>,
}

impl Scan {
    /// All batches of the segment `meta` in the file `path`.
    pub fn open(disk: &dyn Disk, path: &str, meta: &SegmentMeta) -> Result<Self, FileError> {
        Ok(Self::of(NamedFile::open_read(disk, path)?, meta, 0))
    }

    pub(super) fn of(file: NamedFile, meta: &SegmentMeta, position: u64) -> Self {
        let bounds = meta.base.0..meta.next.0;
        Self { file, position, end: meta.bytes, piece: Bytes::new(), bounds }
    }

    /// The next batch; `None` at the end.
    pub fn next_batch(&mut self) -> Result<Option<Scanned>, FileError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let next = self.take_batch();
        if next.is_err() {
            self.position = self.end;
        }
        next.map(Some)
    }

    fn take_batch(&mut self) -> Result<Scanned, FileError> {
        let position = self.position;
        self.fill(HEADER_BYTES)?;
        let header = self.header()?;
        self.fill(header.bytes)?;
        let batch = self.piece.split_to(header.bytes);
        check_crc(&self.file, position, &header, &batch)?;
        self.position += header.bytes as u64;
        self.bounds.start = header.next_offset().0;
        Ok(Scanned { position, header, batch })
    }

    fn header(&self) -> Result<BatchHeader, FileError> {
        let header = BatchHeader::parse(&self.piece)
            .map_err(|error| self.file.damaged(self.position, error.to_string()))?;
        check_header(&self.file, self.position, &header, &self.bounds)?;
        Ok(header)
    }

    /// Makes the piece hold `bytes` from the position on.
    fn fill(&mut self, bytes: usize) -> Result<(), FileError> {
        if self.piece.len() >= bytes {
            return Ok(());
        }
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        if left < bytes {
            return Err(self.file.damaged(self.position, "a batch reaches beyond the segment"));
        }
        let wanted = bytes.max(PIECE_BYTES).min(left);
        self.piece = self.file.read(self.position, wanted)?.into();
        Ok(())
    }
}

/// Notes in `index` what follows `from`, a position and the offset that comes there, up to the end of
/// the segment or about `bytes_max` further. Returns where it ended, likewise.
pub(crate) fn index_on(
    disk: &dyn Disk,
    path: &str,
    meta: &SegmentMeta,
    index: &mut SegmentIndex,
    from: (u64, Offset),
    bytes_max: u64,
) -> Result<(u64, Offset), FileError> {
    let file = NamedFile::open_read(disk, path)?;
    let (mut position, mut bounds) = (from.0, from.1.0..meta.next.0);
    let end = meta.bytes.min(position.saturating_add(bytes_max));
    let mut piece: (u64, Vec<u8>) = (0, Vec::new());
    let mut bytes_before = 0;
    while position < end {
        let left = meta.bytes - position;
        let in_piece = |piece: &(u64, Vec<u8>)| usize::try_from(position - piece.0).ok();
        let header_in = |piece: &(u64, Vec<u8>)| {
            piece.1.get(in_piece(piece)?..)?.first_chunk::<HEADER_BYTES>().copied()
        };
        if header_in(&piece).is_none() {
            let is_apart = bytes_before > INDEX_PIECE_BYTES;
            let wanted = if is_apart { HEADER_BYTES } else { INDEX_PIECE_BYTES };
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(wanted);
            piece = (position, file.read(position, wanted)?);
        }
        let head = header_in(&piece)
            .ok_or_else(|| file.damaged(position, "less than a header is left"))?;
        let header =
            BatchHeader::parse(&head).map_err(|error| file.damaged(position, error.to_string()))?;
        check_header(&file, position, &header, &bounds)?;
        if header.bytes as u64 > left {
            return Err(file.damaged(position, "a batch reaches beyond the segment"));
        }
        index.push(position, &header);
        bounds.start = header.next_offset().0;
        position += header.bytes as u64;
        bytes_before = header.bytes;
    }
    Ok((position, Offset(bounds.start)))
}

/// The largest timestamp of a segment's first batch, in ms; -1 if it has none, or there is no batch.
pub fn first_timestamp(disk: &dyn Disk, path: &str, meta: &SegmentMeta) -> Result<i64, FileError> {
    if meta.bytes == 0 {
        return Ok(-1);
    }
    let file = NamedFile::open_read(disk, path)?;
    let head = file.read(0, HEADER_BYTES)?;
    let header = BatchHeader::parse(&head).map_err(|error| file.damaged(0, error.to_string()))?;
    Ok(header.max_timestamp)
}

/// A header that cannot be one is damage, before its length is believed.
pub(super) fn check_header(
    file: &NamedFile,
    position: u64,
    header: &BatchHeader,
    bounds: &Range<i64>,
) -> Result<(), FileError> {
    if header.bytes > FRAME_BYTES_MAX {
        return Err(file.damaged(position, format!("a batch of {} bytes", header.bytes)));
    }
    let (base, last) = (header.base_offset.0, header.last_offset().0);
    if base < bounds.start || last < base || last >= bounds.end {
        let what = format!("a batch with offsets {base} to {last}, outside {bounds:?}");
        return Err(file.damaged(position, what));
    }
    Ok(())
}

/// Kafka's CRC covers all but the first 21 bytes; those are judged by [`check_header`].
pub(super) fn check_crc(
    file: &NamedFile,
    position: u64,
    header: &BatchHeader,
    batch: &[u8],
) -> Result<(), FileError> {
    let computed = crc32c::crc32c(batch.get(CRC_COVERS_FROM..).unwrap_or_default());
    if computed == header.crc {
        return Ok(());
    }
    let base = header.base_offset;
    Err(file.damaged(position, format!("the checksum of the batch at offset {base} fails")))
}

/// Bytes read at once while scanning everything.
const PIECE_BYTES: usize = 256 << 10;
/// Bytes read at once while looking at headers only, unless batches are larger.
const INDEX_PIECE_BYTES: usize = 16 << 10;
