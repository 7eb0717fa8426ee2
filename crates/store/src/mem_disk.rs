//! A disk in memory for unit tests of the file formats. Crashes and faults are the simulator's.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, DiskFile};

#[derive(Debug, Default)]
pub(crate) struct MemDisk {
    files: Mutex<BTreeMap<String, Arc<MemFile>>>,
}

#[derive(Debug, Default)]
pub(crate) struct MemFile {
    bytes: Mutex<Vec<u8>>,
}

impl MemDisk {
    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        self.file(path).unwrap().bytes.lock().unwrap().clone()
    }

    pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
        let file = MemFile { bytes: Mutex::new(bytes.to_vec()) };
        self.files.lock().unwrap().insert(path.to_owned(), Arc::new(file));
    }

    fn file(&self, path: &str) -> io::Result<Arc<MemFile>> {
        self.files.lock().unwrap().get(path).cloned().ok_or(io::ErrorKind::NotFound.into())
    }
}

impl Disk for MemDisk {
    fn create_dir(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        if self.file(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.put(path, &[]);
        self.open(path)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file: Arc<dyn DiskFile> = self.file(path)?;
        Ok(file)
    }

    fn open_read(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let files = self.files.lock().unwrap();
        let below = |name: &String| Some(name.strip_prefix(path)?.strip_prefix('/')?.to_owned());
        Ok(files.keys().filter_map(below).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.file(from)?;
        let mut files = self.files.lock().unwrap();
        files.remove(from);
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.file(path)?;
        self.files.lock().unwrap().remove(path);
        Ok(())
    }

    fn remove_dir(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let bytes = self.bytes.lock().unwrap();
        let position = usize::try_from(position).unwrap().min(bytes.len());
        let rest = &bytes[position..];
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&self, parts: &[io::IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut bytes = self.bytes.lock().unwrap();
        let mut at = usize::try_from(position).unwrap();
        for part in parts {
            let end = at + part.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(part);
            at = end;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<bool> {
        self.set_len(len).map(|()| true)
    }
}
