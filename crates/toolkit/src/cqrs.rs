//! Commands: load, decide, append and publish in one transaction.
//!
//! The seed's command handler appends an event and then publishes it: a crash in between loses the
//! message. Here the message is a row of the same transaction (see [`outbox`](crate::outbox)), and the read
//! side is a [`projection`](crate::projection).

use std::marker::PhantomData;

use crate::address::Address;
use crate::db::Tx;
use crate::decider::Decider;
use crate::error::{Error, Result};
use crate::events::{DecideError, EventStore, Handled, Meta};
use crate::outbox::Outbox;

/// Carries out the commands of a decider.
#[derive(Debug)]
pub struct Commands<D> {
    store: EventStore,
    publish: Option<(Outbox, Address)>,
    decider: PhantomData<fn() -> D>,
}

impl<D: Decider> Commands<D> {
    /// Over a store; nothing is published.
    #[must_use]
    pub const fn new(store: EventStore) -> Self {
        Self { store, publish: None, decider: PhantomData }
    }

    /// Publishes every event, as it is stored: its name, its id, its fields; the stream is its key.
    #[must_use]
    pub fn publishing(mut self, outbox: Outbox, to: impl Into<Address>) -> Self {
        self.publish = Some((outbox, to.into()));
        self
    }

    /// Carries out a command in a transaction of its own. What another transaction was first with is tried
    /// again, a few times.
    ///
    /// # Errors
    /// [`DecideError::Refused`]: the decider's own reason.
    pub async fn handle(
        &self,
        command: D::Command,
        story: &Meta,
    ) -> Result<Handled<D>, DecideError<D::Error>> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.once(command.clone(), story).await {
                Err(DecideError::Store(error)) if tries < TRIES_MAX && is_conflict(&error) => {
                    tracing::debug!(%error, tries, "decided again");
                }
                outcome => return outcome,
            }
        }
    }

    /// Carries out a command in the caller's transaction, beside its inbox and its other effects.
    ///
    /// # Errors
    /// As [`Commands::handle`]; nothing is tried again.
    pub async fn handle_in(
        &self,
        tx: &mut Tx,
        command: D::Command,
        story: &Meta,
    ) -> Result<Handled<D>, DecideError<D::Error>> {
        let handled = self.store.handle::<D>(tx, command, story).await?;
        if let Some((outbox, to)) = &self.publish {
            for event in &handled.appended.events {
                outbox.put(tx, to.clone(), event.envelope.clone()).await?;
            }
        }
        Ok(handled)
    }

    /// The events behind it.
    #[must_use]
    pub const fn store(&self) -> &EventStore {
        &self.store
    }

    async fn once(
        &self,
        command: D::Command,
        story: &Meta,
    ) -> Result<Handled<D>, DecideError<D::Error>> {
        let mut tx = self.store.db().begin().await?;
        let handled = self.handle_in(&mut tx, command, story).await?;
        tx.commit().await?;
        Ok(handled)
    }
}

impl<D> Clone for Commands<D> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), publish: self.publish.clone(), decider: PhantomData }
    }
}

/// A deadlock, or a version that moved: nothing happened, so it may be done again.
fn is_conflict(error: &Error) -> bool {
    match error {
        Error::Conflict { .. } => true,
        Error::Store { source, .. } => {
            let source = source.downcast_ref::<crate::db::DbError>();
            matches!(source, Some(crate::db::DbError::Conflict { .. }))
        }
        _ => false,
    }
}

const TRIES_MAX: u32 = 5;
