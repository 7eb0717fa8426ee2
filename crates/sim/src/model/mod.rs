//! The model: what a store must hold, written as naively as possible, and an engine on top of it.

mod engine;
mod fact;
mod truth;

pub use engine::{Engine, Planted};
pub use fact::{Command, Fact, frame_of};
pub use truth::{Partition, Queue, Stored, Truth};
