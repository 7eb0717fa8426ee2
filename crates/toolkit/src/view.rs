//! Event-carried state transfer: another service's data, here, kept up to date by its events.
//!
//! A [`View`] reads a topic from its beginning and keeps the newest row of each key. [`ViewOf::open`] returns
//! once everything that was there is in it: nobody sees half a view. From then on lookups are local;
//! the other service may be down.
//!
//! ```
//! use ottla::view::View;
//! use ottla::{Connection, Message};
//! # use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Serialize, Deserialize, Message)]
//! #[message(name = "price.changed", key = "item")]
//! struct Price { item: String, cents: u64, revision: u64 }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> ottla::Result<()> {
//! # let connection = Connection::open("memory:").await?;
//! connection.publish("prices", &Price { item: "cup".into(), cents: 900, revision: 1 }).await?;
//!
//! let prices = View::<Price>::of("prices").newest_by(|price| price.revision).open(&connection).await?;
//! assert_eq!(prices.get("cup").unwrap().cents, 900); // no call to anybody
//! # Ok(()) }
//! ```
//!
//! | what comes | what it does |
//! |---|---|
//! | a row with a key | replaces the key's row, unless that is newer by [`ViewOf::newest_by`] |
//! | a tombstone | removes the key's row; an older row that comes after it does not bring it back for a day |
//! | a message of another name | nothing |
//! | a row that cannot be decoded | nothing, but [`Status::unreadable`] counts it and the log says so |
//! | the end of the connection | the view goes on answering, [`Status::stale_since`] says so; it is read anew from the beginning, and changed over when complete |

mod table;

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::address::Address;
use crate::connection::{Connection, Incoming};
use crate::error::{Error, Result};
use crate::message::Message;
use crate::mint::Timestamp;
use crate::transport::Subscription;

use self::table::{Table, Taken};

/// A local copy of the newest row of each key of a topic. Cheap to clone; all clones are one view.
pub struct View<R> {
    inner: Arc<Inner<R>>,
}

/// A view to be opened.
pub struct ViewOf<R> {
    source: Address,
    version: Option<fn(&R) -> u64>,
    rows_max: usize,
    row: PhantomData<fn() -> R>,
}

/// How a view is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether everything that was there at the start has been read.
    pub ready: bool,
    /// Since when nothing new comes in, and why.
    pub stale_since: Option<(Timestamp, String)>,
    /// Rows that could not be decoded.
    pub unreadable: u64,
    /// Counts what was taken in: a change of it says that something changed.
    pub changes: u64,
}

struct Inner<R> {
    shared: Arc<Shared<R>>,
    reader: JoinHandle<()>,
}

struct Shared<R> {
    table: RwLock<Table<R>>,
    status: watch::Sender<Status>,
}

impl<R: Message + Clone> View<R> {
    /// A view of a topic whose rows have keys.
    #[must_use]
    pub fn of(source: impl Into<Address>) -> ViewOf<R> {
        ViewOf { source: source.into(), version: None, rows_max: ROWS_MAX, row: PhantomData }
    }

    /// The row with this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Arc<R>> {
        self.table().get(key)
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All rows as they are now, by key.
    #[must_use]
    pub fn all(&self) -> HashMap<String, Arc<R>> {
        self.table().rows()
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        self.inner.shared.status.borrow().clone()
    }

    /// Waits until the view has a row like this.
    ///
    /// # Errors
    /// [`Error::Closed`] if it does not come within `patience`.
    pub async fn wait_for(
        &self,
        key: &str,
        patience: Duration,
        wanted: impl Fn(&R) -> bool,
    ) -> Result<Arc<R>> {
        let mut status = self.inner.shared.status.subscribe();
        let waiting = async {
            loop {
                status.mark_unchanged();
                if let Some(row) = self.get(key).filter(|row| wanted(row)) {
                    return Ok(row);
                }
                status.changed().await.map_err(|_| Error::Closed("the view"))?;
            }
        };
        let waited = tokio::time::timeout(patience, waiting).await;
        waited.unwrap_or(Err(Error::Closed("the wait for a row")))
    }

