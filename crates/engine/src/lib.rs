//! The broker without a wire: topics, groups, transactions, exchanges, queues, over one [`ottla_store::Store`].
//!
//! Calls are synchronous: they append and return a result with the place (`Lsn`) of the newest fact it
//! reveals; the driver releases the reply once the log is durable past it. What is hard to get right is
//! a pure machine: `apply(command, now) -> effects`.

pub mod clock;
pub mod exchange;
pub mod group;
pub mod queue;
pub mod txn;
pub mod value;
