//! A disk in memory that keeps no promise it did not give: what was not synced may persist in any
//! order, in part, torn, or not at all. Strict about names: only `sync_dir` makes them durable.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_store::disk::{Disk, DiskFile, write_zeros};

use self::cut::{Cutter, SeededCut};
use self::file::u64_of;
use self::tree::{Ino, Tree};

pub mod cut;
mod file;
mod tree;

pub use self::file::{PAGE, SECTOR};

/// A simulated disk. Cloning gives a second handle on the same disk; [`SimDisk::restart`] and
/// [`SimDisk::crash`] give a new disk.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Mutex<Inner>>,
}

/// What goes wrong, and when.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Syncs of files that fail with EIO, counted from 1 over the life of the disk. The pages count
    /// as clean afterwards, reads still show them, and a power cut loses them.
    pub sync_errors: BTreeSet<u64>,
    /// Syncs of directories that fail with EIO, counted from 1. The names stay not durable.
    pub sync_dir_errors: BTreeSet<u64>,
    /// Bytes the disk can hold; a write beyond them is cut short and fails with `StorageFull`.
    pub capacity_bytes: Option<u64>,
    /// Whether a file that is closed with unsynced pages loses its writeback error: the pages are
    /// given up as after a failed sync, and nobody is told (store.md rule 6).
    pub forgets_on_close: bool,
    /// Microseconds each sync takes; added up in [`SimDisk::waited_micros`], nobody sleeps.
    pub sync_micros: u64,
}

/// The disk as it was after one of its calls.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The number of the call, from 1.
    pub call: u64,
    /// What the call did, for the report: operation and path.
    pub what: String,
    image: Image,
}

/// A frozen disk; cheap, for it shares its pages.
#[derive(Clone, Debug)]
struct Image {
    tree: Tree,
    faults: Faults,
}

#[derive(Debug)]
struct Inner {
    tree: Tree,
    faults: Faults,
    calls: u64,
    syncs: u64,
    dir_syncs: u64,
    waited_micros: u64,
    /// Of every call so far: what it did and with which bytes.
    trace: u64,
    open: BTreeMap<Ino, usize>,
    moments: Option<Vec<Moment>>,
}

impl SimDisk {
    /// An empty disk without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::from_image(Image { tree: Tree::new(), faults: Faults::default() })
    }

    /// An empty disk that extends files without writing them.
    #[must_use]
    pub fn that_sets_room_aside() -> Self {
        let disk = Self::new();
        disk.lock().tree.sets_room_aside = true;
        disk
    }

    /// This disk as the trait object the store takes.
    #[must_use]
    pub fn as_disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Replaces the faults.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Calls so far that changed or synced something. A crash point is the state after one of them.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Syncs of files so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// A digest of all calls so far, in order, with their bytes.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.lock().trace
    }

    /// How long all syncs would have taken.
    #[must_use]
    pub fn waited_micros(&self) -> u64 {
        self.lock().waited_micros
    }

    /// Keeps the state after every call from now on.
    pub fn record(&self) {
        self.lock().moments.get_or_insert_default();
    }

    /// Ends recording and hands over what was recorded.
    #[must_use]
    pub fn take_moments(&self) -> Vec<Moment> {
        self.lock().moments.take().unwrap_or_default()
    }

    /// The state now, as if it had been recorded.
    #[must_use]
    pub fn moment(&self) -> Moment {
        let inner = self.lock();
        Moment { call: inner.calls, what: "now".to_owned(), image: inner.image() }
    }

    /// The disk after a power cut now, with the outcome drawn from `seed`.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        self.moment().crash(seed)
    }

    /// The disk after a power cut now, with the outcome that `cutter` chooses.
    #[must_use]
    pub fn crash_by(&self, cutter: &mut dyn Cutter) -> Self {
        self.moment().crash_by(cutter)
    }

    /// The disk after the process was killed now: nothing is lost, and nothing more is durable.
    #[must_use]
    pub fn restart(&self) -> Self {
        self.moment().restart()
    }

    /// Flips the bits of `mask` in one byte, durably: a bad sector. False if the byte does not exist.
    pub fn rot(&self, path: &str, position: u64, mask: u8) -> bool {
        let mut inner = self.lock();
        let Ok(ino) = inner.tree.find_file(path) else { return false };
        inner.tree.file_mut(ino).is_ok_and(|file| position < file.len && file.rot(position, mask))
    }

    /// Every file with its length, by path.
    #[must_use]
    pub fn files(&self) -> Vec<(String, u64)> {
        let inner = self.lock();
        let mut found = Vec::new();
        let mut todo = vec![String::new()];
        while let Some(dir) = todo.pop() {
            for name in inner.tree.list(&dir).unwrap_or_default() {
                let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                match inner.tree.find_file(&path).and_then(|ino| inner.tree.file(ino)) {
                    Ok(file) => found.push((path, file.len)),
                    Err(_) => todo.push(path),
                }
            }
        }
        found.sort();
        found
    }

    fn from_image(image: Image) -> Self {
        let inner = Inner {
            tree: image.tree,
            faults: image.faults,
            calls: 0,
            syncs: 0,
            dir_syncs: 0,
            waited_micros: 0,
            trace: 0,
            open: BTreeMap::new(),
            moments: None,
        };
        Self { shared: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, inner: &mut Inner, ino: Ino, path: &str, access: Access) -> Arc<dyn DiskFile> {
        *inner.open.entry(ino).or_default() += 1;
        Arc::new(SimFile { disk: self.clone(), ino, path: path.to_owned(), access })
    }
}

