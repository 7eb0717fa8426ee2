//! A rolling deploy: three members of a group are restarted in turn while messages come in. None is lost, no
//! effect happens twice, and each key keeps its order. `CONFORMANCE_AT` names one more broker, as for the
//! conformance suite.
#![cfg(feature = "sqlite")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a test may stop here, and say why"
)]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ottla::db::Db;
use ottla::durable::{Durable, InTx};
use ottla::handler::{Cx, Layer, Msg, Next, State, Verdict};
use ottla::transport::{BoxFuture, Subscription};
use ottla::{Connection, Failure, Message, Policy, Service, params};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

#[derive(Serialize, Deserialize, Message)]
#[message(name = "meter.read", key = "meter")]
struct Read {
    meter: String,
    number: u64,
}

const METERS: u64 = 12;
const MEMBERS: usize = 3;
const ROUNDS: usize = 2;
/// Effects between one restart and the next.
const STRIDE: u64 = 150;
const IN_FLIGHT: u32 = 32;
/// Messages that are published ahead of their effects.
const AHEAD: u64 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory_a_rolling_deploy_loses_and_repeats_nothing() {
    let connection = Connection::open("memory:?partitions=6").await.unwrap();
    rolled("memory", async || connection.clone()).await;
}

#[cfg(feature = "embedded")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_embedded_broker_a_rolling_deploy_loses_and_repeats_nothing() {
    let data = std::env::temp_dir().join(format!("ottla-rolling-{}", std::process::id()));
    let line = format!("ottla://embedded?data={}&partitions=6", data.display());
    let connection = Connection::open(&line).await.unwrap();
    rolled("embedded", async || connection.clone()).await;
    connection.close().await.unwrap();
    std::fs::remove_dir_all(data).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_broker_named_by_the_environment_a_rolling_deploy_loses_and_repeats_nothing() {
    let Ok(line) = std::env::var("CONFORMANCE_AT") else { return };
    let mark = if line.contains('?') { '&' } else { '?' };
    let line = if line.starts_with("kafka") { format!("{line}{mark}partitions=6") } else { line };
    rolled(&line, async || Connection::open(&line).await.unwrap()).await;
}

