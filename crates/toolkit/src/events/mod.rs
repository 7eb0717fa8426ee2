//! The event store: streams and tags, optimistic concurrency, any moment of the past, and one global
//! order without gaps.
//!
//! [`EventStore::append`] and [`EventStore::handle`] write inside the caller's transaction, so that the
//! events, their publication and an inbox's mark are committed together.
//!
//! **The global order.** [`EventStore::after`] never hands out an event behind one that is still to
//! come. In SQLite there is one writer. In PostgreSQL sequence numbers are drawn at INSERT and visible
//! at COMMIT, in another order: `id > cursor` loses events. Here each event carries a label, the greater
//! of its transaction's id and the newest transaction that had ended when it was written, and is handed
//! out once all transactions up to its label have ended. Order by transaction id alone would be without
//! gaps too, but could turn round two events of one stream.

mod append;
mod pos;
mod read;
mod record;
mod schema;
mod snapshots;

use std::fmt;
use std::sync::Arc;

use crate::db::{Db, Tx};
use crate::error::Result;
use crate::transport::BoxFuture;

pub use self::append::{Appended, DecideError, Expect, Handled};
pub use self::pos::{Mark, Pos};
pub use self::read::{At, Loaded};
pub use self::record::{Meta, NewEvent, Recorded};

/// Events in a database. Cheap to clone.
///
/// ```
/// use ottla::db::Db;
/// use ottla::events::{At, EventStore, Expect, Meta, NewEvent};
/// # use ottla::decider::{Decider, EventSet, Scope};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # #[serde(tag = "type")]
/// # enum Event { AccountCreated { id: String, balance: i64 }, Deposited { amount: i64 }, Withdrawn { amount: i64 } }
/// # impl EventSet for Event {}
/// # struct Account;
/// # impl Decider for Account {
/// #     type Command = (); type Event = Event; type State = i64; type Error = std::io::Error;
/// #     fn scope((): &()) -> Scope { Scope::stream("account-123") }
/// #     fn decide(_: &i64, (): ()) -> Result<Vec<Event>, std::io::Error> { Ok(vec![]) }
/// #     fn evolve(balance: &mut i64, event: &Event) {
/// #         match event { Event::AccountCreated { balance: first, .. } => *balance = *first,
/// #             Event::Deposited { amount } => *balance += amount, Event::Withdrawn { amount } => *balance -= amount }
/// #     }
/// # }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let store = EventStore::open(&Db::open("sqlite::memory:").await?).await?;
/// let story = Meta::begin(store.db().mint());
/// let events = [
///     Event::AccountCreated { id: "123".into(), balance: 0 },
///     Event::Deposited { amount: 100 },
///     Event::Withdrawn { amount: 30 },
/// ];
/// let mut tx = store.db().begin().await?;
/// let events = events.iter().map(|event| NewEvent::of(event, &story, store.db().mint())).collect::<Result<_, _>>()?;
/// store.append(&mut tx, "account-123", Expect::NoStream, events).await?;
/// tx.commit().await?;
///
/// assert_eq!(store.load::<Account>("account-123", At::Latest).await?.state, 70);
/// assert_eq!(store.load::<Account>("account-123", At::Version(2)).await?.state, 100);
/// # Ok::<(), ottla::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct EventStore {
    db: Db,
    inline: Vec<Arc<dyn OnAppend>>,
}

/// What is done in the same transaction as an append. See [`crate::projection`].
pub trait OnAppend: Send + Sync + 'static {
    /// Called after the events were written, before the commit.
    fn appended<'a>(&'a self, tx: &'a mut Tx, events: &'a [Recorded]) -> BoxFuture<'a, Result<()>>;
}

impl EventStore {
    /// Opens the store, making its tables where there are none.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store), [`Error::Refused`](crate::Error::Refused).
    pub async fn open(db: &Db) -> Result<Self> {
        db.migrate("events", &schema::STEPS).await?;
        schema::rebase_if_restored(db).await?;
        Ok(Self { db: db.clone(), inline: Vec::new() })
    }

    /// The store of a database that has one, changing nothing: for those who only look.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) where there is none.
    pub async fn existing(db: &Db) -> Result<Self> {
        let look = db.query("SELECT 1 FROM ottla_events LIMIT 1", &[]).await;
        match look {
            Ok(_) => Ok(Self { db: db.clone(), inline: Vec::new() }),
            Err(error) if error.is_transient() => Err(error.into()),
            Err(_) => Err(crate::db::refused(
                "looking for events",
                "this database has no event store: is it the right one?",
            )),
        }
    }

    /// The same store; whoever appends through it also does this, in the same transaction.
    #[must_use]
    pub fn on_append(mut self, inline: Arc<dyn OnAppend>) -> Self {
        self.inline.push(inline);
        self
    }

    /// The database it is in.
    #[must_use]
    pub const fn db(&self) -> &Db {
        &self.db
    }
}

impl fmt::Debug for EventStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStore").field("db", &self.db).finish_non_exhaustive()
    }
}