    fn table(&self) -> std::sync::RwLockReadGuard<'_, Table<R>> {
        self.inner.shared.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Message + Clone> ViewOf<R> {
    /// What tells a newer row from an older: a version, a revision, a time. Without it the row that comes
    /// last is the newest.
    #[must_use]
    pub fn newest_by(self, version: fn(&R) -> u64) -> Self {
        Self { version: Some(version), ..self }
    }

    /// How many rows it holds at most; one million unless said otherwise. A row more ends the view's reading.
    #[must_use]
    pub fn max_rows(self, rows_max: usize) -> Self {
        Self { rows_max, ..self }
    }

    /// Opens it, and waits until everything that was there is in it.
    ///
    /// # Errors
    /// The broker cannot be reached, or keeps no history to read from the beginning.
    pub async fn open(self, connection: &Connection) -> Result<View<R>> {
        let feed = connection.subscribe(Subscription::all(self.source.clone())).await?;
        let shared = Arc::new(Shared {
            table: RwLock::new(Table::new(self.rows_max)),
            status: watch::Sender::new(Status::default()),
        });
        let mut status = shared.status.subscribe();
        let reader =
            Reader { connection: connection.clone(), view: self, shared: Arc::clone(&shared) };
        let reader = tokio::spawn(reader.run(feed));
        let view = View { inner: Arc::new(Inner { shared, reader }) };
        let settled = status.wait_for(|status| status.ready || status.stale_since.is_some()).await;
        let why = match settled.map(|status| status.clone()) {
            Ok(Status { ready: true, .. }) => return Ok(view),
            Ok(status) => status.stale_since.map(|(_, why)| why).unwrap_or_default(),
            Err(_) => "its reader ended".to_owned(),
        };
        Err(Error::Refused { doing: "filling a view".to_owned(), why })
    }
}

/// Reads for a view, for as long as there is one.
struct Reader<R> {
    connection: Connection,
    view: ViewOf<R>,
    shared: Arc<Shared<R>>,
}

impl<R: Message + Clone> Reader<R> {
    async fn run(self, feed: crate::connection::Feed) {
        let mut wait = AGAIN_FIRST;
        let mut why = match self.read(feed).await {
            Ok(()) => return,
            Err(error) => error,
        };
        loop {
            tracing::warn!(source = %self.view.source, why, "a view is stale and reads again");
            let stale = (self.connection.mint().now(), why);
            self.shared.status.send_modify(|status| {
                status.stale_since.get_or_insert(stale);
            });
            tokio::time::sleep(wait).await;
            wait = wait.saturating_mul(2).min(AGAIN_LAST);
            let all = Subscription::all(self.view.source.clone());
            why = match self.connection.subscribe(all).await {
                Ok(feed) => match self.read(feed).await {
                    Ok(()) => return,
                    Err(error) => error,
                },
                Err(error) => error.to_string(),
            };
        }
    }

    /// Reads until the feed ends (`Err`: why) or nobody needs it any more (`Ok`).
    async fn read(&self, mut feed: crate::connection::Feed) -> Result<(), String> {
        let mut filling = Some(Table::new(self.view.rows_max));
        while let Some(incoming) = feed.next().await {
            match incoming.map_err(|error| error.to_string())? {
                Incoming::Live => {
                    if let Some(table) = filling.take() {
                        *self.table() = table;
                    }
                    self.shared.status.send_modify(|status| {
                        status.ready = true;
                        status.stale_since = None;
                        status.changes += 1;
                    });
                }
                Incoming::Delivery(delivery) => {
                    let taken = match &mut filling {
                        Some(table) => self.take(table, &delivery.envelope),
                        None => self.take(&mut self.table(), &delivery.envelope),
                    };
                    delivery.ack();
                    self.count(taken)?;
                }
                Incoming::Revoked(_) => {}
            }
        }
        Err("the feed ended".to_owned())
    }

    fn take(&self, table: &mut Table<R>, envelope: &crate::envelope::Envelope) -> Taken {
        let known = envelope.name.is_empty() || envelope.name == R::NAME;
        let Some(key) = envelope.key.as_deref().filter(|_| known) else { return Taken::Nothing };
        let now = self.connection.mint().now();
        if envelope.is_tombstone() {
            return table.bury(key, now);
        }
        match envelope.decode::<R>() {
            Ok(row) => {
                let version = self.view.version.map_or(0, |version| version(&row));
                table.put(key, row, version)
            }
            Err(error) => {
                tracing::error!(source = %self.view.source, key, %error, "a row of a view cannot be read");
                Taken::Unreadable
            }
        }
    }

    fn count(&self, taken: Taken) -> Result<(), String> {
        match taken {
            Taken::Nothing => {}
            Taken::Changed => self.shared.status.send_modify(|status| status.changes += 1),
            Taken::Unreadable => self.shared.status.send_modify(|status| status.unreadable += 1),
            Taken::Full => {
                let rows_max = self.view.rows_max;
                return Err(format!("it has more than {rows_max} rows: see ViewOf::max_rows"));
            }
        }
        Ok(())
    }

    fn table(&self) -> std::sync::RwLockWriteGuard<'_, Table<R>> {
        self.shared.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R> Clone for View<R> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<R> Drop for Inner<R> {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl<R> fmt::Debug for View<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("status", &*self.inner.shared.status.borrow()).finish()
    }
}

impl<R> fmt::Debug for ViewOf<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewOf").field("source", &self.source).finish_non_exhaustive()
    }
}

const ROWS_MAX: usize = 1_000_000;
const AGAIN_FIRST: Duration = Duration::from_millis(250);
const AGAIN_LAST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