impl Moment {
    /// The disk after a power cut at this moment, with the outcome drawn from `seed`.
    #[must_use]
    pub fn crash(&self, seed: u64) -> SimDisk {
        self.crash_by(&mut SeededCut::new(seed))
    }

    /// The disk after a power cut at this moment, with the outcome that `cutter` chooses.
    #[must_use]
    pub fn crash_by(&self, cutter: &mut dyn Cutter) -> SimDisk {
        let tree = self.image.tree.cut(cutter);
        SimDisk::from_image(Image { tree, faults: self.image.faults.after_restart() })
    }

    /// The disk after the process was killed at this moment.
    #[must_use]
    pub fn restart(&self) -> SimDisk {
        let mut tree = self.image.tree.clone();
        tree.drop_nameless(|_| false);
        SimDisk::from_image(Image { tree, faults: self.image.faults.after_restart() })
    }
}

impl Faults {
    /// Errors are of one life of the process, the rest belongs to the machine.
    fn after_restart(&self) -> Self {
        Self { sync_errors: BTreeSet::new(), sync_dir_errors: BTreeSet::new(), ..self.clone() }
    }
}

impl Inner {
    /// Notes that a call took effect.
    fn called(&mut self, what: &'static str, path: &str, digest: u64) {
        self.calls += 1;
        let mut trace = self.trace;
        for byte in what.bytes().chain(path.bytes()).chain(digest.to_le_bytes()) {
            trace = (trace ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        self.trace = trace.rotate_left(23).wrapping_add(self.calls);
        if self.moments.is_some() {
            let moment =
                Moment { call: self.calls, what: format!("{what} {path}"), image: self.image() };
            self.moments.get_or_insert_default().push(moment);
        }
    }

    fn image(&self) -> Image {
        Image { tree: self.tree.clone(), faults: self.faults.clone() }
    }

    fn free_nameless(&mut self) {
        let open = &self.open;
        self.tree.drop_nameless(|ino| open.contains_key(&ino));
    }

    fn free_pages(&self) -> u64 {
        match self.faults.capacity_bytes {
            Some(capacity) => (capacity / u64_of(PAGE)).saturating_sub(self.tree.allocated()),
            None => u64::MAX / u64_of(PAGE),
        }
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.tree.create_dir(path)? {
            inner.called("create_dir", path, 0);
        }
        Ok(())
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock();
        if inner.free_pages() == 0 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let ino = inner.tree.create_file(path)?;
        inner.called("create", path, 0);
        Ok(self.handle(&mut inner, ino, path, Access::Write))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock();
        let ino = inner.tree.find_file(path)?;
        Ok(self.handle(&mut inner, ino, path, Access::Write))
    }

    fn open_read(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock();
        let ino = inner.tree.find_file(path)?;
        Ok(self.handle(&mut inner, ino, path, Access::Read))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.lock().tree.list(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.tree.rename(from, to)?;
        inner.called("rename", to, 0);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.tree.remove_file(path)?;
        inner.called("remove", path, 0);
        Ok(())
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.tree.remove_dir(path)?;
        inner.called("remove_dir", path, 0);
        Ok(())
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.dir_syncs += 1;
        let nth = inner.dir_syncs;
        inner.waited_micros += inner.faults.sync_micros;
        if inner.faults.sync_dir_errors.contains(&nth) {
            inner.called("sync_dir failed", path, 0);
            return Err(io::Error::other("EIO"));
        }
        inner.tree.sync_dir(path)?;
        inner.free_nameless();
        inner.called("sync_dir", path, 0);
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.lock().free_pages() * u64_of(PAGE))
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("calls", &self.calls()).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    ino: Ino,
    path: String,
    access: Access,
}

impl SimFile {
    fn writable(&self) -> io::Result<()> {
        match self.access {
            Access::Write => Ok(()),
            Access::Read => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
        }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        Ok(self.disk.lock().tree.file(self.ino)?.read(buffer, position))
    }

    fn write_at(&self, parts: &[io::IoSlice<'_>], position: u64) -> io::Result<()> {
        self.writable()?;
        let mut inner = self.disk.lock();
        let room = inner.free_pages();
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let written = inner.tree.file_mut(self.ino)?.write(parts, position, room);
        let digest = digest(parts, position);
        inner.called("write", &self.path, digest.wrapping_add(u64_of(written)));
        if written < total {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.lock();
        inner.syncs += 1;
        let nth = inner.syncs;
        inner.waited_micros += inner.faults.sync_micros;
        if inner.faults.sync_errors.contains(&nth) {
            inner.tree.file_mut(self.ino)?.give_up();
            inner.called("sync failed", &self.path, nth);
            return Err(io::Error::other("EIO"));
        }
        if inner.tree.file(self.ino)?.is_dirty() {
            inner.tree.file_mut(self.ino)?.sync();
        }
        inner.called("sync", &self.path, 0);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().tree.file(self.ino)?.len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        let mut inner = self.disk.lock();
        inner.tree.file_mut(self.ino)?.set_len(len);
        inner.called("set_len", &self.path, len);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<bool> {
        write_zeros(self, self.len()?, len)?;
        Ok(!self.disk.lock().tree.sets_room_aside)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut inner = self.disk.lock();
        let Some(count) = inner.open.get_mut(&self.ino) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        inner.open.remove(&self.ino);
        if inner.faults.forgets_on_close
            && inner.tree.file(self.ino).is_ok_and(file::FileNode::is_dirty)
            && let Ok(file) = inner.tree.file_mut(self.ino)
        {
            file.give_up();
        }
    }
}

fn digest(parts: &[io::IoSlice<'_>], position: u64) -> u64 {
    let mut digest = position;
    for part in parts {
        let (words, rest) = part.as_chunks::<8>();
        for word in words {
            digest = digest.rotate_left(9).wrapping_mul(DIGEST_FACTOR) ^ u64::from_le_bytes(*word);
        }
        for byte in rest {
            digest = digest.rotate_left(9).wrapping_mul(DIGEST_FACTOR) ^ u64::from(*byte);
        }
    }
    digest
}

const DIGEST_FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
