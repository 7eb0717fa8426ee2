//! The broker behind AMQP, as a part of the engine.

use super::Engine;
use crate::broker::Broker;

impl Engine {
    /// The broker behind AMQP.
    #[must_use]
    pub const fn broker(&self) -> &Broker {
        &self.broker
    }
}
