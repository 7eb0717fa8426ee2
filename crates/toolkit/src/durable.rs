//! A handler's inbox, effects and emitted messages in one transaction.
//!
//! [`Durable`] is a layer: it begins a transaction, marks the message in the [`inbox`](crate::inbox), runs
//! the handler, moves what it emitted to the [`outbox`](crate::outbox) and commits. Only then is the message
//! acknowledged. A duplicate is acknowledged without the handler; a handler that fails leaves nothing behind.
//!
//! ```
//! use ottla::durable::{Durable, InTx};
//! use ottla::handler::{Emit, IntoHandler, Msg};
//! use ottla::{Failure, Message, params};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, Message)]
//! #[message(name = "order.paid", key = "order")]
//! struct OrderPaid { order: String }
//! #[derive(Serialize, Deserialize, Message)]
//! #[message(name = "parcel.packed", key = "order")]
//! struct ParcelPacked { order: String }
//!
//! async fn pack(Msg(paid): Msg<OrderPaid>, mut tx: InTx, emit: Emit) -> Result<(), Failure> {
//!     tx.exec("UPDATE stock SET n = n - 1 WHERE item = $1", &params!["cup"]).await?;
//!     emit.send("parcels", &ParcelPacked { order: paid.order })?; // to the outbox, not to the broker
//!     Ok(())
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let db = ottla::db::Db::open("sqlite::memory:").await?;
//! let handler = pack.layer(Durable::open(&db).await?);
//! # drop(handler);
//! # Ok::<(), ottla::Error>(())
//! # }).unwrap();
//! ```

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};

use crate::db::{Db, Tx};
use crate::error::{Error, Failure, Result};
use crate::handler::{Cx, FromCx, Layer, Next, Verdict};
use crate::inbox::{Inbox, Seen};
use crate::outbox::Outbox;
use crate::transport::BoxFuture;

/// Inbox, transaction and outbox around a handler.
#[derive(Debug, Clone)]
pub struct Durable {
    db: Db,
    inbox: Inbox,
    outbox: Outbox,
}

impl Durable {
    /// Opens inbox and outbox, making their tables where there are none.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Refused`].
    pub async fn open(db: &Db) -> Result<Self> {
        Ok(Self { db: db.clone(), inbox: Inbox::open(db).await?, outbox: Outbox::open(db).await? })
    }

    /// The outbox, for a [`Relay`](crate::outbox::Relay) to be run beside the handlers.
    #[must_use]
    pub const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// The inbox, to be swept now and then.
    #[must_use]
    pub const fn inbox(&self) -> &Inbox {
        &self.inbox
    }
}

impl Layer for Durable {
    fn call<'a>(&'a self, cx: &'a mut Cx, next: Next<'a>) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            let mut tx = self.db.begin().await?;
            let id = cx.envelope().id.to_string();
            let consumer = cx.group().to_owned();
            if self.inbox.mark(&mut tx, &consumer, &id).await? == Seen::Duplicate {
                tracing::debug!(id, consumer, "a duplicate: acknowledged without work");
                return Ok(tx.rollback().await?);
            }
            let place = Place::default();
            *place.0.lock().await = Some(tx);
            cx.extensions.insert(place.clone());
            run(cx, next).await?;
            let Some(mut tx) = place.0.lock().await.take() else {
                return Err(Failure::permanent("the handler kept the transaction's place"));
            };
            for message in cx.take_emitted() {
                self.outbox.send(&mut tx, &message).await?;
            }
            Ok(tx.commit().await?)
        })
    }
}

/// The rest of the layers and the handler, on a borrow that ends here.
async fn run(cx: &mut Cx, next: Next<'_>) -> Verdict {
    next.run(cx).await
}

/// Where the transaction is while the handler runs.
#[derive(Debug, Clone, Default)]
struct Place(Arc<Mutex<Option<Tx>>>);

/// The transaction of [`Durable`], as a handler's argument. It is committed by the layer once the handler has
/// returned `Ok`.
#[derive(Debug)]
pub struct InTx(OwnedMappedMutexGuard<Option<Tx>, Tx>);

impl FromCx for InTx {
    async fn from_cx(cx: &mut Cx) -> Result<Self, Failure> {
        let lacking =
            |hint: &str| Error::Unsupported { what: "InTx".to_owned(), hint: hint.to_owned() };
        let place = cx.extensions.get::<Place>().cloned();
        let place = place.ok_or_else(|| lacking("put the layer Durable around the handler"))?;
        let taken = place.0.try_lock_owned();
        let taken = taken.map_err(|_| lacking("a handler has one argument InTx, not two"))?;
        let tx = OwnedMutexGuard::try_map(taken, Option::as_mut);
        Ok(Self(tx.map_err(|_| lacking("the transaction is over"))?))
    }
}

impl Deref for InTx {
    type Target = Tx;

    fn deref(&self) -> &Tx {
        &self.0
    }
}

impl DerefMut for InTx {
    fn deref_mut(&mut self) -> &mut Tx {
        &mut self.0
    }
}
