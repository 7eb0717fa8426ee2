//! The disk as the store sees it. [`FileDisk`] is the product's only use of `std::fs`; the
//! simulator's disk forgets, tears, reorders and fails.
//!
//! Paths are relative to the data directory, with `/` between the parts. The contract is the weakest
//! that real file systems keep: bytes written are durable only after [`DiskFile::sync`] of that file
//! returned, a created, renamed or removed name only after [`Disk::sync_dir`] of its directory, and
//! what is not yet durable may persist in any order, in part, torn at 512 bytes, or not at all.

mod file;
mod look;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

pub use file::FileDisk;
pub use look::LookDisk;

/// A directory tree that belongs to one store.
pub trait Disk: Debug + Send + Sync {
    /// Makes the directory `path` and its parents; no error if it exists.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// Creates the file `path` for reading and writing; an error if the name exists.
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens the existing file `path` for reading and writing.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens the existing file `path` for reading.
    fn open_read(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// The names in directory `path`, sorted; a missing directory is an error of kind `NotFound`.
    fn list(&self, path: &str) -> io::Result<Vec<String>>;
    /// Gives `from` the name `to`, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes the file `path`.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Removes the empty directory `path`.
    fn remove_dir(&self, path: &str) -> io::Result<()>;
    /// Makes the names in directory `path` durable.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
    /// Bytes that can still be written before the disk is full.
    fn free_bytes(&self) -> io::Result<u64>;
}

#[expect(clippy::len_without_is_empty, reason = "a length can fail, and nobody asks for emptiness")]
/// An open file. All positions are given, so one handle serves any number of readers.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads at most `buffer.len()` bytes at `position`; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all parts, one after another, from `position` on.
    fn write_at(&self, parts: &[io::IoSlice<'_>], position: u64) -> io::Result<()>;
    /// Makes the file's bytes and length durable (`fdatasync`). Never retried after an error.
    fn sync(&self) -> io::Result<()>;
    /// The length of the file in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Cuts or extends the file to `len` bytes; what is added reads as zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Extends the file to `len` bytes, which read as zeros where nothing was, and takes their room on the disk.
    /// `Ok(false)` if that is all: to write there for the first time takes a change of the file system's tables, and so
    /// does the sync behind it. `Ok(true)` if the zeros were written as well, as where room cannot be set aside.
    fn allocate(&self, len: u64) -> io::Result<bool>;
}

/// Writes zeros from `from` to `to`.
pub fn write_zeros(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; usize::try_from(to.saturating_sub(from)).map_or(PIECE, |n| n.min(PIECE))];
    let mut position = from;
    while position < to {
        let bytes = usize::try_from(to - position).map_or(PIECE, |rest| rest.min(PIECE));
        file.write_at(&[io::IoSlice::new(zeros.get(..bytes).unwrap_or_default())], position)?;
        position += bytes as u64;
    }
    Ok(())
}

const PIECE: usize = 1 << 20;

/// Whether the disk had no room for what was asked.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Fills `buffer` from `position` on; an error of kind `UnexpectedEof` if the file is shorter.
pub(crate) fn read_exact_at(
    file: &dyn DiskFile,
    buffer: &mut [u8],
    position: u64,
) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..)
        && !rest.is_empty()
    {
        match file.read_at(rest, position + done as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => done += read,
        }
    }
    Ok(())
}
