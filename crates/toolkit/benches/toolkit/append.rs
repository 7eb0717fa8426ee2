//! Events appended one in a transaction: by the event store, and by a loop over SQLite written by hand
//! with the same table, the same check of the stream's version and the same durability.

use std::time::Instant;

use ottla::db::Db;
use ottla::events::{EventStore, Expect, NewEvent};
use ottla::{Envelope, Mint};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{Failure, row, two_workers};

const BODY: &str = r#"{"order":"order-1234","item":"cup","amount":3,"cents":1999,"note":"a present, please wrap it in blue paper and do not put the bill inside","address":"Trafo Road 12, 10999 Somewhere"}"#;
const STREAMS: u64 = 100;

/// A file with the event store's tables, written by one thread.
pub(crate) fn raw(path: &str, count: u64) -> Result<String, Failure> {
    let url = format!("sqlite:{path}?durability=normal");
    two_workers()?.block_on(async { EventStore::open(&Db::open(&url).await?).await })?; // its tables
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-16384;",
    )?;
    let mint = Mint::system();
    let began = Instant::now();
    for number in 0..count {
        let stream = format!("order-{}", number % STREAMS);
        let event = Envelope::raw("ItemAdded", BODY, &mint);
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let version: Option<i64> = connection
            .prepare_cached(
                "SELECT version FROM ottla_events WHERE stream = ?1 ORDER BY version DESC LIMIT 1",
            )?
            .query_row([&stream], |row| row.get(0))
            .optional()?;
        connection.prepare_cached("INSERT INTO ottla_events (stream, version, id, name, schema, at, correlation, body) VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6, ?7)")?.execute(params![
            stream,
            version.unwrap_or(0) + 1,
            event.id.to_string(),
            event.name,
            i64::try_from(event.time.0)?,
            event.correlation.to_string(),
            &*event.body,
        ])?;
        connection.prepare_cached("COMMIT")?.execute([])?;
    }
    Ok(row("raw", count, began.elapsed()))
}

pub(crate) fn ours(url: &str, callers: u64, count: u64) -> Result<String, Failure> {
    two_workers()?.block_on(async {
        let db = Db::open(url).await?;
        let store = EventStore::open(&db).await?;
        let each = count / callers;
        let began = Instant::now();
        let tasks: Vec<_> = (0..callers)
            .map(|caller| {
                let store = store.clone();
                let db = db.clone();
                tokio::spawn(async move {
                    for number in 0..each {
                        let stream = format!("order-{}", (caller + number * callers) % STREAMS);
                        let envelope = Envelope::raw("ItemAdded", BODY, db.mint());
                        let event = NewEvent { envelope, tags: Vec::new() };
                        let mut tx = db.begin().await?;
                        store.append(&mut tx, &stream, Expect::Any, vec![event]).await?;
                        tx.commit().await?;
                    }
                    Ok::<(), ottla::Error>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(row("append", each * callers, began.elapsed()))
    })
}
