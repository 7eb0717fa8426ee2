//! Outbox tables that other programs made: the seed's columns, and variations.

use std::collections::HashSet;
use std::time::Duration;

use ottla::db::Dialect;
use ottla::outbox::{Layout, Outbox, Published, Relay, RelayOptions};

use crate::outbox::Broker;
use crate::support::Fresh;

fn to_orders() -> RelayOptions {
    let mut options = RelayOptions::default();
    options.to = Some("orders".into());
    options
}

async fn relayed(fresh: &Fresh, table: &str) -> (Broker, Published) {
    let broker = Broker::default();
    let mut options = to_orders();
    options.table = table.to_owned();
    options.keep = Duration::ZERO;
    let mut relay = Relay::open(&fresh.db, broker.clone(), options).await.unwrap();
    relay.drain().await.unwrap();
    relay.close().await.unwrap();
    (broker, Layout::of(&fresh.db, table).await.unwrap().published())
}

#[tokio::test]
async fn the_four_columns_of_the_seed_are_enough() {
    let fresh = Fresh::new().await;
    fresh.script(match fresh.db.dialect() {
        // Not AUTOINCREMENT: numbers are given again after a deletion, and no row is lost by it.
        Dialect::Sqlite => "CREATE TABLE outbox (id INTEGER PRIMARY KEY, aggregate_id TEXT, event_type TEXT, payload TEXT)",
        Dialect::Postgres => "CREATE TABLE outbox (id BIGSERIAL PRIMARY KEY, aggregate_id TEXT, event_type TEXT, payload JSONB)",
    })
    .await;
    let broker = Broker::default();
    let mut relay = Relay::open(&fresh.db, broker.clone(), to_orders()).await.unwrap();
    for n in 0..3 {
        fresh.script(&format!("INSERT INTO outbox (aggregate_id, event_type, payload) VALUES ('o-{n}', 'OrderCreated', '{{\"n\": {n}}}')")).await;
        assert_eq!(relay.drain().await.unwrap().published, 1);
    }
    let got = broker.got.lock().unwrap().clone();
    assert_eq!(got[2].envelope.name, "OrderCreated");
    assert_eq!(got[2].envelope.key.as_deref(), Some("o-2"));
    assert_eq!(got[2].envelope.body, &br#"{"n": 2}"#[..]);
    assert_eq!(got[2].to, "orders".into());
    assert_eq!(fresh.number("SELECT count(*) FROM outbox").await, 0);

    let error = Outbox::open(&fresh.db).await.unwrap_err().to_string();
    assert!(error.contains("rename it"), "{error}");
}

#[tokio::test]
async fn rows_that_are_marked_stay_and_old_ones_are_cleaned_up() {
    let fresh = Fresh::new().await;
    let columns = "aggregate_id BIGINT, event_type TEXT, payload TEXT";
    let id = match fresh.db.dialect() {
        Dialect::Sqlite => "id INTEGER PRIMARY KEY AUTOINCREMENT",
        Dialect::Postgres => "id BIGSERIAL PRIMARY KEY",
    };
    fresh.script(&format!("CREATE TABLE stamped ({id}, {columns}, published_at TIMESTAMP); CREATE TABLE flagged ({id}, {columns}, published BOOLEAN NOT NULL DEFAULT FALSE)")).await;
    for table in ["stamped", "flagged"] {
        fresh.script(&format!("INSERT INTO {table} (aggregate_id, event_type, payload) VALUES (7, 'a', '1'), (7, 'b', '2')")).await;
        let (broker, _) = relayed(&fresh, table).await;
        let names: Vec<_> =
            broker.got.lock().unwrap().iter().map(|got| got.envelope.name.clone()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(broker.got.lock().unwrap()[0].envelope.key.as_deref(), Some("7"));
    }
    assert_eq!(fresh.number("SELECT count(*) FROM flagged WHERE published").await, 2);
    // A second later they are old, and go at the next look that finds nothing to do.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let (broker, published) = relayed(&fresh, "stamped").await;
    assert_eq!((broker.got.lock().unwrap().len(), published), (0, Published::Stamped));
    assert_eq!(fresh.number("SELECT count(*) FROM stamped").await, 0);
    assert_eq!(relayed(&fresh, "flagged").await.1, Published::Flagged);
    assert_eq!(fresh.number("SELECT count(*) FROM flagged").await, 2);
}

#[tokio::test]
async fn the_same_row_is_the_same_message_whenever_it_is_published() {
    let fresh = Fresh::new().await;
    let id = if fresh.db.dialect() == Dialect::Sqlite { "TEXT" } else { "UUID" };
    fresh.script(&format!("CREATE TABLE outbox (id {id} PRIMARY KEY, aggregate_id TEXT, event_type TEXT, payload TEXT)")).await;
    let mut ids = HashSet::new();
    for _ in 0..2 {
        fresh.script("INSERT INTO outbox VALUES ('0199a000-0000-7000-8000-000000000001', NULL, 'a', '{}')").await;
        let (broker, published) = relayed(&fresh, "outbox").await;
        assert_eq!(published, Published::Deleted);
        ids.insert(broker.got.lock().unwrap()[0].envelope.id);
    }
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn what_a_table_lacks_is_said() {
    let fresh = Fresh::new().await;
    let none =
        Relay::open(&fresh.db, Broker::default(), to_orders()).await.unwrap_err().to_string();
    assert!(none.contains("CREATE TABLE outbox"), "{none}");
    fresh
        .script("CREATE TABLE outbox (id INTEGER PRIMARY KEY, event_type TEXT, payload TEXT)")
        .await;
    let lacks =
        Relay::open(&fresh.db, Broker::default(), to_orders()).await.unwrap_err().to_string();
    assert!(lacks.contains("aggregate_id"), "{lacks}");
    fresh.script("ALTER TABLE outbox ADD COLUMN aggregate_id TEXT").await;
    let where_to = Relay::open(&fresh.db, Broker::default(), RelayOptions::default())
        .await
        .unwrap_err()
        .to_string();
    assert!(where_to.contains("address"), "{where_to}");
}
