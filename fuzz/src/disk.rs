//! Files in memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use ottla_store::disk::{Disk, DiskFile};

#[derive(Debug, Default)]
struct MemFile(Mutex<Vec<u8>>);

#[derive(Debug, Default)]
pub struct MemDisk(Mutex<BTreeMap<String, Arc<MemFile>>>);

impl MemDisk {
    pub fn of(files: &[(String, Vec<u8>)]) -> Self {
        let files = files
            .iter()
            .map(|(name, bytes)| (name.clone(), Arc::new(MemFile(Mutex::new(bytes.clone())))));
        Self(Mutex::new(files.collect()))
    }

    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let files = self.0.lock().unwrap();
        files.iter().map(|(name, file)| (name.clone(), file.0.lock().unwrap().clone())).collect()
    }
}

impl Disk for MemDisk {
    fn create_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.0.lock().unwrap();
        if files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(MemFile::default());
        files.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.0.lock().unwrap().get(path).cloned();
        file.map(|file| file as Arc<dyn DiskFile>).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn open_read(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let files = self.0.lock().unwrap();
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let names = files.keys().filter_map(|name| name.strip_prefix(&prefix));
        let mut names: Vec<String> =
            names.filter_map(|rest| rest.split('/').next()).map(str::to_owned).collect();
        names.dedup();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let removed = self.0.lock().unwrap().remove(path);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let bytes = self.0.lock().unwrap();
        let from = usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
        let count = buffer.len().min(bytes.len() - from);
        buffer[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, parts: &[io::IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut bytes = self.0.lock().unwrap();
        let mut at = position as usize;
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
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<bool> {
        self.set_len(len).map(|()| true)
    }
}
