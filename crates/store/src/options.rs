//! How a store behaves.

use crate::limits::{FIRST_SEGMENT_BYTES, PAGE_BYTES};

/// How a store behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether acknowledgement waits for the disk.
    pub durability: Durability,
    /// Bytes of a WAL segment, rounded up to 4 KiB; the first one is smaller.
    pub wal_segment_bytes: u64,
    /// Bytes the WAL may hold before the oldest stride is retired.
    pub wal_window_bytes: u64,
    /// Young batches and messages there may be before the oldest stride is retired.
    pub wal_window_entries: usize,
    /// Bytes of recent groups kept in memory for readers.
    pub cache_bytes: usize,
    /// Bytes that may be staged and not yet synced.
    pub unsynced_bytes_max: usize,
    /// Bytes of disk always left free for facts that free space.
    pub disk_reserve_bytes: u64,
    /// Bytes of the file that is given up when the disk is all but full; written once less than
    /// sixteen times as much is free. 0 is none (store.md rule 22).
    pub ballast_bytes: u64,
    /// Bytes after which a partition's segment is closed and a new one begun.
    pub segment_bytes: u64,
    /// Seeds generations of WAL segments; differs at each start.
    pub seed: u64,
    /// A mistake, for the proof that the simulator would see it.
    #[doc(hidden)]
    pub planted: PlantedBug,
}

/// Mistakes of store.md section 4 that only the store itself can make. Never set outside the simulator.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlantedBug {
    /// None.
    #[default]
    None,
    /// The log is cut where it breaks off, whatever was durable.
    CorruptionCalledTorn,
    /// The log is cut at the first damaged payload, though good groups follow.
    TruncatesInTheMiddle,
    /// A group torn at the end of the log refuses the start.
    TornCalledCorruption,
    /// A WAL segment goes as soon as it is retired.
    RecyclesBeforeSync,
    /// A snapshot takes its name before what it says is durable.
    LivenessFromUnsyncedSettles,
    /// Only the WAL since the newest snapshot is kept.
    FallbackSnapshotWithoutItsWal,
    /// A whole group of an earlier life of the file counts for one of this life.
    StaleFrameAccepted,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            wal_segment_bytes: 32 << 20,
            wal_window_bytes: 256 << 20,
            wal_window_entries: 1_000_000,
            cache_bytes: 64 << 20,
            unsynced_bytes_max: 64 << 20,
            disk_reserve_bytes: 64 << 20,
            ballast_bytes: 64 << 20,
            segment_bytes: 1 << 30,
            seed: 0,
            planted: PlantedBug::None,
        }
    }
}

impl Options {
    /// Bytes of an ordinary segment, in whole pages.
    pub(crate) fn segment_capacity(&self) -> u64 {
        self.wal_segment_bytes.max(1).next_multiple_of(PAGE_BYTES as u64)
    }

    /// Bytes of the segment a start begins with.
    pub(crate) fn first_capacity(&self) -> u64 {
        self.segment_capacity().min(FIRST_SEGMENT_BYTES)
    }
}

/// When a fact counts as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Once the WAL was synced past it.
    Sync,
    /// Once it was written: never synced. Survives the process, not the machine.
    Os,
}
