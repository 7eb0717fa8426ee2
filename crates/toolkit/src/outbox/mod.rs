//! Reliable publishing: the message is a row of the same transaction as what it tells of.
//!
//! Whatever commits is published, whatever rolls back is not. A [`Relay`] takes committed rows to a
//! broker, in order per key, and deletes a row only once the broker has confirmed it. After a crash in
//! between it is published again, with the same id: the receiver's [`inbox`](crate::inbox) knows it.
//!
//! The table's columns are `id`, `aggregate_id`, `event_type` and `payload`, and some with defaults: a
//! program in any language writes to it with a plain INSERT. A table that has only those four is relayed
//! too.
//!
//! **Why nothing is skipped.** The relay has no cursor. It reads what is there, and deletes what is
//! confirmed; a row that is committed late is simply still there. Rows of one key are read in the order
//! of their `id`, which is the order of their commits wherever a transaction locks what the key names
//! before it writes the row, as an UPDATE or an event append does.

mod lease;
mod plain;
mod relay;

use crate::address::Address;
use crate::db::{Db, Migration, Tx, Value, int};
use crate::envelope::{Envelope, Outgoing};
use crate::error::Result;
use crate::params;

pub use self::plain::{Layout, Published};
pub use self::relay::{Relay, RelayOptions, Round, Sink};

/// Messages that wait for their transaction's commit, and then for a [`Relay`].
///
/// ```
/// use ottla::db::Db;
/// use ottla::outbox::Outbox;
/// use ottla::{Envelope, Message, params};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize, Message)]
/// # #[message(name = "order.created", key = "id")]
/// # struct OrderCreated { id: String, cents: u64 }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let db = Db::open("sqlite::memory:").await?;
/// let outbox = Outbox::open(&db).await?;
/// # let mut tx = db.begin().await?;
/// # tx.script("CREATE TABLE orders (id TEXT PRIMARY KEY, cents BIGINT)").await?;
/// # tx.commit().await?;
///
/// let mut tx = db.begin().await?;
/// tx.exec("INSERT INTO orders VALUES ($1, $2)", &params!["o-1", 4_200]).await?;
/// let created = OrderCreated { id: "o-1".into(), cents: 4_200 };
/// outbox.put(&mut tx, "orders", Envelope::of(&created, db.mint())?).await?;
/// tx.commit().await?; // the order and its message, or neither
/// assert_eq!(outbox.depth().await?, 1);
/// # Ok::<(), ottla::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Outbox {
    db: Db,
}

impl Outbox {
    /// Opens the table `outbox`, making it where there is none.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) where a table `outbox` of other columns is there; a [`Relay`] can read that, but
    /// not this.
    pub async fn open(db: &Db) -> Result<Self> {
        if let Ok(found) = Layout::of(db, TABLE).await
            && !found.is_ours()
        {
            let why = "a table `outbox` without our columns is there: rename it, or relay it as it is with `ottla relay`";
            return Err(crate::db::refused("opening the outbox", why));
        }
        db.migrate("outbox", &STEPS).await?;
        Ok(Self { db: db.clone() })
    }

    /// Adds a message to the transaction.
    ///
    /// # Errors
    /// [`Error::Address`](crate::Error::Address), [`Error::Store`](crate::Error::Store).
    pub async fn put(&self, tx: &mut Tx, to: impl Into<Address>, envelope: Envelope) -> Result<()> {
        self.send(tx, &Outgoing { to: to.into(), envelope, delay: None }).await
    }

    /// Adds a message that may be due later.
    ///
    /// # Errors
    /// [`Error::Address`](crate::Error::Address), [`Error::Store`](crate::Error::Store).
    pub async fn send(&self, tx: &mut Tx, message: &Outgoing) -> Result<()> {
        message.to.check()?;
        let envelope = &message.envelope;
        let due = message.delay.map_or(Value::Null, |delay| int(tx.now().after(delay).0));
        let text = std::str::from_utf8(&envelope.body).ok().filter(|text| !text.contains('\0'));
        let bytes = if text.is_some() { None } else { Some(&*envelope.body) };
        let story = plain::Story::of(envelope);
        let values = params![
            envelope.key.as_deref(),
            envelope.name.as_str(),
            text.unwrap_or_default(),
            bytes,
            message.to.to_string(),
            envelope.id,
            serde_json::to_string(&story).unwrap_or_default(),
            due,
        ];
        Ok(tx.queue(PUT, values.into()).await?)
    }

    /// How many messages wait.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store).
    pub async fn depth(&self) -> Result<u64> {
        let rows = self.db.query("SELECT count(*) FROM outbox", &[]).await?;
        rows.first().map_or(Ok(0), |row| Ok(row.get(0)?))
    }

    /// The database it is in.
    #[must_use]
    pub const fn db(&self) -> &Db {
        &self.db
    }
}

/// The table's name unless another is given.
pub const TABLE: &str = "outbox";

const PUT: &str = "INSERT INTO outbox (aggregate_id, event_type, payload, body, destination, message_id, story, due_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

const STEPS: [Migration; 1] = [Migration {
    version: 1,
    sqlite: "CREATE TABLE outbox (
            id INTEGER PRIMARY KEY AUTOINCREMENT, aggregate_id TEXT, event_type TEXT NOT NULL, payload TEXT NOT NULL,
            body BLOB, destination TEXT, message_id TEXT, story TEXT, due_at INTEGER);",
    // Rows come and go: without early vacuum each look passes over the dead ones.
    postgres: "CREATE TABLE outbox (
            id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, aggregate_id TEXT, event_type TEXT NOT NULL,
            payload TEXT NOT NULL, body BYTEA, destination TEXT, message_id TEXT, story TEXT, due_at BIGINT)
        WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);",
}];