/// `open`: the connection of one member, as its own process would have it.
async fn rolled(broker: &str, open: impl AsyncFn() -> Connection) {
    let connection = open().await;
    let db = Db::open("sqlite::memory:").await.unwrap();
    let mut tx = db.begin().await.unwrap();
    tx.script(
        "CREATE TABLE effect (n INTEGER PRIMARY KEY AUTOINCREMENT, meter TEXT, number BIGINT)",
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let fleet = Fleet {
        topic: format!("rolling.{}", connection.mint().id().simple()),
        durable: Durable::open(&db).await.unwrap(),
        counts: Arc::default(),
    };
    // A broker that does not replay keeps messages for a group from when it first subscribed.
    let first = Subscription::new(fleet.topic.as_str(), "readers");
    connection.subscribe(first).await.unwrap().close().await.unwrap();

    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        members.push(fleet.member(open().await));
    }
    let enough = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(load(
        connection.clone(),
        fleet.topic.clone(),
        Arc::clone(&fleet.counts),
        Arc::clone(&enough),
    ));
    for _ in 0..ROUNDS {
        for member in &mut members {
            let next = fleet.counts.effects.load(Ordering::Relaxed) + STRIDE;
            fleet.counts.reach(next).await;
            std::mem::replace(member, fleet.member(open().await)).end().await; // the new one comes first
        }
    }
    let restarted = fleet.counts.effects.load(Ordering::Relaxed);
    fleet.counts.reach(restarted + STRIDE).await;
    enough.store(true, Ordering::Relaxed);
    let published = load.await.unwrap();
    fleet.counts.reach(published).await;
    let sql = "SELECT count(*) FROM effect";
    while db.query(sql, &[]).await.unwrap()[0].get::<u64>(0).unwrap() < published {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for member in members {
        member.end().await;
    }

    let mut meters: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for row in db.query("SELECT meter, number FROM effect ORDER BY n", &[]).await.unwrap() {
        meters.entry(row.get(0).unwrap()).or_default().push(row.get(1).unwrap());
    }
    let delivered = fleet.counts.deliveries.load(Ordering::Relaxed);
    eprintln!(
        "{broker}: {published} messages, {delivered} deliveries, {} restarts",
        MEMBERS * ROUNDS
    );
    if !connection.caps().keyed_order {
        meters.values_mut().for_each(|numbers| numbers.sort_unstable());
    }
    assert_eq!(meters, wanted(published), "each once, in the order of its key");
    let restarts = u64::try_from(MEMBERS * ROUNDS).unwrap();
    assert!(
        delivered - published <= restarts * u64::from(IN_FLIGHT) * 2,
        "{} duplicates: a member that leaves settles what it has in flight",
        delivered - published
    );
}

/// Each number once, in its order, by its key.
fn wanted(published: u64) -> BTreeMap<String, Vec<i64>> {
    let mut wanted: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for number in 0..published {
        wanted.entry(meter(number)).or_default().push(i64::try_from(number).unwrap());
    }
    wanted
}

struct Fleet {
    topic: String,
    durable: Durable,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    deliveries: AtomicU64,
    effects: AtomicU64,
}

impl Counts {
    /// Waits for so many effects.
    async fn reach(&self, effects: u64) {
        let reached = tokio::time::timeout(PATIENCE, async {
            while self.effects.load(Ordering::Relaxed) < effects {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        let told = || format!("{} of {effects} effects", self.effects.load(Ordering::Relaxed));
        reached.await.map_err(|_| told()).unwrap();
    }
}

impl Fleet {
    fn member(&self, connection: Connection) -> Member {
        let policy = Policy::default().concurrency(8).in_flight(IN_FLIGHT);
        let service = Service::new("readers", &connection)
            .layer(Counted(Arc::clone(&self.counts)))
            .layer(self.durable.clone())
            .state(Arc::clone(&self.counts))
            .on_with(self.topic.as_str(), policy, take);
        let (stop, stopped) = oneshot::channel::<()>();
        let done = tokio::spawn(service.run(async { drop(stopped.await) }));
        Member { stop, done }
    }
}

async fn take(
    Msg(read): Msg<Read>,
    State(counts): State<Arc<Counts>>,
    mut tx: InTx,
) -> Result<(), Failure> {
    let sql = "INSERT INTO effect (meter, number) VALUES ($1, $2)";
    tx.exec(sql, &params![read.meter, i64::try_from(read.number).unwrap()]).await?;
    counts.effects.fetch_add(1, Ordering::Relaxed); // about to be committed: good enough to pace by
    Ok(())
}

struct Member {
    stop: oneshot::Sender<()>,
    done: JoinHandle<ottla::Result<()>>,
}

impl Member {
    fn end(self) -> impl Future<Output = ()> {
        self.stop.send(()).unwrap();
        async { self.done.await.unwrap().unwrap() }
    }
}

/// Counts deliveries outside the inbox, and what came of them.
struct Counted(Arc<Counts>);

impl Layer for Counted {
    fn call<'a>(&'a self, cx: &'a mut Cx, next: Next<'a>) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            self.0.deliveries.fetch_add(1, Ordering::Relaxed);
            next.run(cx).await
        })
    }
}

fn meter(number: u64) -> String {
    format!("meter-{}", number % METERS)
}

/// Publishes until it is enough; how many.
async fn load(
    connection: Connection,
    topic: String,
    counts: Arc<Counts>,
    enough: Arc<AtomicBool>,
) -> u64 {
    let mut published = 0;
    while !enough.load(Ordering::Relaxed) {
        if published >= counts.effects.load(Ordering::Relaxed) + AHEAD {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        let batch = (published..published + 20).map(|number| {
            let read = Read { meter: meter(number), number };
            ottla::Envelope::of(&read, connection.mint()).unwrap()
        });
        connection.send(topic.as_str(), batch).await.unwrap();
        published += 20;
    }
    published
}

const PATIENCE: Duration = Duration::from_secs(120);
