//! A data directory to look at: changes nothing and needs no lock, so a broker may be running in it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::{LOCK_NAME, RealFile};
use super::{Disk, DiskFile};

/// A directory of the operating system, to be read only.
#[derive(Debug)]
pub struct LookDisk {
    root: PathBuf,
}

impl LookDisk {
    /// The directory `root`, which must exist.
    pub fn open(root: &Path) -> io::Result<Self> {
        if !fs::metadata(root)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { root: root.to_owned() })
    }

    /// The process that holds the directory's lock, if there is one and the system tells
    /// (`/proc/locks`). Does not touch the lock: a broker that starts now is not in the way.
    #[must_use]
    pub fn holder(&self) -> Option<u32> {
        let inode = fs::metadata(self.root.join(LOCK_NAME)).ok()?.ino();
        let locks = fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let is_flock = words.next()? == "FLOCK";
            let process = words.nth(2)?.parse().ok()?;
            let file = words.next()?;
            let holds = is_flock && file.rsplit(':').next()?.parse() == Ok(inode);
            holds.then_some(process)
        })
    }

    fn refused<T>() -> io::Result<T> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

impl Disk for LookDisk {
    fn create_dir(&self, _path: &str) -> io::Result<()> {
        Self::refused()
    }

    fn create(&self, _path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Self::refused()
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.open_read(path) // writing to it fails
    }

    fn open_read(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile { file: File::open(self.root.join(path))? }))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(path))? {
            names.extend(entry?.file_name().to_str().map(str::to_owned));
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Self::refused()
    }

    fn remove(&self, _path: &str) -> io::Result<()> {
        Self::refused()
    }

    fn remove_dir(&self, _path: &str) -> io::Result<()> {
        Self::refused()
    }

    fn sync_dir(&self, _path: &str) -> io::Result<()> {
        Self::refused()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }
}
