//! Read models: once each event, rebuilt beside the live one, stopped by what cannot be applied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla::db::{Db, Tx};
use ottla::events::{EventStore, Pos, Recorded};
use ottla::projection::{Mode, OnError, Projection, Projector, ProjectorOptions, State, Tables};
use ottla::{Failure, params};

use crate::account::{Event, append};
use crate::support::{Chance, Fresh, rows, settled, until};

/// Balances by account; `V` stands for a change of the code.
struct Balances<const V: u32>;

impl<const V: u32> Projection for Balances<V> {
    const NAME: &'static str = "balances";
    const VERSION: u32 = V;
    const TABLES: &'static [&'static str] = &["balance"];
    type Event = Event;

    fn create(&self, tables: &Tables) -> String {
        format!(
            "CREATE TABLE {} (account TEXT PRIMARY KEY, amount BIGINT NOT NULL CHECK (amount < 1000000), events BIGINT NOT NULL)",
            tables.name("balance")
        )
    }

    async fn apply(
        &self,
        tx: &mut Tx,
        tables: &Tables,
        event: &Event,
        of: &Recorded,
    ) -> Result<(), Failure> {
        let balance = tables.name("balance");
        let amount = match event {
            Event::AccountCreated { balance, .. } => *balance,
            Event::Deposited { amount } => *amount,
            Event::Withdrawn { amount } => -amount,
        };
        let add = format!(
            "INSERT INTO {balance} VALUES ($1, $2, 1) ON CONFLICT (account) DO UPDATE
             SET amount = {balance}.amount + excluded.amount, events = {balance}.events + 1"
        );
        let account = of.stream.as_deref().unwrap_or_default();
        tx.queue(&add, params![account, amount].into()).await?;
        Ok(())
    }
}

type Book = BTreeMap<String, (i64, i64)>;

async fn shown(db: &Db) -> Book {
    let rows = db.query("SELECT account, amount, events FROM balance", &[]).await.unwrap();
    rows.iter()
        .map(|row| (row.get(0).unwrap(), (row.get(1).unwrap(), row.get(2).unwrap())))
        .collect()
}

/// What the read model must be: a fold over everything, without a database.
async fn folded(store: &EventStore) -> Book {
    let (mut book, mut pos) = (Book::new(), Pos::START);
    loop {
        let page = store.after(pos, 1_000).await.unwrap();
        let Some(last) = page.last() else {
            if store.gap(pos).await.unwrap().0 == 0 {
                return book;
            }
            tokio::time::sleep(Duration::from_millis(5)).await; // held back by somebody's open transaction
            continue;
        };
        pos = last.pos;
        for event in page {
            let entry = book.entry(event.stream.clone().unwrap()).or_default();
            entry.1 += 1;
            entry.0 += match event.decode::<Event>().unwrap().unwrap() {
                Event::AccountCreated { balance, .. } => balance,
                Event::Deposited { amount } => amount,
                Event::Withdrawn { amount } => -amount,
            };
        }
    }
}

fn batches(batch_max: u32) -> ProjectorOptions {
    let mut options = ProjectorOptions::default();
    options.batch_max = batch_max;
    options
}

#[tokio::test]
async fn a_new_version_is_built_beside_the_old_one_and_takes_its_place() {
    let fresh = Fresh::new().await;
    let store = EventStore::open(&fresh.db).await.unwrap();
    let old = Projector::open(&store, Balances::<1>, batches(2)).await.unwrap();
    for amount in 1..=5 {
        append(&store, "account-1", &[Event::Deposited { amount }]).await.unwrap();
    }
    settled(&store).await;
    assert_eq!(old.status().await.unwrap()[0].gap, 5);
    assert_eq!(old.catch_up().await.unwrap().events, 5);
    assert_eq!(shown(&fresh.db).await, Book::from([("account-1".into(), (15, 5))]));
    assert_eq!(old.status().await.unwrap()[0].gap, 0);

    let new = Projector::open(&store, Balances::<2>, batches(2)).await.unwrap();
    assert_eq!(new.step().await.unwrap().events, 2);
    append(&store, "account-1", &[Event::Deposited { amount: 6 }]).await.unwrap();
    settled(&store).await;
    old.catch_up().await.unwrap(); // the old code still runs, and readers still see what it writes
    assert_eq!(shown(&fresh.db).await, Book::from([("account-1".into(), (21, 6))]));
    let states: Vec<_> = new.status().await.unwrap().iter().map(|status| status.state).collect();
    assert_eq!(states, [State::Live, State::Building]);
    assert!(new.catch_up().await.unwrap().turned);
    let status = new.status().await.unwrap();
    assert_eq!((status.len(), status[0].version, status[0].state), (1, 2, State::Live));
    append(&store, "account-1", &[Event::Withdrawn { amount: 1 }]).await.unwrap();
    settled(&store).await;
    assert_eq!(old.catch_up().await.unwrap().events, 0, "it has nothing to do any more");
    new.catch_up().await.unwrap();
    assert_eq!(shown(&fresh.db).await, folded(&store).await);
}

