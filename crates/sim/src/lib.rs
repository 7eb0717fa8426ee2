//! The simulator: a disk that forgets, a clock that jumps, and the proof of the store.
//!
//! Everything here is a function of a seed: the same seed gives the same calls, the same power cuts
//! and the same findings. docs/internals/testing.md tells how to run it and how to read a finding.

pub mod chance;
pub mod check;
pub mod disk;
pub mod explore;
pub mod history;
pub mod lies;
pub mod model;
pub mod world;

pub use chance::Chance;
pub use disk::SimDisk;
