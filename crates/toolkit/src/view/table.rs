//! The newest row of each key.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::mint::Timestamp;

/// Rows by key, and the keys that were removed not long ago.
#[derive(Debug)]
pub(super) struct Table<R> {
    rows: HashMap<String, (Arc<R>, u64)>,
    /// Removed keys with the version they had: an older row must not bring them back.
    buried: HashMap<String, u64>,
    /// The same in the order of their removal.
    graves: VecDeque<(Timestamp, String)>,
    rows_max: usize,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Nothing,
    Changed,
    Unreadable,
    Full,
}

impl<R> Table<R> {
    pub(super) fn new(rows_max: usize) -> Self {
        let (rows, buried, graves) = (HashMap::new(), HashMap::new(), VecDeque::new());
        Self { rows, buried, graves, rows_max }
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<R>> {
        self.rows.get(key).map(|(row, _)| Arc::clone(row))
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn rows(&self) -> HashMap<String, Arc<R>> {
        self.rows.iter().map(|(key, (row, _))| (key.clone(), Arc::clone(row))).collect()
    }

    pub(super) fn put(&mut self, key: &str, row: R, version: u64) -> Taken {
        let known = self.rows.get(key).map(|(_, version)| *version);
        if known.or_else(|| self.buried.get(key).copied()).is_some_and(|known| known > version) {
            return Taken::Nothing;
        }
        if known.is_none() && self.rows.len() >= self.rows_max {
            return Taken::Full;
        }
        self.buried.remove(key);
        self.rows.insert(key.to_owned(), (Arc::new(row), version));
        Taken::Changed
    }

    pub(super) fn bury(&mut self, key: &str, now: Timestamp) -> Taken {
        while let Some((at, forgotten)) = self.graves.front()
            && (now.since(*at) > BURIED || self.graves.len() >= GRAVES_MAX)
        {
            self.buried.remove(forgotten);
            self.graves.pop_front();
        }
        let Some((_, version)) = self.rows.remove(key) else { return Taken::Nothing };
        self.buried.insert(key.to_owned(), version);
        self.graves.push_back((now, key.to_owned()));
        Taken::Changed
    }
}

/// How long a removed key is remembered, as Kafka remembers tombstones.
const BURIED: Duration = Duration::from_secs(24 * 60 * 60);
/// Removed keys that are remembered.
const GRAVES_MAX: usize = 100_000;