#[tokio::test]
async fn an_event_that_cannot_be_applied_stops_it_and_nothing_else() {
    let fresh = Fresh::new().await;
    let store = EventStore::open(&fresh.db).await.unwrap();
    let projector =
        Projector::open(&store, Balances::<1>, ProjectorOptions::default()).await.unwrap();
    append(&store, "account-1", &[Event::Deposited { amount: 1 }]).await.unwrap();
    append(&store, "account-2", &[Event::Deposited { amount: 2_000_000 }]).await.unwrap(); // too much for the table
    append(&store, "account-1", &[Event::Deposited { amount: 2 }]).await.unwrap();
    settled(&store).await;
    let step = projector.catch_up().await.unwrap();
    assert!(step.stopped);
    assert_eq!(
        shown(&fresh.db).await,
        Book::from([("account-1".into(), (1, 1))]),
        "what came before it"
    );
    let status = projector.status().await.unwrap().remove(0);
    assert_eq!((status.state, status.gap), (State::Stopped, 2));
    let error = status.error.unwrap();
    assert!(error.contains("account-2") && error.to_lowercase().contains("check"), "{error}");
    projector.resume().await.unwrap();
    assert!(projector.catch_up().await.unwrap().stopped, "nothing has changed");

    projector.resume().await.unwrap();
    let mut options = ProjectorOptions::default();
    options.on_error = OnError::Skip;
    let skipping = Projector::open(&store, Balances::<1>, options).await.unwrap();
    skipping.catch_up().await.unwrap();
    assert_eq!(shown(&fresh.db).await, Book::from([("account-1".into(), (3, 2))]));
    assert_eq!(fresh.number("SELECT count(*) FROM ottla_projection_skipped").await, 1);
}

#[tokio::test]
async fn an_inline_projection_changes_with_the_append_and_not_without() {
    let fresh = Fresh::new().await;
    let store = EventStore::open(&fresh.db).await.unwrap();
    append(&store, "account-1", &[Event::Deposited { amount: 5 }]).await.unwrap();
    let mut options = ProjectorOptions::default();
    options.mode = Mode::Inline;
    let projector = Projector::open(&store, Balances::<1>, options.clone()).await.unwrap();
    let store = store.on_append(projector.inline());
    append(&store, "account-1", &[Event::Deposited { amount: 6 }]).await.unwrap(); // before it has caught up
    assert!(projector.catch_up().await.unwrap().turned);
    assert_eq!(shown(&fresh.db).await, folded(&store).await);
    append(&store, "account-1", &[Event::Deposited { amount: 7 }]).await.unwrap();
    assert_eq!(shown(&fresh.db).await, Book::from([("account-1".into(), (18, 3))]), "at once");
    append(&store, "account-2", &[Event::Deposited { amount: 2_000_000 }]).await.unwrap_err();
    assert_eq!(shown(&fresh.db).await, folded(&store).await, "neither the event nor the row");

    projector.rebuild().await.unwrap();
    append(&store, "account-1", &[Event::Deposited { amount: 8 }]).await.unwrap();
    assert!(projector.catch_up().await.unwrap().turned);
    append(&store, "account-1", &[Event::Deposited { amount: 9 }]).await.unwrap();
    assert_eq!(shown(&fresh.db).await, folded(&store).await);
}

const GENERATIONS: &str = "SELECT count(*) FROM ottla_projections WHERE state <> 'retired'";

/// Writers write, the live generation runs in two processes, and rebuilds follow one another: in the end,
/// and at each turn, the rows are what a fold over the events gives.
async fn rebuilt_under_load(mode: Mode) {
    let fresh = Fresh::new().await;
    let store = EventStore::open(&fresh.db).await.unwrap();
    let mut options = batches(200);
    options.mode = mode;
    let projector = Projector::open(&store, Balances::<1>, options.clone()).await.unwrap();
    let store = if mode == Mode::Inline { store.on_append(projector.inline()) } else { store };
    let each = (rows(3_200) / 8 / 4).min(800);
    let turned = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (store, turned) = (store.clone(), Arc::clone(&turned));
            tokio::spawn(async move {
                let (mut chance, mut appends) = (Chance::new(writer + 1), 0);
                // At least so many, and until the readers were turned twice under load.
                while appends < each || turned.load(Ordering::Relaxed) < 2 {
                    appends += 1;
                    tokio::time::sleep(Duration::from_millis(2)).await; // a load that a projection can follow
                    let stream = format!("account-{}", chance.below(5));
                    let amount = i64::try_from(chance.below(9)).unwrap();
                    append(
                        &store,
                        &stream,
                        &[Event::Deposited { amount }, Event::Withdrawn { amount: 1 }],
                    )
                    .await
                    .unwrap();
                }
            })
        })
        .collect();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let second = EventStore::open(&fresh.again().await).await.unwrap();
    let second = Projector::open(&second, Balances::<1>, options).await.unwrap();
    let mut waits = stopped.clone();
    let beside =
        tokio::spawn(async move { second.run(async { drop(waits.changed().await) }).await });
    while writers.iter().any(|writer| !writer.is_finished()) {
        projector.rebuild().await.unwrap();
        let mut steps = 0;
        while fresh.number(GENERATIONS).await > 1 {
            match projector.step().await {
                Ok(_) => {}
                Err(error) if error.is_transient() => {} // the other runner was first
                Err(error) => panic!("{error}"),
            }
            steps += 1;
            assert!(steps < 20_000, "the rebuild never catches up");
        }
        turned.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    stop.send(true).unwrap();
    beside.await.unwrap().unwrap();
    until("everything is applied", async || {
        projector.catch_up().await.unwrap();
        projector.status().await.unwrap()[0].gap == 0
    })
    .await;
    let turns = turned.load(Ordering::Relaxed);
    assert!(turns >= 2);
    assert_eq!(shown(&fresh.db).await, folded(&store).await, "after {turns} turns");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rebuilt_under_write_load_it_equals_a_fold() {
    rebuilt_under_load(Mode::Async).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rebuilt_under_write_load_inline_it_equals_a_fold() {
    rebuilt_under_load(Mode::Inline).await;
}
