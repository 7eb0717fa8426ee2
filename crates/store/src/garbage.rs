//! Files that nothing living needs: removed once no kept snapshot needs them either (rule 13).

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A file to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GarbageFile {
    pub(crate) path: String,
    /// The first snapshot that does without it.
    pub(crate) since: u64,
}

#[derive(Debug, Default)]
struct Heap {
    files: Vec<GarbageFile>,
    /// The newest snapshot that was begun.
    snapshot: u64,
}

/// The garbage list.
#[derive(Debug, Default)]
pub(crate) struct Garbage {
    heap: Mutex<Heap>,
}

impl Garbage {
    pub(crate) fn new(files: Vec<GarbageFile>, snapshot: u64) -> Self {
        Self { heap: Mutex::new(Heap { files, snapshot }) }
    }

    fn lock(&self) -> MutexGuard<'_, Heap> {
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds files that were just taken out of what snapshots collect.
    pub(crate) fn add(&self, paths: impl IntoIterator<Item = String>) {
        let mut heap = self.lock();
        let since = heap.snapshot + 1; // the one being collected may have seen them
        heap.files.extend(paths.into_iter().map(|path| GarbageFile { path, since }));
    }

    /// The file is wanted after all.
    pub(crate) fn rescue(&self, path: &str) {
        self.lock().files.retain(|file| file.path != path);
    }

    /// A new snapshot begins to be collected; returns its number.
    pub(crate) fn begin_snapshot(&self) -> u64 {
        let mut heap = self.lock();
        heap.snapshot += 1;
        heap.snapshot
    }

    /// Whether a file waits for a snapshot younger than `oldest_kept`.
    pub(crate) fn is_waiting(&self, oldest_kept: u64) -> bool {
        self.lock().files.iter().any(|file| file.since > oldest_kept)
    }

    pub(crate) fn list(&self) -> Vec<GarbageFile> {
        self.lock().files.clone()
    }

    /// Takes what no snapshot from `oldest_kept` on needs.
    pub(crate) fn take(&self, oldest_kept: u64, files_max: usize) -> Vec<GarbageFile> {
        let mut heap = self.lock();
        let mut taken = Vec::new();
        heap.files.retain(|file| {
            let unneeded = file.since <= oldest_kept && taken.len() < files_max;
            if unneeded {
                taken.push(file.clone());
            }
            !unneeded
        });
        taken
    }
}
