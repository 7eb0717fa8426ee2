//! One database, SQLite or PostgreSQL, behind one transaction value.
//!
//! Inbox, effects, events and outbox write through the same [`Tx`]: they are committed together or not
//! at all. Statements are written once, with `$1`, `$2`, … for parameters; [`Tx::dialect`] tells where
//! the two differ.
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | address | `sqlite:PATH`, `sqlite::memory:` | `postgres://USER:PASSWORD@HOST:PORT/DATABASE` |
//! | writers | one thread; transactions that wait for it share a sync | a pool of connections |
//! | isolation | serial | READ COMMITTED, with locks where it matters |
//! | outside a transaction | reads what is committed | the same |
//!
//! On SQLite a transaction is the whole database: do slow work before its first statement.

mod error;
mod migrate;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
mod statement;
mod tx;
mod value;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::error::Error;
use crate::mint::Mint;

use self::statement::Statement;

pub use self::error::DbError;
pub use self::migrate::Migration;
pub use self::tx::Tx;
pub(crate) use self::value::int;
pub use self::value::{FromValue, Row, Value};

/// A database. Cheap to clone; all clones are one.
///
/// ```
/// use ottla::db::Db;
/// use ottla::params;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let db = Db::open("sqlite::memory:").await?;
/// let mut tx = db.begin().await?;
/// tx.script("CREATE TABLE account (id TEXT PRIMARY KEY, cents BIGINT NOT NULL)").await?;
/// tx.exec("INSERT INTO account (id, cents) VALUES ($1, $2)", &params!["123", 7_000_i64]).await?;
/// tx.commit().await?; // durable from here on
///
/// let rows = db.query("SELECT cents FROM account WHERE id = $1", &params!["123"]).await?;
/// assert_eq!(rows[0].get::<i64>(0)?, 7_000);
/// # Ok::<(), ottla::db::DbError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Db {
    backend: Backend,
    mint: Mint,
    commits: Arc<watch::Sender<u64>>,
}

#[derive(Debug, Clone)]
enum Backend {
    #[cfg(feature = "sqlite")]
    Sqlite(Arc<sqlite::Sqlite>),
    #[cfg(feature = "postgres")]
    Postgres(Arc<postgres::Postgres>),
}

/// Which SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

/// What a commit has survived when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The loss of power: SQLite's `synchronous=FULL`, PostgreSQL's `synchronous_commit=on`.
    #[default]
    Full,
    /// The end of the process, not the loss of power: `synchronous=NORMAL`, `synchronous_commit=off`. A commit
    /// may be forgotten then; an inbox or an outbox forgets with it, so they stay consistent, but a message
    /// that was acknowledged to a broker is not delivered again.
    Normal,
}

/// How a database is used. The defaults are right for most.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DbOptions {
    /// What a commit survives. In the address: `?durability=full` (the default) or `?durability=normal`.
    pub durability: Durability,
    /// The longest wait for a connection, a lock or the writer. 10 s.
    pub wait_max: Duration,
    /// The longest a transaction may be open without a statement. 5 s on SQLite, where all others wait; on
    /// PostgreSQL it is the server's `idle_in_transaction_session_timeout`.
    pub idle_max: Duration,
    /// Connections to PostgreSQL. 16.
    pub connections_max: usize,
    /// Where time and ids come from.
    pub mint: Mint,
}

impl Default for DbOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Full,
            wait_max: Duration::from_secs(10),
            idle_max: Duration::from_secs(5),
            connections_max: 16,
            mint: Mint::system(),
        }
    }
}

impl Db {
    /// Opens a database by its address. A file of SQLite is made where there is none.
    ///
    /// # Errors
    /// [`DbError::Address`], [`DbError::Feature`] and [`DbError::Unreachable`].
    pub async fn open(url: &str) -> Result<Self, DbError> {
        Self::open_with(url, DbOptions::default()).await
    }

