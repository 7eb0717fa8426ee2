//! Looking at messages without taking them: nothing is counted, nothing is marked, nothing moves.

use std::sync::Arc;

use bytes::Bytes;

use crate::broker::Broker;
use crate::broker::connection::Channel;
use crate::broker::error::{BrokerError, ErrorKind};
use crate::broker::request::Seq;
use crate::clock::Wall;
use crate::queue::NEVER;

/// A ready message that stays where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peeked {
    /// Was, or may have been, delivered before.
    pub redelivered: bool,
    /// Failed deliveries.
    pub delivery_count: u32,
    /// When it expires, if it does.
    pub expires_at: Option<Wall>,
    /// When it came.
    pub arrived: Wall,
    /// Where it was published.
    pub exchange: Arc<str>,
    /// With which key.
    pub routing_key: Arc<str>,
    /// Flags and fields as on the wire.
    pub properties: Bytes,
    /// The content.
    pub body: Bytes,
}

impl Broker {
    /// The messages of a queue in the order in which they would be delivered: at most `max` behind the first
    /// `skip`. May read bodies from the disk; a damaged one is left out.
    ///
    /// # Errors
    /// 404, 403, 405; 540 for a stream.
    pub fn peek(
        &self,
        channel: &Channel,
        queue: &str,
        skip: usize,
        max: usize,
    ) -> Result<Vec<Peeked>, BrokerError> {
        let queue = self.readable(channel, queue)?;
        if queue.is_stream() {
            let text =
                format!("a stream is not looked into: consume '{}' from an offset", queue.name);
            return Err(BrokerError::new(ErrorKind::NotImplemented, text));
        }
        let found: Vec<_> = {
            let state = queue.lock();
            let entries = state.machine.browse(skip.saturating_add(max).min(PEEK_MAX));
            let source = |seq| state.slots.get(Seq(seq)).map(|slot| slot.source());
            let entries = entries.into_iter().skip(skip);
            entries.filter_map(|entry| Some((entry, source(entry.seq.0)?))).collect()
        };
        let peeked = found.into_iter().filter_map(|(entry, source)| {
            let message = self.load(&source)?;
            Some(Peeked {
                redelivered: entry.redelivered,
                delivery_count: entry.delivery_count,
                expires_at: (entry.expires_at != NEVER).then_some(entry.expires_at),
                arrived: message.head.arrived,
                exchange: Arc::clone(&message.exchange),
                routing_key: message.routing_key(),
                properties: message.properties.clone(),
                body: message.body.clone(),
            })
        });
        Ok(peeked.collect())
    }
}

/// How far behind the first message one may look.
pub(super) const PEEK_MAX: usize = 1_000_000;
