//! Replies wait here until the log is durable past the facts they reveal.
//!
//! The log's thread stores one number and wakes one task; that task wakes the connections whose
//! place was passed, inside the runtime (completing each waiter from the log's thread cost more than
//! the sync itself).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, Waker};

use ottla_engine::{Lsn, StreamId};
use tokio::sync::Notify;

/// How far the log is durable, and who waits for more.
#[derive(Debug, Default)]
pub(crate) struct Release {
    durable: AtomicU64,
    moved: Notify,
    partitions: Mutex<Vec<StreamId>>,
    waiting: Mutex<BinaryHeap<Reverse<Waiting>>>,
}

#[derive(Debug)]
struct Waiting {
    lsn: Lsn,
    waker: Waker,
}

impl Release {
    /// Called by the log's thread after each commit, with the partitions that got batches.
    pub(crate) fn publish(&self, durable: Lsn, partitions: &[StreamId]) {
        self.durable.fetch_max(durable.0, Ordering::AcqRel);
        if !partitions.is_empty() {
            let mut moved = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
            moved.extend_from_slice(partitions);
        }
        self.moved.notify_one();
    }

    /// Whether the fact at `lsn` is durable.
    pub(crate) fn is_durable(&self, lsn: Lsn) -> bool {
        lsn.is_durable(Lsn(self.durable.load(Ordering::Acquire)))
    }

    /// Waits until the fact at `lsn` is durable.
    pub(crate) async fn reached(&self, lsn: Lsn) {
        let mut registered: Option<Waker> = None;
        poll_fn(|context| {
            if self.is_durable(lsn) {
                return Poll::Ready(());
            }
            if registered.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
                return Poll::Pending;
            }
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if self.is_durable(lsn) {
                return Poll::Ready(()); // it moved while the lock was taken
            }
            waiting.push(Reverse(Waiting { lsn, waker: context.waker().clone() }));
            registered = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The releaser's step: waits for the log, wakes whose place was passed, and returns the
    /// partitions that got batches since the last step.
    pub(crate) async fn moved(&self) -> Vec<StreamId> {
        self.moved.notified().await;
        let mut moved = {
            let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *partitions)
        };
        for waker in self.passed() {
            waker.wake();
        }
        moved.sort_unstable();
        moved.dedup();
        moved
    }

    fn passed(&self) -> Vec<Waker> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut passed = Vec::new();
        while waiting.peek().is_some_and(|first| self.is_durable(first.0.lsn)) {
            passed.extend(waiting.pop().map(|first| first.0.waker));
        }
        passed
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.lsn == other.lsn
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.lsn.cmp(&other.lsn)
    }
}
