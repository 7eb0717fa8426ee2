//! The numbers of producers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A producer's number, from a durable counter; never used twice.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ProducerId(pub i64);

/// Which incarnation of a producer: an older one is fenced.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ProducerEpoch(pub i16);

/// How a transaction ends. Append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// Its records and offsets become visible.
    Commit,
    /// They never were.
    Abort,
}

impl ProducerEpoch {
    /// The last epoch that is given to a client (research/kafka.md 2.4); the one above it is left
    /// for fencing.
    pub const LAST: Self = Self(i16::MAX - 1);

    /// Whether the next epoch needs a new producer id.
    #[must_use]
    pub const fn is_exhausted(self) -> bool {
        self.0 >= Self::LAST.0
    }

    /// The epoch after this one; the highest stays.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
