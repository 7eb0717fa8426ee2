//! A partition's contiguous files: record batches, verbatim, one after the other, and nothing else.
//!
//! What a file holds is what its [`SegmentMeta`] says, never what its length suggests (rule 7).
//! Layout: `docs/format/segment.md`.

mod reader;
mod scan;

use crate::Offset;
use crate::batch::BatchHeader;
use crate::disk::Disk;
use crate::files::{FileError, FileWriter};
use crate::index::SegmentIndex;

pub use reader::SegmentReader;
pub(crate) use scan::index_on;
pub use scan::{Scan, Scanned, first_timestamp};

/// One contiguous file of a partition, below the WAL. The file may be longer: what is beyond `bytes`
/// does not count (rule 7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentMeta {
    /// The number in its name, never used twice in one store.
    pub file: u64,
    /// The first offset it may hold.
    pub base: Offset,
    /// The offset after its last record.
    pub next: Offset,
    /// Bytes of batches in it.
    pub bytes: u64,
    /// The largest timestamp in it, in ms; -1 if there is none.
    pub max_timestamp: i64,
}

impl SegmentMeta {
    /// A segment without a batch yet.
    #[must_use]
    pub const fn empty(file: u64, base: Offset) -> Self {
        Self { file, base, next: base, bytes: 0, max_timestamp: -1 }
    }
}

/// Appends a run of batches. Dropped without [`finish`](Self::finish), nothing of the run counts.
#[derive(Debug)]
pub struct SegmentWriter {
    writer: FileWriter,
    meta: SegmentMeta,
}

impl SegmentWriter {
    /// Starts the file `path` for the segment numbered `file` from `base` on. Its directory must
    /// exist, and must be synced after [`finish`](Self::finish).
    pub fn create(disk: &dyn Disk, path: &str, file: u64, base: Offset) -> Result<Self, FileError> {
        let writer = FileWriter::create(disk, path)?;
        Ok(Self { writer, meta: SegmentMeta::empty(file, base) })
    }

    /// Goes on behind what `meta` says. What the file has beyond that is cut off: it was never
    /// promised. A file that is shorter is damaged.
    pub fn resume(disk: &dyn Disk, path: &str, meta: SegmentMeta) -> Result<Self, FileError> {
        let writer = FileWriter::resume(disk, path, meta.bytes)?;
        Ok(Self { writer, meta })
    }

    /// Appends one whole stamped batch, and notes it in `index` if the caller keeps one.
    ///
    /// # Panics
    /// If its offsets are not above those before it: offset order is the caller's promise.
    pub fn push(
        &mut self,
        batch: &[u8],
        index: Option<&mut SegmentIndex>,
    ) -> Result<(), FileError> {
        let position = self.writer.position();
        let header = match BatchHeader::parse(batch) {
            Ok(header) if header.bytes == batch.len() => header,
            Ok(_) => {
                return Err(self.refused(position, "a batch with a wrong length was appended"));
            }
            Err(error) => return Err(self.refused(position, &error.to_string())),
        };
        let (base, next) = (header.base_offset, header.next_offset());
        assert!(base >= self.meta.next, "batch at {base} below {}", self.meta.next);
        assert!(next > base, "a batch that ends at {next} before its base {base}");
        self.writer.push(batch)?;
        if let Some(index) = index {
            index.push(position, &header);
        }
        self.meta.next = next;
        self.meta.bytes = self.writer.position();
        self.meta.max_timestamp = self.meta.max_timestamp.max(header.max_timestamp);
        Ok(())
    }

    /// Syncs what was pushed so far, so that [`finish`](Self::finish) has little left to sync.
    pub fn sync(&mut self) -> Result<(), FileError> {
        self.writer.sync()
    }

    /// What the segment will be, once finished.
    #[must_use]
    pub const fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// Writes, syncs and closes as one step (rule 6). On any error the file is to be abandoned and
    /// its range written to a new one.
    pub fn finish(self) -> Result<SegmentMeta, FileError> {
        let length = self.writer.finish()?;
        assert_eq!(length, self.meta.bytes, "a segment of another length than counted");
        Ok(self.meta)
    }

    fn refused(&self, position: u64, what: &str) -> FileError {
        FileError::damaged(self.writer.path(), position, what)
    }
}

#[cfg(test)]
mod tests;
