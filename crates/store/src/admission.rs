//! Who may write: a frame is refused before anything changes, never after (rule 3).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::Refused;
use crate::limits::SMALL_FRAME_BYTES_MAX;
use crate::state::Purpose;

/// Counts unsynced bytes and the room left on the disk.
#[derive(Debug)]
pub(crate) struct Admission {
    unsynced: AtomicUsize,
    unsynced_max: usize,
    /// Bytes that new data may still take; measured now and then, counted down in between.
    grow: AtomicU64,
    /// Bytes that anything may still take.
    shrink: AtomicU64,
    /// Bytes free, for who asks.
    free: AtomicU64,
    /// New data was refused since the last measurement that found room for it.
    refused: AtomicBool,
}

impl Admission {
    pub(crate) fn new(unsynced_max: usize) -> Self {
        Self {
            unsynced: AtomicUsize::new(0),
            unsynced_max,
            grow: AtomicU64::new(0),
            shrink: AtomicU64::new(0),
            free: AtomicU64::new(0),
            refused: AtomicBool::new(false),
        }
    }

    /// Takes the result of a measurement.
    pub(crate) fn measured(&self, grow: u64, shrink: u64, free: u64) {
        self.grow.store(grow, Ordering::Relaxed);
        self.shrink.store(shrink, Ordering::Relaxed);
        self.free.store(free, Ordering::Relaxed);
        if grow >= REFUSED_UNTIL_BYTES {
            self.refused.store(false, Ordering::Relaxed);
        }
    }

    /// Room for `bytes`; taken until given back.
    pub(crate) fn take(
        self: &Arc<Self>,
        purpose: Purpose,
        bytes: usize,
    ) -> Result<Reservation, Refused> {
        let room = match purpose {
            Purpose::Grow => &self.grow,
            Purpose::Shrink => &self.shrink,
        };
        let unsynced = self.unsynced.load(Ordering::Relaxed) as u64;
        if room.load(Ordering::Relaxed) < unsynced + bytes as u64 {
            self.refused.store(true, Ordering::Relaxed);
            return Err(Refused::DiskFull);
        }
        let allowed = match bytes {
            ..=SMALL_FRAME_BYTES_MAX => self.unsynced_max,
            _ => self.unsynced_max / 2,
        };
        let took = self.unsynced.try_update(Ordering::Relaxed, Ordering::Relaxed, |unsynced| {
            // One frame always fits, or a large one would never be taken.
            (unsynced == 0 || unsynced + bytes <= allowed).then_some(unsynced + bytes)
        });
        match took {
            Ok(_) => Ok(Reservation { admission: Arc::clone(self), bytes }),
            Err(_) => Err(Refused::Busy),
        }
    }

    /// The frames of `bytes` were synced; `written` bytes of disk are taken.
    pub(crate) fn synced(&self, bytes: u64, written: u64) {
        self.give_back(usize::try_from(bytes).unwrap_or(usize::MAX));
        for room in [&self.grow, &self.shrink] {
            room.update(Ordering::Relaxed, Ordering::Relaxed, |left| left.saturating_sub(written));
        }
    }

    /// What the disk has left.
    pub(crate) fn disk_room(&self) -> DiskRoom {
        DiskRoom {
            free_bytes: self.free.load(Ordering::Relaxed),
            data_bytes: self.grow.load(Ordering::Relaxed),
            is_full: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Bytes that new data may still take.
    pub(crate) fn room(&self) -> u64 {
        self.grow.load(Ordering::Relaxed)
    }

    pub(crate) fn unsynced(&self) -> usize {
        self.unsynced.load(Ordering::Relaxed)
    }

    fn give_back(&self, bytes: usize) {
        self.unsynced
            .update(Ordering::Relaxed, Ordering::Relaxed, |left| left.saturating_sub(bytes));
    }
}

/// What the disk under a store has left, as measured last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRoom {
    /// Bytes free.
    pub free_bytes: u64,
    /// Bytes of them that new data may take; the rest is for the log's second home, snapshots and
    /// facts that free space (store.md rule 3).
    pub data_bytes: u64,
    /// Whether something was refused for want of room, and there is not much more since.
    pub is_full: bool,
}

/// Room for one frame, taken before any state changes; given back when dropped unused.
#[derive(Debug)]
#[must_use]
pub struct Reservation {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Reservation {
    /// The frame was staged with `bytes`: the room is held until it is synced.
    pub(crate) fn staged(mut self, bytes: usize) {
        if bytes > self.bytes {
            self.admission.unsynced.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.admission.give_back(self.bytes - bytes);
        }
        self.bytes = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.admission.give_back(self.bytes);
    }
}

/// Until so much may be written the disk counts as full.
const REFUSED_UNTIL_BYTES: u64 = 1 << 20;
