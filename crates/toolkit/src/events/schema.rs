//! The tables of the event store.

use crate::db::{Db, DbError, Dialect, Migration};

pub(super) const STEPS: [Migration; 1] = [Migration {
    version: 1,
    // AUTOINCREMENT: a number is never given twice, so one writer's numbers ascend in the order of commits.
    sqlite: "
        CREATE TABLE ottla_events (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, label INTEGER NOT NULL DEFAULT 0,
            stream TEXT, version INTEGER, id TEXT NOT NULL, name TEXT NOT NULL, schema INTEGER NOT NULL,
            at INTEGER NOT NULL, correlation TEXT NOT NULL, causation TEXT, rest TEXT, body BLOB NOT NULL);
        CREATE UNIQUE INDEX ottla_events_stream ON ottla_events (stream, version) WHERE stream IS NOT NULL;
        CREATE TABLE ottla_event_tags (tag TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (tag, seq)) WITHOUT ROWID;
        CREATE TABLE ottla_snapshots (
            stream TEXT NOT NULL, decider TEXT NOT NULL, schema INTEGER NOT NULL, version INTEGER NOT NULL,
            at INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (stream, decider));",
    // The label: while a transaction is open, its events' labels are at or above its own id, so above
    // `pg_snapshot_xmin` at any reader. `base` is moved after a restore, where ids begin low again.
    postgres: "
        CREATE TABLE ottla_epoch (one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one), base BIGINT NOT NULL);
        INSERT INTO ottla_epoch (base) VALUES (0);
        CREATE FUNCTION ottla_label() RETURNS BIGINT LANGUAGE sql VOLATILE AS $$
            SELECT base + greatest(pg_current_xact_id()::text::bigint,
                                   pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1)
            FROM ottla_epoch $$;
        CREATE TABLE ottla_events (
            seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, label BIGINT NOT NULL DEFAULT ottla_label(),
            stream TEXT, version BIGINT, id UUID NOT NULL, name TEXT NOT NULL, schema INT NOT NULL,
            at BIGINT NOT NULL, correlation UUID NOT NULL, causation UUID, rest TEXT, body BYTEA NOT NULL);
        CREATE UNIQUE INDEX ottla_events_stream ON ottla_events (stream, version) WHERE stream IS NOT NULL;
        CREATE INDEX ottla_events_order ON ottla_events (label, seq);
        CREATE TABLE ottla_event_tags (tag TEXT NOT NULL, seq BIGINT NOT NULL, PRIMARY KEY (tag, seq));
        CREATE TABLE ottla_snapshots (
            stream TEXT NOT NULL, decider TEXT NOT NULL, schema INT NOT NULL, version BIGINT NOT NULL,
            at BIGINT NOT NULL, body BYTEA NOT NULL, PRIMARY KEY (stream, decider));",
}];

/// After a dump was restored into another cluster, transaction ids begin below those in the labels, and
/// events would stay invisible. A label that no transaction here can have had yet proves it: the base is
/// moved, and everything restored is below what comes.
pub(super) async fn rebase_if_restored(db: &Db) -> Result<(), DbError> {
    if db.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    let rows = db.query(RESTORED, &[]).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut tx = db.begin().await?;
    tx.exec("LOCK TABLE ottla_epoch IN ACCESS EXCLUSIVE MODE", &[]).await?;
    if tx.exec(REBASE, &[]).await? > 0 {
        tracing::warn!("the events were restored from another cluster: their order was rebased");
    }
    tx.commit().await
}

const RESTORED: &str = "SELECT 1 FROM ottla_epoch WHERE
    (SELECT max(label) FROM ottla_events) >= base + pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
const REBASE: &str = "UPDATE ottla_epoch
    SET base = (SELECT max(label) FROM ottla_events) + 1 - pg_snapshot_xmin(pg_current_snapshot())::text::bigint
    WHERE (SELECT max(label) FROM ottla_events) >= base + pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
