//! The idempotent consumer: a message's effects happen once, however often it is delivered.
//!
//! The mark is written in the same transaction as the effects. There is no moment in which a message is
//! marked and not handled, or handled and not marked: whatever fails, both are undone, and the next
//! delivery finds neither.
//!
//! ```
//! use ottla::db::Db;
//! use ottla::inbox::{Inbox, Seen};
//! use ottla::params;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let db = Db::open("sqlite::memory:").await?;
//! let inbox = Inbox::open(&db).await?;
//! # let mut tx = db.begin().await?;
//! # tx.script("CREATE TABLE stock (item TEXT PRIMARY KEY, n BIGINT); INSERT INTO stock VALUES ('cup', 10)").await?;
//! # tx.commit().await?;
//! for delivery in ["m-1", "m-2", "m-1"] { // the broker delivers m-1 again
//!     let mut tx = db.begin().await?;
//!     if inbox.mark(&mut tx, "shipping", delivery).await? == Seen::First {
//!         tx.exec("UPDATE stock SET n = n - 1 WHERE item = $1", &params!["cup"]).await?;
//!     }
//!     tx.commit().await?; // and only then: acknowledge
//! }
//! assert_eq!(db.query("SELECT n FROM stock", &[]).await?[0].get::<i64>(0)?, 8);
//! # Ok::<(), ottla::Error>(())
//! # }).unwrap();
//! ```

use std::time::Duration;

use crate::db::{Db, Migration, Tx, int};
use crate::error::Result;
use crate::params;

/// Which messages were handled. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Inbox {
    db: Db,
}

/// Whether a message was handled before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a duplicate is acknowledged without work"]
pub enum Seen {
    /// Handle it; the mark is committed, or undone, with the transaction.
    First,
    /// It was handled: acknowledge it, and do nothing.
    Duplicate,
}

impl Inbox {
    /// Opens the inbox, making its table where there is none.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store), [`Error::Refused`](crate::Error::Refused).
    pub async fn open(db: &Db) -> Result<Self> {
        db.migrate("inbox", &STEPS).await?;
        Ok(Self { db: db.clone() })
    }

    /// Marks a message as handled by a consumer. On PostgreSQL the second of two transactions that mark the
    /// same message waits for the first: if that one commits, it is a duplicate; if it rolls back, it is not.
    ///
    /// `consumer` names the handler: two that share a name take each other's messages for duplicates. `id`
    /// is the envelope's; of a foreign producer's message, its topic, partition and offset.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store).
    pub async fn mark(&self, tx: &mut Tx, consumer: &str, id: &str) -> Result<Seen> {
        let now = int(tx.now().0);
        let marked = tx.exec(MARK, &params![consumer, id, now]).await?;
        Ok(if marked == 0 { Seen::Duplicate } else { Seen::First })
    }

    /// Marks many at once, for handlers that take batches. The answers stand in the order of `ids`; an id
    /// that is there twice is [`Seen::First`] once.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store).
    pub async fn mark_all(&self, tx: &mut Tx, consumer: &str, ids: &[&str]) -> Result<Vec<Seen>> {
        // Sorted, so that two batches with the same ids wait for each other rather than deadlock.
        let mut sorted: Vec<&str> = ids.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let sql = tx.pick(MARK_ALL_SQLITE, MARK_ALL_POSTGRES);
        let list = serde_json::Value::from(sorted).to_string();
        let now = int(tx.now().0);
        let mut first = std::collections::HashSet::new();
        for row in tx.query(sql, &params![consumer, list, now]).await? {
            first.insert(row.get::<String>(0)?);
        }
        let seen = |id: &&str| if first.remove(*id) { Seen::First } else { Seen::Duplicate };
        Ok(ids.iter().map(seen).collect())
    }

    /// Forgets marks older than `age`, in batches, each in its own transaction. Returns how many.
    ///
    /// `age` must be longer than a message can come back: the broker's redelivery, the redrive of dead
    /// letters, the replay of a topic. What comes back later is handled again.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store).
    pub async fn sweep(&self, age: Duration) -> Result<u64> {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let before = int(self.db.mint().now().0.saturating_sub(age));
        let mut swept = 0;
        loop {
            let mut tx = self.db.begin().await?;
            let gone = tx.exec(SWEEP, &params![before.clone(), i64::from(SWEEP_ROWS)]).await?;
            tx.commit().await?;
            swept += gone;
            if gone < u64::from(SWEEP_ROWS) {
                return Ok(swept);
            }
        }
    }
}

const MARK: &str =
    "INSERT INTO ottla_inbox (consumer, id, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
const MARK_ALL_SQLITE: &str = "INSERT INTO ottla_inbox (consumer, id, at)
    SELECT $1, value, $3 FROM json_each($2) WHERE TRUE ON CONFLICT DO NOTHING RETURNING id";
const MARK_ALL_POSTGRES: &str = "INSERT INTO ottla_inbox (consumer, id, at)
    SELECT CAST($1 AS TEXT), value, CAST($3 AS BIGINT) FROM json_array_elements_text($2::json) AS value ON CONFLICT DO NOTHING RETURNING id";
const SWEEP: &str = "DELETE FROM ottla_inbox WHERE (consumer, id) IN
    (SELECT consumer, id FROM ottla_inbox WHERE at < $1 ORDER BY at LIMIT $2)";
/// Marks forgotten in one transaction.
const SWEEP_ROWS: u32 = 1_000;

const STEPS: [Migration; 1] = [Migration {
    version: 1,
    sqlite:
        "CREATE TABLE ottla_inbox (consumer TEXT NOT NULL, id TEXT NOT NULL, at INTEGER NOT NULL,
            PRIMARY KEY (consumer, id)) WITHOUT ROWID;
        CREATE INDEX ottla_inbox_at ON ottla_inbox (at);",
    postgres:
        "CREATE TABLE ottla_inbox (consumer TEXT NOT NULL, id TEXT NOT NULL, at BIGINT NOT NULL,
            PRIMARY KEY (consumer, id));
        CREATE INDEX ottla_inbox_at ON ottla_inbox (at);",
}];
