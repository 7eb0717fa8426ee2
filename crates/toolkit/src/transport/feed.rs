//! What a subscription hands out: deliveries, and word of what is taken away.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{BoxFuture, Settlement};
use crate::envelope::Envelope;
use crate::error::Result;

/// A part of the source that moves as one: a partition. Order holds inside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub u32);

/// What a feed hands out.
#[expect(clippy::large_enum_variant, reason = "almost every event is a delivery")]
#[derive(Debug)]
pub enum Event {
    /// A message.
    Delivery(Handed),
    /// These lanes go to another consumer.
    Revoked(Revoked),
    /// Everything that was there when the subscription began has been handed out.
    Live,
}

/// A message as a transport hands it out.
#[derive(Debug)]
pub struct Handed {
    /// What.
    pub envelope: Envelope,
    /// How often it was delivered before and not settled, as far as the broker counts.
    pub redelivered: u32,
    /// To settle it.
    pub settlement: Settlement,
}

/// Lanes that go to another consumer: finish or give back what is in flight of them, then drop this.
#[derive(Debug)]
pub struct Revoked {
    /// Which.
    pub lanes: Vec<Lane>,
    /// Dropped: they may go.
    pub done: Option<oneshot::Sender<()>>,
}

/// How a feed is ended.
pub trait FeedControl: fmt::Debug + Send + Sync + 'static {
    /// Hands out nothing more. What was handed out can still be settled.
    fn stop(&self) -> BoxFuture<'_, Result<()>>;

    /// Commits what was settled, gives back what was not, leaves.
    fn close(&self) -> BoxFuture<'_, Result<()>>;
}

/// A feed as a transport makes it.
#[derive(Debug)]
pub struct RawFeed {
    events: mpsc::Receiver<Result<Event>>,
    control: Arc<dyn FeedControl>,
}

/// Where a transport puts what a feed hands out.
pub type Credit = mpsc::Sender<Result<Event>>;

/// A feed and where its transport puts events: at most `max_in_flight` and a few more.
#[must_use]
pub fn feed(max_in_flight: u32) -> (Credit, mpsc::Receiver<Result<Event>>) {
    let room = usize::try_from(max_in_flight).unwrap_or(EVENTS_MAX).min(EVENTS_MAX);
    mpsc::channel(room.saturating_add(SPARE))
}

impl RawFeed {
    /// For transports.
    pub fn new(events: mpsc::Receiver<Result<Event>>, control: Arc<dyn FeedControl>) -> Self {
        Self { events, control }
    }

    /// The next event; `None` once the feed has ended.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        self.events.recv().await
    }

    /// See [`FeedControl::stop`]. What was not taken is given back.
    ///
    /// # Errors
    /// The broker cannot be reached; it will notice by itself.
    pub async fn stop(&mut self) -> Result<()> {
        let stopped = self.control.stop().await;
        while self.events.try_recv().is_ok() {} // dropped: given back
        stopped
    }

    /// See [`FeedControl::close`].
    ///
    /// # Errors
    /// What was settled could not be committed: it will be delivered again.
    pub async fn close(mut self) -> Result<()> {
        self.stop().await?;
        self.control.close().await
    }

    pub(crate) fn poll_next(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Event>>> {
        self.events.poll_recv(context)
    }
}

/// Events that wait in a feed.
const EVENTS_MAX: usize = 65_536;
/// Room for events that are no deliveries.
const SPARE: usize = 8;
