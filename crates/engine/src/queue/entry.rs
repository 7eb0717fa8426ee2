//! What a queue knows of a message.

use ottla_store::Lsn;

use crate::clock::Wall;

/// A message of one queue: 32 bytes, whatever its body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the log, which is its number in the queue.
    pub seq: Lsn,
    /// From this moment on it is never delivered; [`NEVER`] for no such moment.
    pub expires_at: Wall,
    /// Length of the body; what `x-max-length-bytes` counts.
    pub bytes: u32,
    /// Failed deliveries so far: rejected, or the consumer was lost. Header `x-delivery-count`.
    pub delivery_count: u32,
    /// All deliveries that ended in a return. Header `x-acquired-count`.
    pub acquired_count: u32,
    /// From [`Settings::lane`](super::Settings::lane): higher is delivered first.
    pub priority: u8,
    /// Was delivered before, or may have been (after a crash).
    pub redelivered: bool,
    /// Its time to live is 0: delivered the moment it becomes visible, or never.
    pub immediate: bool,
    /// Opaque to the queue.
    pub note: u8,
}

/// No expiry.
pub const NEVER: Wall = Wall(i64::MAX);

const _: () = assert!(size_of::<Entry>() == 32, "an entry is kept for every ready message");

impl Entry {
    /// A new message that never expires.
    #[must_use]
    pub const fn new(seq: Lsn, bytes: u32) -> Self {
        Self {
            seq,
            expires_at: NEVER,
            bytes,
            delivery_count: 0,
            acquired_count: 0,
            priority: 0,
            redelivered: false,
            immediate: false,
            note: 0,
        }
    }

    /// Whether it must not be delivered any more.
    #[must_use]
    pub fn is_expired(&self, now: Wall) -> bool {
        self.expires_at <= now
    }
}
