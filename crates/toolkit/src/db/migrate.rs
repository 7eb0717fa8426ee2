//! Tables by version: every component's migrations run once, in order, each in its own transaction.

use crate::params;

use super::{Db, DbError, Dialect, Tx, int};

/// One step of a component's tables. Never changed once released; the next step has the next version.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// 1, 2, 3, …
    pub version: u32,
    /// The statements for SQLite.
    pub sqlite: &'static str,
    /// The statements for PostgreSQL.
    pub postgres: &'static str,
}

impl Db {
    /// Brings the tables of `component` to the newest of `steps`. Safe to call from several programs at once.
    ///
    /// # Errors
    /// [`DbError::Newer`] where the tables are of a later release than this program.
    pub async fn migrate(&self, component: &str, steps: &[Migration]) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        lock(&mut tx).await?;
        tx.exec(MIGRATIONS, &[]).await?;
        let read = "SELECT CAST(coalesce(max(version), 0) AS BIGINT) FROM ottla_migrations WHERE component = $1";
        let found: u32 = tx.one(read, &params![component]).await?.get(0)?;
        let known = steps.iter().map(|step| step.version).max().unwrap_or(0);
        if found > known {
            tx.rollback().await?;
            return Err(DbError::Newer { component: component.to_owned(), found, known });
        }
        for step in steps.iter().filter(|step| step.version > found) {
            tx.script(match tx.dialect() {
                Dialect::Sqlite => step.sqlite,
                Dialect::Postgres => step.postgres,
            })
            .await?;
            let now = tx.now();
            let write = "INSERT INTO ottla_migrations (component, version, at) VALUES ($1, $2, $3)";
            tx.exec(write, &params![component, i64::from(step.version), int(now.0)]).await?;
            tracing::info!(component, version = step.version, "migrated");
        }
        tx.commit().await
    }
}

/// `CREATE TABLE IF NOT EXISTS` of two sessions at once fails in PostgreSQL: one at a time.
async fn lock(tx: &mut Tx) -> Result<(), DbError> {
    if tx.dialect() == Dialect::Postgres {
        tx.query("SELECT pg_advisory_xact_lock(478695156833)", &[]).await?;
    }
    Ok(())
}

const MIGRATIONS: &str = "CREATE TABLE IF NOT EXISTS ottla_migrations (
    component TEXT NOT NULL, version BIGINT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (component, version))";
