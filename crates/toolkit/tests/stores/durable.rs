//! Two services on the embedded broker, each with inbox, effects and outbox in one transaction, and a relay
//! between them. The process is ended at each boundary of both, and of the relay, again and again: in the end
//! every message that the broker took has had each of its effects once, in the order of its key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla::db::{Db, Dialect};
use ottla::dead_letters::DeadLetters;
use ottla::durable::{Durable, InTx};
use ottla::handler::{Cx, Emit, Layer, Msg, Next, Story, Verdict};
use ottla::outbox::{Relay, RelayOptions, Sink};
use ottla::transport::{BoxFuture, Subscription};
use ottla::{Connection, Envelope, Failure, Incoming, Message, Outgoing, Service, Uuid, params};
use serde::{Deserialize, Serialize};

use crate::abort::{Program, boundary, told};
use crate::support::Fresh;

#[derive(Serialize, Deserialize, Message)]
#[message(name = "order.paid", key = "order")]
struct Paid {
    order: String,
    number: usize,
}

#[derive(Serialize, Deserialize, Message)]
#[message(name = "parcel.packed", key = "order")]
struct Packed {
    order: String,
    number: usize,
}

const BOUNDARIES: [&str; 13] = [
    "packing delivered",
    "packing marked",
    "packing effect",
    "packing handled",
    "packing committed",
    "publishing",
    "published",
    "confirmed",
    "billing delivered",
    "billing marked",
    "billing effect",
    "billing handled",
    "billing committed",
];
/// New messages in each run, so that every boundary is reached in each.
const MESSAGES: usize = 12;
const ORDERS: usize = 5;

#[tokio::test]
async fn ended_at_each_boundary_of_two_services_every_effect_happens_once() {
    let fresh = Fresh::new().await;
    prepare(&fresh.db).await;
    let mut system = Program::new("durable::the_services", &fresh.url);
    for (boundary, nth) in BOUNDARIES.into_iter().zip([1, 3].into_iter().cycle()) {
        system.ended_at(boundary, if boundary.contains("ing ") { nth } else { 1 });
    }
    system.run_to_its_end();

    let total = system.runs() * MESSAGES;
    for what in ["packing", "billing"] {
        let sql = "SELECT id, number FROM effect WHERE what = $1 ORDER BY n";
        let mut numbers: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for row in fresh.db.query(sql, &params![what]).await.unwrap() {
            numbers.entry(row.get(0).unwrap()).or_default().push(row.get(1).unwrap());
        }
        let wanted = (0..total).fold(BTreeMap::<String, Vec<i64>>::new(), |mut wanted, number| {
            let of = wanted.entry(order(number)).or_default();
            of.push(i64::try_from(number).unwrap());
            wanted
        });
        assert_eq!(numbers, wanted, "{what}: each once, in the order of its key");
    }
    assert_eq!(fresh.number("SELECT count(*) FROM outbox").await, 0);

    let connection = embedded(&system.home).await;
    for (source, group) in [("orders", "packing"), ("parcels", "billing")] {
        assert_eq!(connection.depth(source, group).await.unwrap(), 0, "{group} is done");
        let dead = DeadLetters::new(&connection, source, group);
        assert_eq!(dead.count().await.unwrap(), 0, "{group} gave nothing up");
    }
    let mut parcels = connection.subscribe(Subscription::all("parcels")).await.unwrap();
    let mut ids = BTreeSet::new();
    while let Some(Incoming::Delivery(delivery)) =
        parcels.next().await.transpose().unwrap().filter(|event| !matches!(event, Incoming::Live))
    {
        ids.insert(delivery.envelope.id);
        delivery.ack();
    }
    assert_eq!(ids.len(), total, "what was published again has the same id");
    connection.close().await.unwrap();
}

fn order(number: usize) -> String {
    format!("order-{}", number % ORDERS)
}

