//! A message at its consumer: settled once, as a value that is used up.

use std::sync::Arc;
use std::time::Duration;

use super::Connection;
use super::letter::{self, Reason, dead_address, retry_address};
use crate::address::Address;
use crate::envelope::Envelope;
use crate::error::Result;
use crate::transport::{Lane, Parcel, Settlement};

/// What becomes of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settle {
    /// Done.
    Ack,
    /// Once more after this long; counts as an attempt. Order with its key is lost: who must keep it
    /// waits with the delivery in hand.
    Retry {
        /// How long it waits.
        after: Duration,
        /// What went wrong.
        cause: String,
    },
    /// To the dead letters.
    Dead {
        /// Why nobody tries again.
        reason: Reason,
        /// What went wrong.
        cause: String,
    },
    /// Given back: counts as nothing.
    Release,
}

/// A message in the hands of a consumer. Dropped without being settled it is given back.
///
/// ```compile_fail
/// # async fn twice(delivery: ottla::Delivery) -> ottla::Result<()> {
/// delivery.settle(ottla::Settle::Ack).await?;
/// delivery.settle(ottla::Settle::Ack).await?; // used after move: a double acknowledgement does not compile
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Delivery {
    /// What.
    pub envelope: Envelope,
    attempt: u32,
    origin: Arc<Origin>,
    lane: Lane,
    settlement: Settlement,
}

/// Where a delivery came from.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) connection: Connection,
    pub(crate) source: Address,
    pub(crate) group: String,
}

impl Delivery {
    pub(crate) fn new(
        envelope: Envelope,
        redelivered: u32,
        origin: Arc<Origin>,
        lane: Lane,
        settlement: Settlement,
    ) -> Self {
        let attempt = letter::attempts(&envelope).saturating_add(redelivered).saturating_add(1);
        Self { envelope, attempt, origin, lane, settlement }
    }

    /// Which attempt this is, from 1: failed ones and, where the broker counts them, crashed ones.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Which part of the source it came from; see [`Incoming::Revoked`](super::Incoming::Revoked).
    #[must_use]
    pub const fn lane(&self) -> Lane {
        self.lane
    }

    /// What was subscribed to.
    #[must_use]
    pub fn source(&self) -> &Address {
        &self.origin.source
    }

    /// The group that reads it.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.origin.group
    }

    /// The connection it came by.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.origin.connection
    }

    /// Done.
    pub fn ack(self) {
        self.settlement.ack();
    }

    /// Given back, without counting as an attempt.
    pub fn release(self) {
        self.settlement.release();
    }

    /// It failed and is tried again without leaving the consumer's hands.
    pub(crate) fn failed_in_hand(mut self, cause: &str) -> Self {
        let now = self.origin.connection.mint().now();
        self.envelope = letter::again(self.envelope, self.attempt, cause, now);
        self.attempt = self.attempt.saturating_add(1);
        self
    }

    /// Says what becomes of it.
    ///
    /// # Errors
    /// The copy for later, or the dead letter, could not be published: the delivery is given back.
    pub async fn settle(self, how: Settle) -> Result<()> {
        match how {
            Settle::Ack => self.ack(),
            Settle::Release => self.release(),
            Settle::Retry { after, cause } => {
                let Self { envelope, attempt, origin, settlement, .. } = self;
                let now = origin.connection.mint().now();
                let envelope = letter::again(envelope, attempt, &cause, now);
                let to = retry_address(&origin.source, &origin.group);
                let parcel = Parcel { envelope, delay: Some(after) };
                origin.connection.deliver(&to, vec![parcel]).await?;
                settlement.ack();
            }
            Settle::Dead { reason, cause } => {
                let Self { envelope, attempt, origin, settlement, .. } = self;
                let now = origin.connection.mint().now();
                let to = dead_address(&origin.source, &origin.group);
                let envelope = letter::dead(envelope, &origin, attempt, reason, &cause, now);
                origin.connection.deliver(&to, vec![envelope.into()]).await?;
                settlement.ack();
            }
        }
        Ok(())
    }
}
