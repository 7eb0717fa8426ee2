//! The one durable order: groups of frames in preallocated, recycled segments.
//!
//! Locks, outermost first: the log's own state (only the log role takes it), the stage, the table of
//! segments, the cache. None is held across a copy of bodies, a CRC or a system call, except that
//! the log role holds its own, which nobody else wants.

pub(crate) mod cache;
pub(crate) mod encode;
pub(crate) mod layout;
pub(crate) mod prepare;
pub(crate) mod scan;
pub(crate) mod segments;
pub(crate) mod stage;
pub(crate) mod writer;
