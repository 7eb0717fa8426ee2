//! Stories of the engine over a simulated disk: what a client was told survives a power cut.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod compaction;
mod dead_letters;
mod formats;
mod full_disk;
mod groups;
mod queue_crash;
mod retention;
mod rig;
mod topics;
mod txns;
