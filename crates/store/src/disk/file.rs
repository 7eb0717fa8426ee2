//! The real disk: a directory, locked against a second process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::{Disk, DiskFile, write_zeros};

/// A directory of the operating system, held under `flock` until dropped.
#[derive(Debug)]
pub struct FileDisk {
    root: PathBuf,
    _lock: File,
}

impl FileDisk {
    /// Makes `root` if it is missing and locks it. An error of kind `ResourceBusy` names the process
    /// that holds it.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let path = root.join(LOCK_NAME);
        let mut lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        if let Err(error) = rustix::fs::flock(lock.as_fd(), exclusive) {
            if error != Errno::WOULDBLOCK {
                return Err(error.into());
            }
            let mut holder = String::new();
            lock.read_to_string(&mut holder)?;
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!("{} is in use by process {}", root.display(), holder.trim()),
            ));
        }
        lock.set_len(0)?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }
}

impl Disk for FileDisk {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        fs::create_dir_all(self.path(path))
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).open(self.path(path))?;
        Ok(Arc::new(RealFile { file }))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path(path))?;
        Ok(Arc::new(RealFile { file }))
    }

    fn open_read(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile { file: File::open(self.path(path))? }))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(path))? {
            let name = entry?.file_name();
            if let Some(name) = name.to_str()
                && !(path.is_empty() && name == LOCK_NAME)
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        fs::remove_dir(self.path(path))
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        File::open(self.path(path))?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let figures = rustix::fs::statvfs(&self.root)?;
        Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
    }
}

#[derive(Debug)]
pub(super) struct RealFile {
    pub(super) file: File,
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut position = position;
        let mut parts = parts;
        let mut skip = 0_usize; // bytes of the first part that are already written
        while let Some(first) = parts.first() {
            if skip > 0 || parts.len() == 1 {
                let rest = first.get(skip..).unwrap_or_default();
                self.file.write_all_at(rest, position)?;
                position += rest.len() as u64;
                parts = parts.get(1..).unwrap_or_default();
                skip = 0;
                continue;
            }
            let batch = parts.get(..parts.len().min(IOV_MAX)).unwrap_or_default();
            let mut written = rustix::io::pwritev(&self.file, batch, position)?;
            if written == 0 && batch.iter().any(|part| !part.is_empty()) {
                return Err(io::ErrorKind::WriteZero.into());
            }
            position += written as u64;
            while let Some(part) = parts.first()
                && written >= part.len()
            {
                written -= part.len();
                parts = parts.get(1..).unwrap_or_default();
            }
            skip = written;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<bool> {
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len) {
                Ok(()) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    return write_zeros(self, self.len()?, len).map(|()| true);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

pub(super) const LOCK_NAME: &str = "LOCK";
/// Parts the kernel takes in one call.
const IOV_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("ottla-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        path
    }

    #[test]
    fn a_directory_in_use_is_refused_naming_its_holder() {
        let root = scratch("lock");
        let first = FileDisk::open(&root).unwrap();
        let error = FileDisk::open(&root).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(first);
        FileDisk::open(&root).unwrap();
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn many_parts_are_written_one_after_another() {
        let root = scratch("parts");
        let disk = FileDisk::open(&root).unwrap();
        let file = disk.create("f").unwrap();
        let parts: Vec<Vec<u8>> = (0..3000_u32).map(|n| n.to_string().into_bytes()).collect();
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        file.write_at(&slices, 5).unwrap();
        let expected = parts.concat();
        let mut found = vec![0; expected.len()];
        assert_eq!(file.read_at(&mut found, 5).unwrap(), expected.len());
        assert_eq!(found, expected);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn room_that_was_set_aside_is_taken_and_reads_as_zeros() {
        use std::os::unix::fs::MetadataExt;
        let root = scratch("room");
        let disk = FileDisk::open(&root).unwrap();
        let file = disk.create("f").unwrap();
        file.write_at(&[IoSlice::new(b"order")], 0).unwrap();
        file.allocate(1 << 20).unwrap();
        file.sync().unwrap();
        let mut found = vec![1; 10];
        file.read_at(&mut found, 0).unwrap();
        assert_eq!(found, b"order\0\0\0\0\0");
        let figures = fs::metadata(root.join("f")).unwrap();
        assert_eq!(figures.len(), 1 << 20);
        assert!(figures.blocks() * 512 >= 1 << 20, "{} blocks", figures.blocks());
        fs::remove_dir_all(&root).unwrap();
    }
}
