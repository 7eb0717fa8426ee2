//! What an application reads: the source, and what of it is tried again.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use super::Connection;
use super::delivery::{Delivery, Origin};
use super::letter::retry_address;
use crate::cloudevents;
use crate::error::Result;
use crate::transport::{Event, Handed, Lane, RawFeed, Revoked, Subscription};

/// Deliveries of one subscription.
#[derive(Debug)]
pub struct Feed {
    source: RawFeed,
    /// What is tried again, where that is an address of its own.
    retries: Option<RawFeed>,
    origin: Arc<Origin>,
    retries_first: bool,
}

/// What a feed hands out.
#[expect(clippy::large_enum_variant, reason = "almost every event is a delivery")]
#[derive(Debug)]
#[non_exhaustive]
pub enum Incoming {
    /// A message.
    Delivery(Delivery),
    /// These lanes go to another consumer: settle what came from them, then drop this.
    Revoked(Revoked),
    /// Everything that was there when the subscription began was handed out. Only for
    /// [`Subscription::all`].
    Live,
}

impl Feed {
    pub(crate) async fn open(connection: &Connection, to: Subscription) -> Result<Self> {
        let transport = connection.transport();
        let source = transport.subscribe(&to).await?;
        let group = to.group.clone().unwrap_or_default();
        let origin =
            Arc::new(Origin { connection: connection.clone(), source: to.source.clone(), group });
        let again = retry_address(&to.source, &origin.group);
        let retries = match &to.group {
            Some(_) if again != to.source => {
                let retries = Subscription { source: again, ..to };
                Some(transport.subscribe(&retries).await?)
            }
            _ => None,
        };
        Ok(Self { source, retries, origin, retries_first: false })
    }

    /// The next event; `None` once the feed has ended.
    pub async fn next(&mut self) -> Option<Result<Incoming>> {
        let event = poll_fn(|context| {
            self.retries_first = !self.retries_first; // neither starves the other
            let mut feeds = [(self.retries.as_mut(), RETRIES), (Some(&mut self.source), 0)];
            if !self.retries_first {
                feeds.reverse();
            }
            for (feed, lanes) in feeds {
                if let Some(feed) = feed
                    && let Poll::Ready(event) = feed.poll_next(context)
                {
                    return Poll::Ready(event.map(|event| (event, lanes)));
                }
            }
            Poll::Pending
        });
        let (event, lanes) = event.await?;
        Some(event.map(|event| match event {
            Event::Delivery(Handed { envelope, redelivered, settlement }) => {
                let lane = Lane(settlement.lane().0 | lanes);
                let (envelope, origin) = (cloudevents::opened(envelope), Arc::clone(&self.origin));
                Incoming::Delivery(Delivery::new(envelope, redelivered, origin, lane, settlement))
            }
            Event::Revoked(mut revoked) => {
                revoked.lanes.iter_mut().for_each(|lane| lane.0 |= lanes);
                Incoming::Revoked(revoked)
            }
            Event::Live => Incoming::Live,
        }))
    }

    /// Takes nothing more from the broker. What was handed out can still be settled; what was not is
    /// given back.
    ///
    /// # Errors
    /// The broker cannot be reached; it will notice by itself.
    pub async fn stop(&mut self) -> Result<()> {
        let retries = match &mut self.retries {
            Some(retries) => retries.stop().await,
            None => Ok(()),
        };
        self.source.stop().await.and(retries)
    }

    /// Commits what was settled, gives back the rest, leaves.
    ///
    /// # Errors
    /// What was settled could not be committed: it will be delivered again.
    pub async fn close(self) -> Result<()> {
        let retries = match self.retries {
            Some(retries) => retries.close().await,
            None => Ok(()),
        };
        self.source.close().await.and(retries)
    }
}

/// Lanes from here on are those of what is tried again: partition 0 of the source is another than that of
/// its retries. Transports number theirs below.
const RETRIES: u32 = 1 << 31;
