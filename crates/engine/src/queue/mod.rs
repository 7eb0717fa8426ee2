//! Queues: a pure machine (`apply(command, now) -> effects`), its arguments, and the traces of dead letters.
//!
//! One machine serves classic and quorum queues; what differs is in [`Settings`]. It knows messages
//! as [`Entry`]s; bodies, delivery tags, names, locks and the log belong to whoever drives it.

mod arguments;
mod command;
mod consumers;
mod death;
mod delivery;
mod entry;
mod lifetime;
mod machine;
mod ready;
mod settings;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use arguments::{
    ArgumentError, ArgumentFault, Declaration, InvalidProperty, QueueType, Rules, interval_ms,
};
pub use command::{
    CancelReason, ChannelKey, Command, Consume, ConsumerId, Death, DeleteReason, Effect, Outcome,
    Refusal,
};
pub use death::{Deaths, Dying, LastDeath, remove_selectors};
pub use entry::{Entry, NEVER};
pub use machine::{Counts, Deadline, Machine};
pub use settings::{Acceptance, Order, Overflow, Retry, RetryOn, Settings};
