//! Producers and transactions: who may write under which number, and what becomes visible together.
//! Pure machines; knows no log, no lock and no wire.

pub mod coordinator;
mod ids;
pub mod producers;

pub use ids::{Outcome, ProducerEpoch, ProducerId};
