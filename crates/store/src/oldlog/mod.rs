//! The old log: what is still alive of a retired stride's messages, each body once, in one file.
//!
//! Messages are clustered by the first queue that holds them, for consumers read queue by queue; an
//! index by LSN at the end finds each. A message is opaque here: the bytes of its WAL item.
//! Layout: `docs/format/oldlog.md`.

mod index;
mod reader;
mod writer;

use crate::disk::Disk;
use crate::files::{self, FileError};
use crate::{Lsn, StreamId};

pub use reader::OldLogReader;
pub use writer::{OldLogWriter, rewrite};

/// A message in an old log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldMessage<'a> {
    /// Its place in the log; unique in the file.
    pub lsn: Lsn,
    /// The queue it is clustered under.
    pub queue: StreamId,
    /// What was stored of it, opaque.
    pub bytes: &'a [u8],
}

/// What a finished old log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldLogSummary {
    /// Where the stride begins.
    pub start: Lsn,
    /// How many messages.
    pub messages: u64,
    /// Bytes of the file; goes into the snapshot, for the file's own length proves nothing.
    pub bytes: u64,
}

/// Gives a finished old log its name, durably.
pub fn publish(disk: &dyn Disk, temporary: &str, path: &str) -> Result<(), FileError> {
    files::publish(disk, temporary, path)
}

/// The version of the old-log file.
pub const OLD_LOG_FORMAT: u32 = 1;
/// Messages in one old log at most.
pub const MESSAGES_MAX: usize = 4 << 20;
const MAGIC: &[u8; 4] = b"OTLO";
const HEADER_BYTES: usize = 64;
const MESSAGE_HEADER_BYTES: usize = 24;
const FOOTER_BYTES: usize = 64;

#[cfg(test)]
mod tests;
