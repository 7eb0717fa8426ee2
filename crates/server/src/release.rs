//! Replies wait here until the log is durable past the facts they reveal.
//!
//! The log's thread stores one number and wakes one task; that task wakes the connections whose
//! place was passed, inside the runtime (completing each waiter from the log's thread cost more than
//! the sync itself).
//!
//! There are two gates. *Durable* is passed as soon as the log says so. *Visible* is passed a moment
//! later, once the queues have taken in what became durable: who waits for it finds there what it
//! published.

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
    durable: Gate,
    visible: Gate,
    moved: Notify,
    partitions: Mutex<Vec<StreamId>>,
}

/// A place in the log that moves on, and who waits for it.
#[derive(Debug, Default)]
struct Gate {
    passed: AtomicU64,
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
        self.durable.advance(durable);
        if !partitions.is_empty() {
            let mut moved = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
            moved.extend_from_slice(partitions);
        }
        self.moved.notify_one();
    }

    /// Whether the fact at `lsn` is durable.
    pub(crate) fn is_durable(&self, lsn: Lsn) -> bool {
        self.durable.is_past(lsn)
    }

    /// Waits until the fact at `lsn` is durable.
    pub(crate) async fn reached(&self, lsn: Lsn) {
        let mut registered: Option<Waker> = None;
        poll_fn(|context| {
            if registered.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
                return if self.is_durable(lsn) { Poll::Ready(()) } else { Poll::Pending };
            }
            if self.durable.register(lsn, context.waker()) {
                return Poll::Ready(());
            }
            registered = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits until the fact at `lsn` is durable and the queues show it.
    pub(crate) async fn shown(&self, lsn: Lsn) {
        poll_fn(|context| match self.visible.register(lsn, context.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    /// Everything below this place is durable and visible in the queues.
    pub(crate) fn visible(&self) -> Lsn {
        Lsn(self.visible.passed.load(Ordering::Acquire))
    }

    /// Wakes `waker` once everything at `lsn` is visible; `true`, and nothing to wait for, if it is.
    pub(crate) fn register_visible(&self, lsn: Lsn, waker: &Waker) -> bool {
        self.visible.register(lsn, waker)
    }

    /// The releaser's first step: waits for the log, wakes whose place was passed, and returns how far
    /// it is durable and the partitions that got batches since the last step.
    pub(crate) async fn moved(&self) -> (Lsn, Vec<StreamId>) {
        self.moved.notified().await;
        let durable = Lsn(self.durable.passed.load(Ordering::Acquire));
        let mut moved = {
            let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *partitions)
        };
        self.durable.wake_passed();
        moved.sort_unstable();
        moved.dedup();
        (durable, moved)
    }

    /// The releaser's last step: the queues show everything below `upto`.
    pub(crate) fn publish_visible(&self, upto: Lsn) {
        self.visible.advance(upto);
        self.visible.wake_passed();
    }
}

impl Gate {
    fn advance(&self, to: Lsn) {
        self.passed.fetch_max(to.0, Ordering::AcqRel);
    }

    fn is_past(&self, lsn: Lsn) -> bool {
        lsn.is_durable(Lsn(self.passed.load(Ordering::Acquire)))
    }

    fn register(&self, lsn: Lsn, waker: &Waker) -> bool {
        if self.is_past(lsn) {
            return true;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_past(lsn) {
            return true; // it moved while the lock was taken
        }
        waiting.push(Reverse(Waiting { lsn, waker: waker.clone() }));
        false
    }

    fn wake_passed(&self) {
        let mut passed = Vec::new();
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            while waiting.peek().is_some_and(|first| self.is_past(first.0.lsn)) {
                passed.extend(waiting.pop().map(|first| first.0.waker));
            }
        }
        for waker in passed {
            waker.wake();
        }
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
