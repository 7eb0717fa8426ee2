//! A message being handled, and what goes with it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::address::Address;
use crate::connection::{Connection, Delivery};
use crate::envelope::{Envelope, Outgoing};
use crate::error::Result;
use crate::message::Message;

/// A message being handled. Extractors take arguments from it, layers put things into it.
#[derive(Debug)]
pub struct Cx {
    delivery: Delivery,
    attempt: u32,
    /// What layers put in for extractors: a transaction, a tenant.
    pub extensions: Extensions,
    emit: Option<Emit>,
}

impl Cx {
    pub(crate) fn new(delivery: Delivery, attempt: u32, state: Extensions) -> Self {
        Self { delivery, attempt, extensions: state, emit: None }
    }

    pub(crate) fn into_delivery(self) -> Delivery {
        self.delivery
    }

    /// The message.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope {
        &self.delivery.envelope
    }

    /// Which attempt this is, from 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Where it was read.
    #[must_use]
    pub fn source(&self) -> &Address {
        self.delivery.source()
    }

    /// The group that reads it: the consumer's name, for an inbox.
    #[must_use]
    pub fn group(&self) -> &str {
        self.delivery.group()
    }

    /// The connection it came by.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        self.delivery.connection()
    }

    /// Where the handler puts what it emits.
    pub fn emit(&mut self) -> Emit {
        let (delivery, extensions) = (&self.delivery, &self.extensions);
        self.emit.get_or_insert_with(|| Emit::new(delivery, extensions)).clone()
    }

    /// What the handler emitted, in order: for a layer that keeps it in an outbox. What is taken is not
    /// published any more.
    pub fn take_emitted(&mut self) -> Vec<Outgoing> {
        self.emit.as_ref().map(Emit::take).unwrap_or_default()
    }
}

/// Where a handler puts what it emits: messages of the same story, published when it has succeeded.
///
/// Their ids follow from the handled message's id, so that an attempt that is repeated emits the same.
#[derive(Clone)]
pub struct Emit {
    inner: Arc<Inner>,
}

struct Inner {
    cause: Envelope,
    group: String,
    connection: Connection,
    #[cfg(feature = "schemas")]
    agreed: Option<crate::schema::Agreed>,
    out: Mutex<Out>,
}

#[derive(Default)]
struct Out {
    count: u64,
    waiting: Vec<Outgoing>,
}

impl Inner {
    /// As the service's contracts say, if it has any.
    fn envelope<M: Message>(&self, message: &M) -> Result<Envelope> {
        #[cfg(feature = "schemas")]
        if let Some(agreed) = &self.agreed {
            return agreed.envelope(message, self.connection.mint());
        }
        Envelope::of(message, self.connection.mint())
    }
}

impl Emit {
    fn new(
        delivery: &Delivery,
        #[cfg_attr(not(feature = "schemas"), expect(unused_variables, reason = "contracts"))]
        extensions: &Extensions,
    ) -> Self {
        let cause = Envelope { body: bytes::Bytes::new(), ..delivery.envelope.clone() };
        let inner = Inner {
            cause,
            group: delivery.group().to_owned(),
            connection: delivery.connection().clone(),
            #[cfg(feature = "schemas")]
            agreed: extensions.get().cloned(),
            out: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Emits a message.
    ///
    /// # Errors
    /// [`Error::Encode`](crate::Error::Encode)
    pub fn send<M: Message>(&self, to: impl Into<Address>, message: &M) -> Result<()> {
        let envelope = self.inner.envelope(message)?;
        self.push(to.into(), envelope, None);
        Ok(())
    }

    /// Emits a message that nobody sees before this long.
    ///
    /// # Errors
    /// [`Error::Encode`](crate::Error::Encode)
    pub fn send_after<M: Message>(
        &self,
        delay: Duration,
        to: impl Into<Address>,
        message: &M,
    ) -> Result<()> {
        let envelope = self.inner.envelope(message)?;
        self.push(to.into(), envelope, Some(delay));
        Ok(())
    }

    /// Emits an envelope; it becomes part of the story, with an id of it.
    pub fn send_envelope(&self, to: impl Into<Address>, envelope: Envelope) {
        self.push(to.into(), envelope, None);
    }

    fn push(&self, to: Address, envelope: Envelope, delay: Option<Duration>) {
        let inner = &self.inner;
        let mut envelope = envelope.caused_by(&inner.cause, inner.connection.mint());
        let mut out = inner.out.lock().unwrap_or_else(PoisonError::into_inner);
        let seed = format!("{}/{}", inner.group, out.count);
        out.count += 1;
        envelope.id = Uuid::new_v5(&inner.cause.id, seed.as_bytes());
        out.waiting.push(Outgoing { to, envelope, delay });
    }

    fn take(&self) -> Vec<Outgoing> {
        let mut out = self.inner.out.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut out.waiting)
    }
}

impl fmt::Debug for Emit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emit").field("cause", &self.inner.cause.id).finish_non_exhaustive()
    }
}

/// Values by their type.
#[derive(Clone, Default)]
pub struct Extensions {
    /// Shared until somebody puts something in: each message begins with what its service was given.
    values: Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl Extensions {
    /// Puts a value in, in place of one of the same type.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        Arc::make_mut(&mut self.values).insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// The value of this type.
    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.values.get(&TypeId::of::<T>())?.downcast_ref()
    }

    /// Takes the value of this type out.
    pub fn remove<T: Send + Sync + 'static>(&mut self) -> Option<Arc<T>> {
        Arc::make_mut(&mut self.values).remove(&TypeId::of::<T>())?.downcast().ok()
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions").field("count", &self.values.len()).finish()
    }
}
