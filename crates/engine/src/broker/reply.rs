//! Direct reply-to: answers that go to a consumer's mailbox without a queue (research 1.3).

use std::sync::Arc;

use bytes::Bytes;
use ottla_store::Lsn;

use super::Broker;
use super::connection::Channel;
use super::error::BrokerError;
use super::mailbox::{Delivery, Mailbox, Parcel, Waiting};
use super::message::Message;
use super::properties::Properties;
use super::publish::REPLY_PREFIX;
use super::request::ConsumeRequest;
use crate::queue::ChannelKey;

/// Who reads replies.
#[derive(Clone, Debug)]
pub(super) struct ReplyConsumer {
    channel: ChannelKey,
    tag: Arc<str>,
    mailbox: Arc<Mailbox>,
}

impl Broker {
    pub(super) fn consume_replies(
        &self,
        channel: &mut Channel,
        request: &ConsumeRequest<'_>,
        tag: Arc<str>,
    ) -> Result<(Arc<str>, Lsn), BrokerError> {
        if !request.no_ack {
            return Err(BrokerError::precondition("reply consumer cannot acknowledge"));
        }
        if channel.reply.is_some() {
            return Err(BrokerError::precondition("reply consumer already set"));
        }
        let address: Arc<str> = self.made_up(REPLY_PREFIX).into();
        let consumer = ReplyConsumer {
            channel: channel.key,
            tag: Arc::clone(&tag),
            mailbox: Arc::clone(&channel.connection.mailbox),
        };
        self.replies().insert(Arc::clone(&address), consumer);
        channel.reply = Some((Arc::clone(&tag), address));
        Ok((tag, Lsn::ZERO))
    }

    pub(super) fn forget_replies(&self, channel: &mut Channel, tag: &str) {
        if let Some((_, address)) = channel.reply.take_if(|(own, _)| **own == *tag) {
            self.replies().remove(&address);
        }
    }

    /// Properties whose `reply-to` is the address of the channel's own reply consumer.
    pub(super) fn reply_address(
        &self,
        channel: &Channel,
        properties: &Properties<'_>,
    ) -> Result<Bytes, BrokerError> {
        match &channel.reply {
            Some((_, address)) => Ok(properties.with_reply_to(address)),
            None => Err(BrokerError::precondition("fast reply consumer does not exist")),
        }
    }

    /// Delivers a reply; false if nobody reads it. At most once.
    pub(super) fn reply_to(&self, message: &Message) -> bool {
        let address = message.routing_key();
        let Some(consumer) = self.replies().get(&address).cloned() else { return false };
        let delivery = Delivery {
            channel: consumer.channel,
            tag: consumer.tag,
            held: None,
            redelivered: false,
            exchange: Arc::clone(&message.exchange),
            routing_key: address,
            properties: message.properties.clone(),
            body: message.body.clone(),
        };
        let reached = consumer.mailbox.put_reply(Waiting::Ready(Parcel::Delivery(delivery)));
        if let Some(waker) = consumer.mailbox.waker() {
            waker.wake();
        }
        reached
    }

    /// Whether somebody reads replies at this address.
    pub(super) fn has_reply_consumer(&self, address: &str) -> bool {
        self.replies().contains_key(address)
    }
}
