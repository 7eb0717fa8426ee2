//! Ottla's durable log: bytes, offsets, files. No protocol, no async, spawns no thread.
//!
//! Every durable fact goes through one write-ahead log (WAL) with one group commit. A [`Frame`](frame::Frame) is a
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

mod admission;
mod append;
pub mod batch;
mod buffers;
pub mod codec;
pub mod compact;
mod compacting;
mod core;
pub mod disk;
mod error;
mod files;
pub mod frame;
mod garbage;
mod ids;
pub mod index;
mod index_cache;
pub mod inspect;
mod keeper;
pub mod limits;
mod looking;
mod manifest;
#[cfg(test)]
mod mem_disk;
mod messages;
pub mod oldlog;
mod options;
mod reading;
pub mod records;
mod recovery;
pub mod segment;
pub mod snapshot;
mod state;
mod store;
#[cfg(test)]
mod stories;
mod streams;
#[cfg(test)]
mod testing;
mod wal;
mod young;

pub use admission::{DiskRoom, Reservation};
pub use compacting::{CompactTask, Compaction};
pub use error::{Fatal, OpenError, ReadError, Refused};
pub use files::FileError;
pub use ids::{LeaderEpoch, Lsn, Offset, StreamId};
pub use options::{Durability, Options, PlantedBug};
pub use reading::{Batches, ReadLimit};
pub use segment::SegmentMeta;
pub use state::{Damage, DurableObserver, Purpose, Replay, ReplayFact, ReplayItem, State};
pub use store::{Extent, Store};
pub use streams::Retain;
