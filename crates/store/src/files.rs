//! What segments, old logs and snapshots share: errors with a place, whole reads, buffered writes
//! that end in a sync.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;

use crate::buffers::Buffers;
use crate::disk::{Disk, DiskFile};

/// Why a file below the write-ahead log cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The disk failed. A file whose write or sync failed is abandoned, never tried again (rule 6).
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: String,
        /// The disk's own words.
        #[source]
        source: io::Error,
    },
    /// The bytes are not those that were written.
    #[error("{path} is damaged at byte {position}: {what}")]
    Damaged {
        /// The file.
        path: String,
        /// Where.
        position: u64,
        /// What was found.
        what: String,
    },
    /// Written by a newer version.
    #[error("{path} has format {found}; this version reads up to {supported}")]
    NewerFormat {
        /// The file.
        path: String,
        /// Its format version.
        found: u32,
        /// The newest that this version reads.
        supported: u32,
    },
}

impl FileError {
    pub(crate) fn damaged(path: &str, position: u64, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), position, what: what.into() }
    }

    pub(crate) fn io(doing: &'static str, path: &str, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }
}

/// An open file that knows its name.
#[derive(Clone, Debug)]
pub(crate) struct NamedFile {
    pub(crate) path: String,
    file: Arc<dyn DiskFile>,
}

impl NamedFile {
    pub(crate) fn open_read(disk: &dyn Disk, path: &str) -> Result<Self, FileError> {
        let file = disk.open_read(path).map_err(|e| FileError::io("opening", path, e))?;
        Ok(Self { path: path.to_owned(), file })
    }

    pub(crate) fn len(&self) -> Result<u64, FileError> {
        self.file.len().map_err(|e| FileError::io("measuring", &self.path, e))
    }

    /// Reads exactly `bytes` at `position`; a file that ends before is damaged.
    pub(crate) fn read(&self, position: u64, bytes: usize) -> Result<Vec<u8>, FileError> {
        let mut buffer = vec![0; bytes];
        self.fill(&mut buffer, position)?;
        Ok(buffer)
    }

    /// As `read`, into memory that was used before.
    pub(crate) fn read_shared(
        &self,
        buffers: &Arc<Buffers>,
        position: u64,
        bytes: usize,
    ) -> Result<Bytes, FileError> {
        let mut buffer = buffers.take(bytes);
        self.fill(buffer.bytes_mut(), position)?;
        Ok(buffer.freeze())
    }

    fn fill(&self, buffer: &mut [u8], position: u64) -> Result<(), FileError> {
        let mut filled = 0;
        while let Some(free) = buffer.get_mut(filled..)
            && !free.is_empty()
        {
            let at = position + filled as u64;
            match self.file.read_at(free, at) {
                Ok(0) => return Err(self.damaged(at, "the file ends here")),
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(FileError::io("reading", &self.path, e)),
            }
        }
        Ok(())
    }

    pub(crate) fn damaged(&self, position: u64, what: impl Into<String>) -> FileError {
        FileError::damaged(&self.path, position, what)
    }
}

/// Appends to a file in large pieces. Dropped without [`finish`](Self::finish), nothing is promised.
#[derive(Debug)]
pub(crate) struct FileWriter {
    path: String,
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    /// Where the buffer belongs.
    flushed: u64,
}

impl FileWriter {
    /// Starts a new file.
    pub(crate) fn create(disk: &dyn Disk, path: &str) -> Result<Self, FileError> {
        let file = disk.create(path).map_err(|e| FileError::io("creating", path, e))?;
        Ok(Self { path: path.to_owned(), file, buffer: Vec::new(), flushed: 0 })
    }

    /// Goes on at `length`, the part of the file that counts; what is beyond it is cut off.
    pub(crate) fn resume(disk: &dyn Disk, path: &str, length: u64) -> Result<Self, FileError> {
        let file = disk.open(path).map_err(|e| FileError::io("opening", path, e))?;
        let present = file.len().map_err(|e| FileError::io("measuring", path, e))?;
        if present < length {
            return Err(FileError::damaged(
                path,
                present,
                format!("the file ends here and should have {length} bytes"),
            ));
        }
        if present > length {
            file.set_len(length).map_err(|e| FileError::io("cutting", path, e))?;
        }
        Ok(Self { path: path.to_owned(), file, buffer: Vec::new(), flushed: length })
    }

    /// Where the next byte will stand.
    pub(crate) fn position(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES_MAX {
            self.flush()?;
        }
        if bytes.len() < BUFFER_BYTES_MAX {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.write(bytes, self.flushed)?;
        self.flushed += bytes.len() as u64;
        Ok(())
    }

    /// Writes what was left out at `position`, within what was already pushed.
    pub(crate) fn patch(&mut self, position: u64, bytes: &[u8]) -> Result<(), FileError> {
        self.flush()?;
        assert!(position + bytes.len() as u64 <= self.flushed, "patched beyond the end");
        self.write(bytes, position)
    }

    /// Syncs what was pushed so far. After an error the file is to be abandoned.
    pub(crate) fn sync(&mut self) -> Result<(), FileError> {
        self.flush()?;
        self.file.sync().map_err(|e| FileError::io("syncing", &self.path, e))
    }

    /// Everything pushed is durable when this returns, in a file that is then closed (rule 6); its
    /// name is durable only once its directory is synced. Returns its length.
    pub(crate) fn finish(mut self) -> Result<u64, FileError> {
        self.flush()?;
        self.file.sync().map_err(|e| FileError::io("syncing", &self.path, e))?;
        Ok(self.flushed)
    }

    fn flush(&mut self) -> Result<(), FileError> {
        let buffer = std::mem::take(&mut self.buffer);
        if !buffer.is_empty() {
            self.write(&buffer, self.flushed)?;
            self.flushed += buffer.len() as u64;
        }
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    fn write(&self, bytes: &[u8], position: u64) -> Result<(), FileError> {
        self.file
            .write_at(&[IoSlice::new(bytes)], position)
            .map_err(|e| FileError::io("writing", &self.path, e))
    }
}

/// Gives a finished file its name, durably: rename, then sync of the directory.
pub(crate) fn publish(disk: &dyn Disk, temporary: &str, path: &str) -> Result<(), FileError> {
    disk.rename(temporary, path).map_err(|e| FileError::io("renaming to", path, e))?;
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    disk.sync_dir(directory).map_err(|e| FileError::io("syncing directory", directory, e))
}

/// The little-endian number at `at`; `None` beyond the end.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

/// The little-endian number at `at`; `None` beyond the end.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

/// The little-endian number at `at`; `None` beyond the end.
pub(crate) fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    bytes.get(at..)?.first_chunk().map(|chunk| i64::from_le_bytes(*chunk))
}

/// Bytes gathered before a write.
const BUFFER_BYTES_MAX: usize = 1 << 20;
