//! What is remembered of a share partition: where it starts, which records behind that are done with,
//! and how often the others came back. The fold of its changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::api::{Cause, Death};

/// What became of a record for good, or how often it came back. Append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// Accepted: never delivered again.
    Acknowledged,
    /// Rejected, delivered too often, or no record at all: never delivered again.
    Archived,
    /// To be delivered again.
    Returned {
        /// Deliveries so far, at least 1.
        count: u16,
    },
    /// Given up: never delivered again, and not done with before its dead letter is written (Kafka's
    /// `ARCHIVING`, KIP-1191).
    Dying {
        /// How often it was delivered.
        count: u16,
        /// A member rejected it; else it came back from its last delivery.
        rejected: bool,
    },
}

impl Fate {
    /// Whether it is done with.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Acknowledged | Self::Archived)
    }
}

/// A change of neighbouring records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The first offset.
    pub first: i64,
    /// The last offset, not below the first.
    pub last: i64,
    /// What became of each.
    pub fate: Fate,
}

/// A share partition as it is remembered.
///
/// Invariants: runs do not overlap and lie at or behind `start`; the record at `start` is not done
/// with. What no run holds was never returned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    start: i64,
    /// By first offset: last offset and fate.
    runs: BTreeMap<i64, (i64, Fate)>,
}

impl Window {
    /// A window that starts at this offset, of which nothing else is known.
    #[must_use]
    pub const fn new(start: i64) -> Self {
        Self { start, runs: BTreeMap::new() }
    }

    /// The share-partition start offset: everything below is done with.
    #[must_use]
    pub const fn start(&self) -> i64 {
        self.start
    }

    /// After the last offset of which something is known.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.runs.last_key_value().map_or(self.start, |(_, (last, _))| last + 1)
    }

    /// Offsets behind the start that hold no record to deliver and were not accepted either.
    #[must_use]
    pub fn archived(&self) -> i64 {
        let archived = self.runs.iter().filter(|(_, (_, fate))| *fate == Fate::Archived);
        archived.map(|(first, (last, _))| last - first + 1).sum()
    }

    /// Offsets behind the start that are done with.
    #[must_use]
    pub fn finished(&self) -> i64 {
        let done = self.runs.iter().filter(|(_, (_, fate))| fate.is_final());
        done.map(|(first, (last, _))| last - first + 1).sum()
    }

    /// What waits for its dead letters, in order.
    pub fn dying(&self) -> impl Iterator<Item = Death> {
        self.runs.iter().filter_map(|(first, (last, fate))| {
            let Fate::Dying { count, rejected } = *fate else { return None };
            let cause = if rejected { Cause::Rejected } else { Cause::Limit };
            Some(Death { first: *first, last: *last, count, cause })
        })
    }

    /// The run that contains `offset`: its last offset and its fate; else where the next begins.
    pub fn at(&self, offset: i64) -> Result<(i64, Fate), Option<i64>> {
        if let Some((_, (last, fate))) = self.runs.range(..=offset).next_back()
            && *last >= offset
        {
            return Ok((*last, *fate));
        }
        Err(self.runs.range(offset..).next().map(|(first, _)| *first))
    }

    /// Takes a change; parts below the start are done with already.
    pub fn change(&mut self, change: Change) {
        let first = change.first.max(self.start);
        if first > change.last {
            return;
        }
        self.cut(first);
        self.cut(change.last + 1);
        let replaced: Vec<i64> = self.runs.range(first..=change.last).map(|(at, _)| *at).collect();
        for at in replaced {
            self.runs.remove(&at);
        }
        self.insert(first, change.last, change.fate);
        self.advance();
    }

    /// Moves the start forward: the records below are gone, or done with.
    pub fn trim(&mut self, start: i64) {
        if start <= self.start {
            return;
        }
        self.cut(start);
        self.runs = self.runs.split_off(&start);
        self.start = start;
        self.advance();
    }

    /// Makes `at` the beginning of a run if it lies inside one.
    fn cut(&mut self, at: i64) {
        let Some((_, run)) = self.runs.range_mut(..at).next_back() else { return };
        let (last, fate) = *run;
        if last >= at {
            run.0 = at - 1;
            self.runs.insert(at, (last, fate));
        }
    }

    /// Adds a run where none is, joined with equal neighbours.
    fn insert(&mut self, mut first: i64, mut last: i64, fate: Fate) {
        if let Some((before, (end, same))) = self.runs.range(..first).next_back()
            && *end == first - 1
            && *same == fate
        {
            first = *before;
        }
        if let Some((end, same)) = self.runs.get(&(last + 1)).copied()
            && same == fate
        {
            self.runs.remove(&(last + 1));
            last = end;
        }
        self.runs.insert(first, (last, fate));
    }

    fn advance(&mut self) {
        while let Some(entry) = self.runs.first_entry() {
            let (last, fate) = *entry.get();
            if *entry.key() != self.start || !fate.is_final() {
                return;
            }
            self.start = last + 1;
            entry.remove();
        }
    }
}
