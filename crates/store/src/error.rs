//! What can go wrong, one enum per operation; a variant is a reaction of the caller.

use std::io;

use crate::{Lsn, Offset, StreamId};

/// Why a data directory does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Written by a newer version: use that version.
    #[error("{path} has format {found}; this version reads up to {supported}")]
    NewerFormat {
        /// The file that says so.
        path: String,
        /// Its format version.
        found: u32,
        /// The newest format this version reads.
        supported: u32,
    },
    /// The write-ahead log or every snapshot is damaged below what was acknowledged. Nothing was changed.
    #[error("{what} at {lsn}: acknowledged data is unreadable there; nothing was changed")]
    Corrupt {
        /// What was found.
        what: String,
        /// Where.
        lsn: Lsn,
    },
    /// The disk failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with the path.
        doing: String,
        /// The disk's own words.
        #[source]
        source: io::Error,
    },
}

/// Why a write was refused before it changed anything (store.md rule 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The disk is full. Facts that free space are still taken.
    #[error("no space left for new data")]
    DiskFull,
    /// As many bytes are unsynced as may be: wait for [`Store::durable`](crate::Store::durable) to move.
    #[error("too many unsynced bytes")]
    Busy,
    /// A frame larger than [`FRAME_BYTES_MAX`](crate::limits::FRAME_BYTES_MAX).
    #[error("larger than a frame may be")]
    TooLarge,
    /// A sync failed: nothing will be acknowledged any more and the process is about to end.
    #[error("the log failed and takes no more")]
    Poisoned,
}

/// The log failed: acknowledge nothing more and exit (74). Never retried (store.md rule 6).
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct Fatal {
    /// What was being done, with the path.
    pub doing: String,
    /// The disk's own words.
    #[source]
    pub source: io::Error,
}

/// Why a read gave nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The stream does not exist (any more).
    #[error("stream {0} does not exist")]
    UnknownStream(StreamId),
    /// Below the start or above the end of the partition.
    #[error("offset outside {start}..={end}")]
    OutOfRange {
        /// The first offset that exists.
        start: Offset,
        /// The offset after the last that exists.
        end: Offset,
    },
    /// No such message (any more).
    #[error("no message at {0}")]
    UnknownMessage(Lsn),
    /// The bytes on disk are not those that were written. The stream is quarantined; others go on.
    #[error("damaged: {what}")]
    Corrupt {
        /// What was found, and where.
        what: String,
    },
    /// The disk failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with the path.
        doing: String,
        /// The disk's own words.
        #[source]
        source: io::Error,
    },
}
