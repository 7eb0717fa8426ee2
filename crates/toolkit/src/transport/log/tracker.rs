//! How far a partition is settled: everything below is done, whatever the order it was done in.

use std::collections::{BTreeMap, BTreeSet};

/// The unsettled deliveries of one partition.
///
/// Invariant: what was read and is not outstanding is done; the commit never passes an outstanding one.
#[derive(Debug)]
pub(crate) struct Tracker {
    /// Where to read next.
    position: u64,
    /// Handed out or to be handed out again.
    outstanding: BTreeSet<u64>,
    /// Given back: to be handed out again, first ones first.
    again: BTreeSet<u64>,
    committed: Option<u64>,
}

impl Tracker {
    pub(crate) const fn new(position: u64) -> Self {
        Self {
            position,
            outstanding: BTreeSet::new(),
            again: BTreeSet::new(),
            committed: Some(position),
        }
    }

    /// Where to read next.
    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    /// A record was read and is handed out.
    pub(crate) fn handed_out(&mut self, offset: u64) {
        self.outstanding.insert(offset);
        self.position = self.position.max(offset + 1);
    }

    /// Everything below was read.
    pub(crate) fn read_to(&mut self, next: u64) {
        self.position = self.position.max(next);
    }

    /// Done. `false`: it was not known (settled before, or not of this assignment).
    pub(crate) fn ack(&mut self, offset: u64) -> bool {
        self.again.remove(&offset);
        self.outstanding.remove(&offset)
    }

    /// Given back.
    pub(crate) fn release(&mut self, offset: u64) -> bool {
        let known = self.outstanding.contains(&offset);
        if known {
            self.again.insert(offset);
        }
        known
    }

    /// The first that was given back, to be handed out again.
    pub(crate) fn pop_again(&mut self) -> Option<u64> {
        self.again.pop_first()
    }

    /// Whether something is handed out (not only waiting to be handed out again).
    pub(crate) fn is_idle(&self) -> bool {
        self.outstanding.len() == self.again.len()
    }

    /// Everything below is done.
    pub(crate) fn watermark(&self) -> u64 {
        self.outstanding.first().copied().unwrap_or(self.position)
    }

    /// Whether there is something to commit.
    pub(crate) fn has_moved(&self) -> bool {
        self.committed != Some(self.watermark())
    }

    /// The commit failed: there still is something to commit.
    pub(crate) const fn commit_failed(&mut self) {
        self.committed = None;
    }

    /// The watermark, if it moved since the last time.
    pub(crate) fn take_commit(&mut self) -> Option<u64> {
        let watermark = self.watermark();
        if self.committed == Some(watermark) {
            return None;
        }
        self.committed = Some(watermark);
        Some(watermark)
    }
}

/// The partitions of one consumer.
pub(crate) type Trackers = BTreeMap<u32, Tracker>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_waits_for_the_lowest_that_is_not_done() {
        let mut tracker = Tracker::new(10);
        for offset in [10, 11, 15] {
            tracker.handed_out(offset); // compaction left a gap
        }
        tracker.ack(11);
        tracker.ack(15);
        assert_eq!(tracker.take_commit(), None, "10 may fail yet");
        assert!(tracker.release(10));
        assert_eq!((tracker.pop_again(), tracker.take_commit()), (Some(10), None));
        assert!(tracker.ack(10));
        assert_eq!(tracker.take_commit(), Some(16));
        assert!(!tracker.ack(10), "settled once");
    }
}
