//! A disk that lies to the store: the mistakes a store could make with its disk, planted between the two.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, PoisonError};

use ottla_store::disk::{Disk, DiskFile};

use crate::SimDisk;

/// A mistake in the use of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Files in this directory (and below) are never synced.
    SkipsSyncOf(&'static str),
    /// Names in this directory (and below) are never synced.
    SkipsSyncOfNamesIn(&'static str),
    /// Files in this directory (and below) are closed, opened again and only then synced.
    ClosesDirty(&'static str),
}

/// A disk with a mistake between it and the store.
#[derive(Clone, Debug)]
pub struct LyingDisk {
    disk: SimDisk,
    lie: Lie,
}

#[derive(Debug)]
struct LyingFile {
    disk: LyingDisk,
    path: String,
    /// `None` only while it is closed to be opened again.
    file: Mutex<Option<Arc<dyn DiskFile>>>,
}

impl LyingDisk {
    /// `disk` with this mistake.
    #[must_use]
    pub fn over(disk: SimDisk, lie: Lie) -> Arc<dyn Disk> {
        Arc::new(Self { disk, lie })
    }

    fn wrapped(&self, file: Arc<dyn DiskFile>, path: &str) -> Arc<dyn DiskFile> {
        let (disk, path) = (self.clone(), path.to_owned());
        Arc::new(LyingFile { disk, path, file: Mutex::new(Some(file)) })
    }
}

impl Disk for LyingDisk {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrapped(self.disk.create(path)?, path))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrapped(self.disk.open(path)?, path))
    }

    fn open_read(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open_read(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.disk.remove_dir(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        match self.lie {
            Lie::SkipsSyncOfNamesIn(dir) if path.starts_with(dir) => Ok(()),
            _ => self.disk.sync_dir(path),
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

impl LyingFile {
    fn with<T>(&self, call: impl FnOnce(&dyn DiskFile) -> io::Result<T>) -> io::Result<T> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        match file.as_deref() {
            Some(file) => call(file),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    fn reopen(&self) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        drop(file.take());
        *file = Some(self.disk.disk.open(&self.path)?);
        Ok(())
    }
}

impl DiskFile for LyingFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.with(|file| file.read_at(buffer, position))
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.with(|file| file.write_at(parts, position))
    }

    fn sync(&self) -> io::Result<()> {
        match self.disk.lie {
            Lie::SkipsSyncOf(dir) if self.path.starts_with(dir) => return Ok(()),
            Lie::ClosesDirty(dir) if self.path.starts_with(dir) => self.reopen()?,
            _ => {}
        }
        self.with(|file| file.sync())
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|file| file.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|file| file.set_len(len))
    }

    fn allocate(&self, len: u64) -> io::Result<bool> {
        self.with(|file| file.allocate(len))
    }
}
