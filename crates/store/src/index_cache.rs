//! Indexes of segments that were read lately, made from the segments when missing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::Disk;
use crate::files::FileError;
use crate::index::SegmentIndex;
use crate::segment::{SegmentMeta, rebuild_index};

/// Indexes of segments that were read lately.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    /// By file, with the length it was made for; at most [`INDEXES_MAX`].
    by_file: Mutex<HashMap<u64, (u64, Arc<SegmentIndex>)>>,
}

impl Indexes {
    pub(crate) fn of(
        &self,
        disk: &dyn Disk,
        path: &str,
        meta: &SegmentMeta,
    ) -> Result<Arc<SegmentIndex>, FileError> {
        let lock = || self.by_file.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(&meta.file).cloned();
        if let Some((bytes, index)) = known
            && bytes == meta.bytes
        {
            return Ok(index);
        }
        let index = Arc::new(rebuild_index(disk, path, meta)?);
        let mut by_file = lock();
        if by_file.len() >= INDEXES_MAX {
            by_file.clear();
        }
        by_file.insert(meta.file, (meta.bytes, Arc::clone(&index)));
        Ok(index)
    }
}

/// Indexes kept in memory.
const INDEXES_MAX: usize = 1024;
