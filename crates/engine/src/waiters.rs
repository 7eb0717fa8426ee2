//! Who waits for something to happen: wakers registered once and woken once.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

/// Tasks that wait for the same thing. Waking takes them all out; who still waits registers again.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    any: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Waiters {
    /// Adds `waker`, once however often it is registered.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
        self.any.store(true, Ordering::Release);
    }

    /// Takes `waker` out: it no longer waits.
    pub(crate) fn forget(&self, waker: &Waker) {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.retain(|known| !known.will_wake(waker));
        self.any.store(!wakers.is_empty(), Ordering::Release);
    }

    /// Wakes all, outside the lock. Costs one atomic read when nobody waits.
    pub(crate) fn wake(&self) {
        if !self.any.swap(false, Ordering::AcqRel) {
            return;
        }
        let woken =
            std::mem::take(&mut *self.wakers.lock().unwrap_or_else(PoisonError::into_inner));
        for waker in woken {
            waker.wake();
        }
    }
}
