//! Places in the global order, and what a read has seen.

use std::fmt;
use std::str::FromStr;

/// An event's place in the global order. It cannot be made from a number: a reader that compares bare
/// sequence numbers loses events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pos {
    /// PostgreSQL: which transactions must have ended first. SQLite: 0.
    pub(crate) label: u64,
    pub(crate) seq: u64,
}

impl Pos {
    /// Before the first event.
    pub const START: Self = Self { label: 0, seq: 0 };
}

impl fmt::Display for Pos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.label, self.seq)
    }
}

impl FromStr for Pos {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (label, seq) = text.split_once('-').unwrap_or(("", text));
        Ok(Self { label: label.parse()?, seq: seq.parse()? })
    }
}

/// What a read of tags has seen: an append that names it happens only if nothing that fits was added
/// since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Everything below this was final, and seen.
    pub(crate) horizon: u64,
    /// How many that fit were seen at or above it.
    pub(crate) beyond: u64,
}