    /// The same, with options. What the address says wins.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub async fn open_with(url: &str, options: DbOptions) -> Result<Self, DbError> {
        let (place, options) = settings(url, options)?;
        let mint = options.mint.clone();
        let backend = if let Some(path) = place.strip_prefix("sqlite:") {
            sqlite(url, path, options).await?
        } else if place.starts_with("postgres://") || place.starts_with("postgresql://") {
            postgres(&place, options).await?
        } else {
            return Err(DbError::Address {
                url: url.to_owned(),
                reason: "the scheme is unknown".to_owned(),
            });
        };
        Ok(Self { backend, mint, commits: Arc::new(watch::Sender::new(0)) })
    }

    /// Begins a transaction. It sends nothing before its first statement. Dropped without
    /// [`Tx::commit`], it is rolled back.
    ///
    /// # Errors
    /// [`DbError::Busy`], [`DbError::Unreachable`].
    #[cfg_attr(
        not(feature = "postgres"),
        expect(clippy::unused_async, reason = "PostgreSQL waits for a connection")
    )]
    pub async fn begin(&self) -> Result<Tx, DbError> {
        let inner = match &self.backend {
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(db) => tx::Inner::Sqlite(db.begin()),
            #[cfg(feature = "postgres")]
            Backend::Postgres(db) => tx::Inner::Postgres(Box::new(db.begin().await?)),
        };
        Ok(Tx::new(inner, self.mint.clone(), Arc::clone(&self.commits)))
    }

    /// Rows of what is committed, outside any transaction.
    ///
    /// # Errors
    /// [`DbError::Statement`], [`DbError::Busy`], [`DbError::Lost`].
    pub async fn query(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        let statement = Statement { sql: sql.to_owned(), params: params.to_vec() };
        match &self.backend {
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(db) => Ok(db.read(statement).await?.rows()),
            #[cfg(feature = "postgres")]
            Backend::Postgres(db) => Ok(db.read(statement).await?.rows()),
        }
    }

    /// Which SQL is spoken.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        match &self.backend {
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(_) => Dialect::Sqlite,
            #[cfg(feature = "postgres")]
            Backend::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Where time and ids come from.
    #[must_use]
    pub const fn mint(&self) -> &Mint {
        &self.mint
    }

    /// Changes at each commit of this process: a hint to look, never the truth. Others write too.
    #[must_use]
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    /// Waits for a commit of this process, or until `wait` is over.
    pub(crate) async fn nudged(&self, seen: &mut watch::Receiver<u64>, wait: Duration) {
        match tokio::time::timeout(wait, seen.changed()).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(_)) => tokio::time::sleep(wait).await, // cannot happen while we hold the sender
        }
    }
}

/// What trying again may help is [`Error::Store`], everything else [`Error::Refused`].
impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        let doing = "using the database".to_owned();
        if error.is_transient() {
            Self::Store { doing, source: Box::new(error) }
        } else {
            Self::Refused { doing, why: error.to_string() }
        }
    }
}

pub(crate) fn refused(doing: impl Into<String>, why: impl Into<String>) -> Error {
    Error::Refused { doing: doing.into(), why: why.into() }
}

#[cfg(feature = "sqlite")]
async fn sqlite(url: &str, path: &str, options: DbOptions) -> Result<Backend, DbError> {
    let path = path.strip_prefix("//").unwrap_or(path); // sqlite:///var/x is /var/x
    if path.is_empty() {
        return Err(DbError::Address { url: url.to_owned(), reason: "it has no path".to_owned() });
    }
    let path = (path != ":memory:").then(|| PathBuf::from(path));
    Ok(Backend::Sqlite(Arc::new(sqlite::Sqlite::open(path, options).await?)))
}

#[cfg(not(feature = "sqlite"))]
async fn sqlite(url: &str, _: &str, _: DbOptions) -> Result<Backend, DbError> {
    Err(DbError::Feature { url: url.to_owned(), feature: "sqlite" })
}

#[cfg(feature = "postgres")]
async fn postgres(url: &str, options: DbOptions) -> Result<Backend, DbError> {
    Ok(Backend::Postgres(Arc::new(postgres::Postgres::open(url, options).await?)))
}

#[cfg(not(feature = "postgres"))]
#[expect(clippy::unused_async, reason = "with the feature it waits for the server")]
async fn postgres(_: &str, _: DbOptions) -> Result<Backend, DbError> {
    Err(DbError::Feature { url: "postgres://".to_owned(), feature: "postgres" })
}

/// Takes our own settings out of the address.
fn settings(url: &str, mut options: DbOptions) -> Result<(String, DbOptions), DbError> {
    let Some((place, query)) = url.split_once('?') else { return Ok((url.to_owned(), options)) };
    let mut foreign = Vec::new();
    for setting in query.split('&').filter(|setting| !setting.is_empty()) {
        match setting.split_once('=') {
            Some(("durability", "full")) => options.durability = Durability::Full,
            Some(("durability", "normal")) => options.durability = Durability::Normal,
            _ if place.starts_with("postgres") && !setting.starts_with("durability") => {
                foreign.push(setting)
            }
            _ => {
                let reason = format!(
                    "{setting:?} is unknown: there is durability=full and durability=normal"
                );
                return Err(DbError::Address { url: url.to_owned(), reason });
            }
        }
    }
    if foreign.is_empty() {
        return Ok((place.to_owned(), options));
    }
    Ok((format!("{place}?{}", foreign.join("&")), options))
}
