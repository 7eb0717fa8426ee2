//! Who relays: one owner at a time, and a dead one's place is taken after a while.

use std::time::Duration;

use uuid::Uuid;

use crate::db::{Db, DbError, Migration, int};
use crate::params;

/// A right that lapses unless it is renewed.
#[derive(Debug)]
pub(super) struct Lease {
    db: Db,
    name: String,
    owner: Uuid,
    span: Duration,
}

impl Lease {
    pub(super) async fn open(db: &Db, name: String, span: Duration) -> Result<Self, DbError> {
        db.migrate("leases", &STEPS).await?;
        Ok(Self { db: db.clone(), name, owner: db.mint().id(), span })
    }

    /// Takes or renews it. False: somebody else has it.
    pub(super) async fn hold(&self) -> Result<bool, DbError> {
        let mut tx = self.db.begin().await?;
        // One clock for all owners: on PostgreSQL the server's.
        let now = match tx.dialect() {
            crate::db::Dialect::Sqlite => int(tx.now().0),
            crate::db::Dialect::Postgres => tx.one(SERVER_TIME, &[]).await?.get(0)?,
        };
        let span = u64::try_from(self.span.as_millis()).unwrap_or(u64::MAX);
        let held = tx
            .exec(HOLD, &params![self.name.as_str(), self.owner.to_string(), now, int(span)])
            .await?;
        tx.commit().await?;
        Ok(held > 0)
    }

    /// Gives it back, so that the next owner need not wait.
    pub(super) async fn release(&self) -> Result<(), DbError> {
        let mut tx = self.db.begin().await?;
        let release = "DELETE FROM ottla_leases WHERE name = $1 AND owner = $2";
        tx.exec(release, &params![self.name.as_str(), self.owner.to_string()]).await?;
        tx.commit().await
    }

    pub(super) const fn span(&self) -> Duration {
        self.span
    }
}

const SERVER_TIME: &str = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";
const HOLD: &str = "INSERT INTO ottla_leases (name, owner, until) VALUES ($1, $2, CAST($3 AS BIGINT) + CAST($4 AS BIGINT))
    ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until
    WHERE ottla_leases.owner = excluded.owner OR ottla_leases.until < CAST($3 AS BIGINT)";
const LEASES: &str =
    "CREATE TABLE ottla_leases (name TEXT PRIMARY KEY, owner TEXT NOT NULL, until BIGINT NOT NULL)";
const STEPS: [Migration; 1] = [Migration { version: 1, sqlite: LEASES, postgres: LEASES }];
