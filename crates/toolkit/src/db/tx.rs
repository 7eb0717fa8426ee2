//! The one transaction that inbox, effects, events and outbox share.

use std::sync::Arc;

use tokio::sync::watch;

use crate::mint::{Mint, Timestamp};

#[cfg(feature = "postgres")]
use super::postgres::PostgresTx;
#[cfg(feature = "sqlite")]
use super::sqlite::SqliteTx;
use super::statement::{Answer, Statement, Want};
use super::{DbError, Dialect, Row, Value};

/// An open transaction. Dropped without [`commit`](Tx::commit), it is rolled back.
///
/// After a failed statement nothing of it counts, on SQLite as on PostgreSQL: every further statement
/// and the commit are [`DbError::Aborted`].
#[derive(Debug)]
pub struct Tx {
    inner: Inner,
    /// Written, but not sent yet.
    queued: Vec<Statement>,
    mint: Mint,
    commits: Arc<watch::Sender<u64>>,
}

#[derive(Debug)]
pub(super) enum Inner {
    #[cfg(feature = "sqlite")]
    Sqlite(SqliteTx),
    #[cfg(feature = "postgres")]
    Postgres(Box<PostgresTx>),
}

impl Tx {
    pub(super) const fn new(inner: Inner, mint: Mint, commits: Arc<watch::Sender<u64>>) -> Self {
        Self { inner, queued: Vec::new(), mint, commits }
    }

    /// Runs one statement. Returns how many rows it changed.
    ///
    /// # Errors
    /// [`DbError::Constraint`], [`DbError::Statement`], [`DbError::Conflict`], [`DbError::Busy`],
    /// [`DbError::Expired`], [`DbError::Aborted`], [`DbError::Lost`].
    pub async fn exec(&mut self, sql: &str, params: &[Value]) -> Result<u64, DbError> {
        Ok(self.run(sql, params, Want::Count).await?.count())
    }

    /// Runs one statement. Returns the rows it found.
    ///
    /// # Errors
    /// As [`Tx::exec`].
    pub async fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        Ok(self.run(sql, params, Want::Rows).await?.rows())
    }

    /// The first row, if there is one.
    ///
    /// # Errors
    /// As [`Tx::exec`].
    pub async fn first(&mut self, sql: &str, params: &[Value]) -> Result<Option<Row>, DbError> {
        Ok(self.query(sql, params).await?.into_iter().next())
    }

    /// The row of a statement that always has one (`SELECT count(*) …`).
    ///
    /// # Errors
    /// [`DbError::Column`] where there is none; else as [`Tx::exec`].
    pub async fn one(&mut self, sql: &str, params: &[Value]) -> Result<Row, DbError> {
        let none = || DbError::Column { column: "*".to_owned(), wanted: "there: no row was found" };
        self.first(sql, params).await?.ok_or_else(none)
    }

    /// Runs several statements without parameters, such as a schema.
    ///
    /// # Errors
    /// As [`Tx::exec`].
    pub async fn script(&mut self, sql: &str) -> Result<(), DbError> {
        self.run(sql, &[], Want::Script).await.map(drop)
    }

    /// Keeps a statement until the next call, or the commit, and sends it along with that: many writes in
    /// one trip. What is wrong with it is heard there. At most a few hundred are kept.
    ///
    /// # Errors
    /// As [`Tx::exec`], for the statements queued before.
    pub async fn queue(&mut self, sql: &str, params: Vec<Value>) -> Result<(), DbError> {
        self.queued.push(Statement { sql: sql.to_owned(), params });
        if self.queued.len() >= QUEUED_MAX { self.flush().await } else { Ok(()) }
    }

    /// Runs what is queued.
    ///
    /// # Errors
    /// As [`Tx::exec`].
    pub async fn flush(&mut self) -> Result<(), DbError> {
        let before = std::mem::take(&mut self.queued);
        if before.is_empty() { Ok(()) } else { self.send(before, None).await.map(drop) }
    }

    /// Commits: returns once it is durable, see [`Durability`](super::Durability).
    ///
    /// # Errors
    /// [`DbError::Unknown`] where it may or may not have happened; after every other error it did not.
    pub async fn commit(self) -> Result<(), DbError> {
        match self.inner {
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(tx) => tx.commit(self.queued).await?,
            #[cfg(feature = "postgres")]
            Inner::Postgres(tx) => tx.commit(self.queued).await?,
        }
        self.commits.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }

    /// Undoes everything. The same as dropping it, but heard.
    ///
    /// # Errors
    /// [`DbError::Lost`]: it is undone even so.
    pub async fn rollback(self) -> Result<(), DbError> {
        match self.inner {
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(tx) => tx.rollback().await,
            #[cfg(feature = "postgres")]
            Inner::Postgres(tx) => tx.rollback().await,
        }
    }

    /// Which SQL is spoken.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        match &self.inner {
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(_) => Dialect::Sqlite,
            #[cfg(feature = "postgres")]
            Inner::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Where time and ids come from.
    #[must_use]
    pub const fn mint(&self) -> &Mint {
        &self.mint
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.mint.now()
    }

    /// One of two texts, by the SQL that is spoken.
    pub(crate) const fn pick<'a>(&self, sqlite: &'a str, postgres: &'a str) -> &'a str {
        match self.dialect() {
            Dialect::Sqlite => sqlite,
            Dialect::Postgres => postgres,
        }
    }

    async fn run(&mut self, sql: &str, params: &[Value], want: Want) -> Result<Answer, DbError> {
        let before = std::mem::take(&mut self.queued);
        let last = Statement { sql: sql.to_owned(), params: params.to_vec() };
        self.send(before, Some((last, want))).await
    }

    async fn send(
        &mut self,
        before: Vec<Statement>,
        last: Option<(Statement, Want)>,
    ) -> Result<Answer, DbError> {
        match &mut self.inner {
            #[cfg(feature = "sqlite")]
            Inner::Sqlite(tx) => tx.run(before, last).await,
            #[cfg(feature = "postgres")]
            Inner::Postgres(tx) => tx.run(before, last).await,
        }
    }
}

/// Queued statements that are sent unasked.
const QUEUED_MAX: usize = 256;
