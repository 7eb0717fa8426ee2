//! Where messages are once the WAL lets go of them: one old-log file a stride.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// One old-log file: what was alive in `[from, to)` of the WAL when that stride was retired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OldLogMeta {
    pub(crate) file: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
}

/// All old-log files, by the stride they cover.
#[derive(Debug, Default)]
pub(crate) struct OldLogs {
    by_from: RwLock<BTreeMap<u64, Arc<OldLogMeta>>>,
}

impl OldLogs {
    pub(crate) fn new(metas: impl IntoIterator<Item = OldLogMeta>) -> Self {
        let by_from = metas.into_iter().map(|meta| (meta.from, Arc::new(meta))).collect();
        Self { by_from: RwLock::new(by_from) }
    }

    pub(crate) fn find(&self, lsn: u64) -> Option<Arc<OldLogMeta>> {
        let by_from = self.by_from.read().unwrap_or_else(PoisonError::into_inner);
        let (_, meta) = by_from.range(..=lsn).next_back()?;
        (lsn < meta.to).then(|| Arc::clone(meta))
    }

    pub(crate) fn insert(&self, meta: OldLogMeta) {
        let mut by_from = self.by_from.write().unwrap_or_else(PoisonError::into_inner);
        by_from.insert(meta.from, Arc::new(meta));
    }

    pub(crate) fn remove(&self, from: u64) {
        self.by_from.write().unwrap_or_else(PoisonError::into_inner).remove(&from);
    }

    pub(crate) fn all(&self) -> Vec<Arc<OldLogMeta>> {
        self.by_from.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// The path of an old-log file.
pub(crate) fn old_log_path(file: u64) -> String {
    format!("{OLD_LOG_DIR}/{file:016x}.old")
}

pub(crate) const OLD_LOG_DIR: &str = "oldlog";
