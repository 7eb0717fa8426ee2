//! One queue.

/// One queue.
#[derive(Debug)]
pub(super) struct Queue;
