//! The broker behind AMQP, as a part of the engine.

use ottla_store::Lsn;

use super::Engine;
use crate::broker::{Broker, BrokerError, Channel, DeleteIf, Login, Removed};
use crate::queue::QueueType;

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

    /// Ends a virtual host with everything in it, also the topics that were made for its streams.
    ///
    /// # Errors
    /// As [`Broker::delete_vhost`].
    pub fn delete_vhost(&self, login: Login, name: &str) -> Result<Lsn, BrokerError> {
        let views = self.broker.queue_views(Some(name)).into_iter();
        let streams: Vec<_> = views.filter(|view| view.queue_type == QueueType::Stream).collect();
        if !streams.is_empty() {
            let mut channel = self.broker.open_channel(&self.broker.connect_operator(login, name)?);
            for stream in streams {
                self.delete_queue(&mut channel, &stream.name, DeleteIf::default())?;
            }
            self.broker.close_channel(channel);
        }
        self.broker.delete_vhost(name)
    }
}