async fn prepare(db: &Db) {
    Durable::open(db).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    let serial = match tx.dialect() {
        Dialect::Sqlite => "INTEGER PRIMARY KEY AUTOINCREMENT",
        Dialect::Postgres => "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    };
    let effect = format!(
        "CREATE TABLE effect (n {serial}, what TEXT NOT NULL, id TEXT NOT NULL, number BIGINT NOT NULL)"
    );
    tx.script(&effect).await.unwrap();
    tx.commit().await.unwrap();
}

async fn embedded(home: &std::path::Path) -> Connection {
    let line = format!("ottla://embedded?data={}", home.join("broker").display());
    Connection::open(&line).await.unwrap()
}

/// Both services and the relay, in the child; in the suite itself it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_services() {
    let Some(told) = told() else { return };
    let db = Db::open(&told.url).await.unwrap();
    let connection = embedded(&told.home).await;
    let durable = Durable::open(&db).await.unwrap();
    let total = told.run * MESSAGES;
    let new = (total - MESSAGES..total).map(|number| {
        let paid = Paid { order: order(number), number };
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, number.to_string().as_bytes());
        Envelope { id, ..Envelope::of(&paid, connection.mint()).unwrap() }
    });
    connection.send("orders", new).await.unwrap(); // from here on none may be lost

    let done = Arc::new(AtomicBool::new(false));
    let service = |name: &str| {
        Service::new(name, &connection)
            .layer(Around { before: "delivered", after: "committed" })
            .layer(durable.clone())
            .layer(Around { before: "marked", after: "handled" })
    };
    let packing = tokio::spawn(service("packing").on("orders", pack).run(ended(Arc::clone(&done))));
    let billing =
        tokio::spawn(service("billing").on("parcels", bill).run(ended(Arc::clone(&done))));
    let relaying = tokio::spawn(relay(db.clone(), connection.clone(), Arc::clone(&done)));

    let effects = i64::try_from(2 * total).unwrap();
    let sql = "SELECT (SELECT count(*) FROM effect), (SELECT count(*) FROM outbox)";
    loop {
        let row = db.query(sql, &[]).await.unwrap().remove(0);
        if (row.get::<i64>(0).unwrap(), row.get::<i64>(1).unwrap()) == (effects, 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    done.store(true, Ordering::Relaxed);
    packing.await.unwrap().unwrap();
    billing.await.unwrap().unwrap();
    relaying.await.unwrap();
    connection.close().await.unwrap();
}

async fn ended(done: Arc<AtomicBool>) {
    while !done.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn pack(Msg(paid): Msg<Paid>, tx: InTx, emit: Emit) -> Result<(), Failure> {
    effect(tx, "packing", &paid.order, paid.number).await?;
    Ok(emit.send("parcels", &Packed { order: paid.order, number: paid.number })?)
}

async fn bill(Msg(packed): Msg<Packed>, tx: InTx, _: Story) -> Result<(), Failure> {
    effect(tx, "billing", &packed.order, packed.number).await
}

async fn effect(mut tx: InTx, what: &str, order: &str, number: usize) -> Result<(), Failure> {
    let sql = "INSERT INTO effect (what, id, number) VALUES ($1, $2, $3)";
    tx.exec(sql, &params![what, order, i64::try_from(number).unwrap()]).await?;
    boundary(&format!("{what} effect"));
    Ok(())
}

/// Boundaries before and after what is inside.
struct Around {
    before: &'static str,
    after: &'static str,
}

impl Layer for Around {
    fn call<'a>(&'a self, cx: &'a mut Cx, next: Next<'a>) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            let group = cx.group().to_owned();
            boundary(&format!("{group} {}", self.before));
            let verdict = next.run(cx).await;
            if verdict.is_ok() {
                boundary(&format!("{group} {}", self.after));
            }
            verdict
        })
    }
}

/// The connection, with boundaries around it.
struct Watched(Connection);

impl Sink for Watched {
    fn publish<'a>(&'a mut self, batch: &'a [Outgoing]) -> BoxFuture<'a, ottla::Result<()>> {
        Box::pin(async move {
            boundary("publishing");
            self.0.send_all(batch.iter().cloned()).await?;
            boundary("published");
            Ok(())
        })
    }
}

async fn relay(db: Db, connection: Connection, done: Arc<AtomicBool>) {
    let mut options = RelayOptions::default();
    options.lease = Duration::from_millis(1); // its predecessor is dead for sure
    let mut relay = Relay::open(&db, Watched(connection), options).await.unwrap();
    while !done.load(Ordering::Relaxed) {
        if relay.round().await.unwrap().published > 0 {
            boundary("confirmed");
        } else {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
