//! The index of a partition's batches that are only in the WAL yet.

use std::collections::VecDeque;

use crate::{Lsn, Offset};

/// One batch in the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct YoungBatch {
    pub(crate) base: Offset,
    /// The offset after its last record.
    pub(crate) next: Offset,
    /// The largest timestamp in it, in ms.
    pub(crate) max_timestamp: i64,
    /// Its item's place.
    pub(crate) lsn: Lsn,
    /// Bytes of the batch.
    pub(crate) bytes: u32,
}

/// Invariant: offsets and LSNs both ascend (rule 2).
#[derive(Debug, Default)]
pub(crate) struct Young {
    batches: VecDeque<YoungBatch>,
    bytes: u64,
}

impl Young {
    pub(crate) fn push(&mut self, batch: YoungBatch) {
        if let Some(last) = self.batches.back() {
            assert!(last.lsn < batch.lsn && last.next <= batch.base, "offset order is LSN order");
        }
        self.bytes += u64::from(batch.bytes);
        self.batches.push_back(batch);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn last(&self) -> Option<&YoungBatch> {
        self.batches.back()
    }

    /// Batches below `lsn`, in order.
    pub(crate) fn below(&self, lsn: Lsn) -> impl DoubleEndedIterator<Item = &YoungBatch> {
        let count = self.batches.partition_point(|batch| batch.lsn < lsn);
        self.batches.iter().take(count)
    }

    /// The end of the last batch below `durable`.
    pub(crate) fn durable_end(&self, durable: Lsn) -> Option<Offset> {
        self.below(durable).next_back().map(|batch| batch.next)
    }

    /// Batches from the one that holds `from` on.
    pub(crate) fn from(&self, from: Offset) -> impl Iterator<Item = &YoungBatch> {
        let first = self.batches.partition_point(|batch| batch.next <= from);
        self.batches.range(first..)
    }

    /// Forgets the batches that end at or below `start`: they were trimmed.
    pub(crate) fn trim(&mut self, start: Offset) {
        let count = self.batches.partition_point(|batch| batch.next <= start);
        for batch in self.batches.drain(..count) {
            self.bytes -= u64::from(batch.bytes);
        }
    }

    /// Forgets the batches below `lsn`: they have a second home.
    pub(crate) fn retire(&mut self, lsn: Lsn) -> usize {
        let count = self.batches.partition_point(|batch| batch.lsn < lsn);
        for batch in self.batches.drain(..count) {
            self.bytes -= u64::from(batch.bytes);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(base: i64, next: i64, lsn: u64) -> YoungBatch {
        let (base, next) = (Offset(base), Offset(next));
        YoungBatch { base, next, max_timestamp: 0, lsn: Lsn(lsn), bytes: 100 }
    }

    #[test]
    fn the_high_watermark_is_the_end_of_the_last_durable_batch() {
        let mut young = Young::default();
        young.push(batch(0, 3, 10));
        young.push(batch(3, 4, 20));
        assert_eq!(young.durable_end(Lsn(10)), None);
        assert_eq!(young.durable_end(Lsn(11)), Some(Offset(3)));
        assert_eq!(young.durable_end(Lsn(21)), Some(Offset(4)));
    }

    #[test]
    fn reading_starts_at_the_batch_that_holds_the_offset() {
        let mut young = Young::default();
        young.push(batch(0, 3, 10));
        young.push(batch(3, 9, 20));
        let bases: Vec<_> = young.from(Offset(2)).map(|batch| batch.base.0).collect();
        assert_eq!(bases, [0, 3]);
        assert_eq!(young.retire(Lsn(20)), 1);
        assert_eq!((young.len(), young.bytes()), (1, 100));
    }
}
