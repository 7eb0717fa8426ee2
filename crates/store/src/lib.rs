//! Ottla's durable log: bytes, offsets, files. No protocol, no async, spawns no thread.
//!
//! Every durable fact goes through one write-ahead log (WAL) with one group commit. A [`Frame`] is a
//! set of facts that become durable together; [`Store::append`] gives it its place (an [`Lsn`]) and
//! returns at once; a reply that reveals the frame is released when [`Store::durable`] has passed
//! that place. What the WAL holds is later *retired*: partition batches to their partition's
//! contiguous segments, what is still alive of the queues to one old-log file a stride, everything
//! else into a snapshot. Recovery reads the newest good snapshot and what the WAL holds above it.
//!
//! ```text
//!   append ──► staged ──► log role: write + fdatasync ──► durable ──► keeper role: retire, snapshot,
//!   (callers)  (groups)   (Store::commit)                  (replies)   recycle (Store::keep)
//! ```
//!
//! The roles are plain functions; whoever embeds the store calls them from threads of its own, and
//! the simulator calls them step by step.

pub mod batch;
pub mod codec;
pub mod disk;
mod error;
mod files;
pub mod frame;
mod ids;
pub mod index;
pub mod limits;
#[cfg(test)]
mod mem_disk;
pub mod records;
pub mod segment;
mod store;

pub use error::{Fatal, OpenError, ReadError, Refused};
pub use files::FileError;
pub use ids::{LeaderEpoch, Lsn, Offset, StreamId};
pub use store::{
    Batches, Durability, Extent, Options, Purpose, ReadLimit, Replay, ReplayFact, ReplayItem,
    Reservation, State, Store,
};
