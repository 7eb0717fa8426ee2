//! Producers and transactions: who may write under which number, and what becomes visible together.
//! Pure machines; knows no log, no lock and no wire.

mod ids;
pub mod producers;

pub use ids::{Outcome, ProducerEpoch, ProducerId};
