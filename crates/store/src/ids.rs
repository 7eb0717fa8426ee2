//! The numbers of the log: where a fact stands, which stream it belongs to, which record it is.

use std::fmt;

/// A place in the write-ahead log: a byte position that only grows, over all segments of all time.
///
/// A frame's LSN is the position of its first byte; an item's LSN (the sequence number of a queued
/// message) the position of its item header. A fact at `lsn` is durable once
/// [`durable`](crate::Store::durable)` > lsn`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// The position of a record in a partition. Kafka's offset: never negative once assigned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

/// A partition or a queue. Ids come from a durable counter and are never used twice, so that a late
/// fact of a deleted stream can never reach its namesake (store.md rule 12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Kafka's partition leader epoch: constant while every acknowledgement is synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderEpoch(pub i32);

impl Lsn {
    /// Below every fact.
    pub const ZERO: Self = Self(0);

    /// Whether everything before `durable` being synced covers the fact at this place.
    #[must_use]
    pub const fn is_durable(self, durable: Self) -> bool {
        self.0 < durable.0
    }

    /// The place `bytes` further on.
    #[must_use]
    pub const fn advance(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

impl Offset {
    /// The first offset of a new partition.
    pub const ZERO: Self = Self(0);

    /// The offset after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The offset `records` further on.
    #[must_use]
    pub fn advance(self, records: u32) -> Self {
        Self(self.0 + i64::from(records))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}
