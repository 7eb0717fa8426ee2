//! The broker behind AMQP, as a part of the engine.

use super::Engine;
use crate::broker::{Broker, BrokerError, Channel, DeleteIf, Removed};

impl Engine {
    /// The broker behind AMQP.
    #[must_use]
    pub const fn broker(&self) -> &Broker {
        &self.broker
    }

    /// `queue.delete`; a stream takes the topic along that was made for it, with all its records.
    ///
    /// # Errors
    /// As [`Broker::delete_queue`].
    pub fn delete_queue(
        &self,
        channel: &mut Channel,
        name: &str,
        condition: DeleteIf,
    ) -> Result<Removed, BrokerError> {
        let mut removed = self.broker.delete_queue(channel, name, condition)?;
        if let Some(topic) = removed.topic.take() {
            let lsn = self.delete_topic(topic)?;
            removed.lsn = removed.lsn.max(lsn.unwrap_or_default());
        }
        Ok(removed)
    }
}
