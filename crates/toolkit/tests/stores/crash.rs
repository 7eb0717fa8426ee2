//! The crash matrix: a service that takes a message, marks its inbox, decides, appends, writes its outbox,
//! commits, acknowledges, publishes and takes the row away is ended at each of these boundaries, again and
//! again, by an abort of its process. In the end every effect has happened once and every message was
//! published.
//!
//! The broker here is two files: what it delivers until it is acknowledged, and what was published to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ottla::cqrs::Commands;
use ottla::db::Db;
use ottla::events::{At, EventStore, Meta};
use ottla::inbox::{Inbox, Seen};
use ottla::outbox::{Outbox, Relay, RelayOptions, Sink};
use ottla::transport::BoxFuture;
use ottla::{Outgoing, Result, Uuid, params};

use crate::abort::{Program, append, boundary, lines, told};
use crate::account::{Account, Command};
use crate::support::Fresh;

const BOUNDARIES: [&str; 9] = [
    "delivered",
    "marked",
    "effect",
    "decided",
    "committed",
    "acknowledged",
    "publishing",
    "published",
    "confirmed",
];
const MESSAGES: usize = 12;

#[tokio::test]
async fn ended_at_every_boundary_effects_happen_once_and_nothing_is_lost() {
    let fresh = Fresh::new().await;
    prepare(&fresh.db).await;
    let mut service = Program::new("crash::the_service", &fresh.url);
    for boundary in BOUNDARIES {
        for nth in [1, 4] {
            service.ended_at(boundary, nth);
        }
    }
    service.run_to_its_end();
    let home = &service.home;

    let store = EventStore::open(&fresh.db).await.unwrap();
    assert_eq!(lines(&home.join("acknowledged")).len(), total(), "all deliveries are acknowledged");
    let total_i64 = i64::try_from(total()).unwrap();
    assert_eq!(fresh.number("SELECT n FROM effect").await, total_i64, "each effect once");
    let account = store.load::<Account>("account-123", At::Latest).await.unwrap();
    assert_eq!((account.state, account.version), (total_i64, u64::try_from(total()).unwrap()));
    assert_eq!(fresh.number("SELECT count(*) FROM outbox").await, 0);

    // Every event was published, in order; what was published again has the same id.
    let mut first = BTreeMap::new();
    for (place, id) in lines(&home.join("published")).into_iter().enumerate() {
        first.entry(id).or_insert(place);
    }
    let history = store.history("account-123", 0, At::Latest, 10_000).await.unwrap();
    let ids: BTreeSet<String> = history.iter().map(|event| event.envelope.id.to_string()).collect();
    assert_eq!(first.keys().cloned().collect::<BTreeSet<_>>(), ids);
    let places: Vec<usize> =
        history.iter().map(|event| first[&event.envelope.id.to_string()]).collect();
    assert!(places.is_sorted(), "published out of order: {places:?}");
}

/// Deliveries over all runs: each run brings some new ones, so that every boundary is reached in each.
fn total() -> usize {
    MESSAGES * (BOUNDARIES.len() * 2 + 1)
}

async fn prepare(db: &Db) {
    EventStore::open(db).await.unwrap();
    Inbox::open(db).await.unwrap();
    Outbox::open(db).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    tx.script("CREATE TABLE effect (n BIGINT NOT NULL); INSERT INTO effect VALUES (0)")
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

/// The service, in the child; in the suite itself it has nothing to do.
#[tokio::test]
async fn the_service() {
    let Some(told) = told() else { return };
    let (home, until) = (told.home, told.run * MESSAGES);
    let db = Db::open(&told.url).await.unwrap();
    let inbox = Inbox::open(&db).await.unwrap();
    let outbox = Outbox::open(&db).await.unwrap();
    let store = EventStore::open(&db).await.unwrap();
    let accounts = Commands::<Account>::new(store).publishing(outbox, "accounts");
    let mut options = RelayOptions::default();
    options.lease = std::time::Duration::from_millis(1); // its predecessor is dead for sure
    let mut relay = Relay::open(&db, Files { home: home.clone() }, options).await.unwrap();

    let acknowledged: BTreeSet<String> = lines(&home.join("acknowledged")).into_iter().collect();
    for message in
        (0..until).map(|n| Uuid::new_v5(&Uuid::NAMESPACE_OID, n.to_string().as_bytes()).to_string())
    {
        if acknowledged.contains(&message) {
            continue;
        }
        boundary("delivered");
        let mut tx = db.begin().await.unwrap();
        if inbox.mark(&mut tx, "service", &message).await.unwrap() == Seen::First {
            boundary("marked");
            tx.exec("UPDATE effect SET n = n + $1", &params![1_i64]).await.unwrap();
            boundary("effect");
            let deposit = Command::Deposit { id: "123".into(), amount: 1 };
            accounts.handle_in(&mut tx, deposit, &Meta::begin(db.mint())).await.unwrap();
            boundary("decided");
        }
        tx.commit().await.unwrap();
        boundary("committed");
        append(&home.join("acknowledged"), &message);
        boundary("acknowledged");
        if relay.round().await.unwrap().published > 0 {
            boundary("confirmed");
        }
    }
    while relay.drain().await.unwrap().elsewhere {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[derive(Debug)]
struct Files {
    home: PathBuf,
}

impl Sink for Files {
    fn publish<'a>(&'a mut self, batch: &'a [Outgoing]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            boundary("publishing");
            for message in batch {
                append(&self.home.join("published"), &message.envelope.id.to_string());
            }
            boundary("published");
            Ok(())
        })
    }
}
