//! The tail cache: the buffers of recent groups, which own the bodies that readers want.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use super::encode::EncodedGroup;

/// A group in memory. Parts lie one after another.
#[derive(Debug)]
pub(crate) struct CachedGroup {
    end: u64,
    /// LSN of each part's first byte.
    parts: Vec<(u64, Bytes)>,
}

impl CachedGroup {
    /// `bytes` bytes from `lsn` on, if the group holds them all.
    fn read(&self, lsn: u64, bytes: usize) -> Option<Bytes> {
        let first = self.parts.partition_point(|(start, _)| *start <= lsn).checked_sub(1)?;
        let (start, part) = self.parts.get(first)?;
        let skip = usize::try_from(lsn - start).ok()?;
        if skip + bytes <= part.len() {
            return Some(part.slice(skip..skip + bytes));
        }
        let mut joined = BytesMut::with_capacity(bytes);
        joined.extend_from_slice(part.get(skip..)?);
        for (_, part) in self.parts.get(first + 1..)? {
            let rest = bytes - joined.len();
            joined.extend_from_slice(part.get(..rest.min(part.len()))?);
        }
        (joined.len() == bytes).then(|| joined.freeze())
    }
}

#[derive(Debug, Default)]
struct Groups {
    by_base: BTreeMap<u64, Arc<CachedGroup>>,
    bytes: u64,
}

/// Invariant: at most `bytes_max` bytes, unless the newest group alone is larger.
#[derive(Debug)]
pub(crate) struct Cache {
    groups: Mutex<Groups>,
    bytes_max: u64,
}

impl Cache {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { groups: Mutex::default(), bytes_max }
    }

    /// Takes a group that was written; forgets the oldest beyond the bound.
    pub(crate) fn insert(&self, group: &EncodedGroup) {
        let mut start = group.base;
        let mut parts = Vec::with_capacity(group.parts.len());
        for part in &group.parts {
            parts.push((start, part.clone()));
            start += part.len() as u64;
        }
        let cached = Arc::new(CachedGroup { end: group.end, parts });
        let mut dropped = Vec::new(); // freed after the lock
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.bytes += group.end - group.base;
        groups.by_base.insert(group.base, cached);
        while groups.bytes > self.bytes_max
            && groups.by_base.len() > 1
            && let Some((base, old)) = groups.by_base.pop_first()
        {
            groups.bytes -= old.end - base;
            dropped.push(old);
        }
        drop(groups);
    }

    /// `bytes` bytes from `lsn` on, if they are in memory.
    pub(crate) fn read(&self, lsn: u64, bytes: usize) -> Option<Bytes> {
        self.group(lsn)?.read(lsn, bytes)
    }

    fn group(&self, lsn: u64) -> Option<Arc<CachedGroup>> {
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, group) = groups.by_base.range(..=lsn).next_back()?;
        (lsn < group.end).then(|| Arc::clone(group))
    }
}
