//! Messages whose inbox mark, effect and answer are one transaction, from memory into a database.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ottla::db::Db;
use ottla::durable::{Durable, InTx};
use ottla::handler::{Cx, Emit, Layer, Msg, Next, Verdict};
use ottla::transport::BoxFuture;
use ottla::{Connection, Envelope, Message, Policy, Service, params};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{Failure, row, two_workers};

#[derive(Serialize, Deserialize, Message)]
#[message(name = "order.paid", key = "order")]
struct Paid {
    order: String,
    cents: i64,
}

#[derive(Serialize, Deserialize, Message)]
#[message(name = "parcel.packed", key = "order")]
struct Packed {
    order: String,
}

static COMMITTED: AtomicU64 = AtomicU64::new(0);
static ALL: AtomicU64 = AtomicU64::new(u64::MAX);
static DONE: Notify = Notify::const_new();

pub(crate) fn run(url: &str, at_a_time: u32, count: u64) -> Result<String, Failure> {
    two_workers()?.block_on(async {
        let db = Db::open(url).await?;
        let durable = Durable::open(&db).await?;
        let mut tx = db.begin().await?;
        let table = "CREATE TABLE payment (parcel TEXT NOT NULL, cents BIGINT NOT NULL)";
        tx.script(table).await?;
        tx.commit().await?;
        let connection = Connection::open("memory:").await?;
        for number in 0..count {
            let paid =
                Paid { order: format!("order-{}", number % 1_000), cents: i64::try_from(number)? };
            connection.send("orders", [Envelope::of(&paid, connection.mint())?]).await?;
        }
        ALL.store(count, Ordering::Relaxed);
        let policy = Policy::default().concurrency(at_a_time).in_flight(at_a_time * 4);
        let service = Service::new("packing", &connection)
            .layer(Counted)
            .layer(durable.clone())
            .on_with("orders", policy, pack);
        let began = Instant::now();
        service.run(DONE.notified()).await?;
        let took = began.elapsed();
        let waiting = durable.outbox().depth().await?;
        if waiting != count {
            return Err(format!("{waiting} messages in the outbox, not {count}").into());
        }
        Ok(row("durable", count, took))
    })
}

async fn pack(Msg(paid): Msg<Paid>, mut tx: InTx, emit: Emit) -> Result<(), ottla::Failure> {
    let effect = "INSERT INTO payment (parcel, cents) VALUES ($1, $2)";
    tx.queue(effect, params![paid.order.as_str(), paid.cents].into()).await?;
    Ok(emit.send("parcels", &Packed { order: paid.order })?)
}

/// Counts commits.
struct Counted;

impl Layer for Counted {
    fn call<'a>(&'a self, cx: &'a mut Cx, next: Next<'a>) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            next.run(cx).await?;
            if COMMITTED.fetch_add(1, Ordering::Relaxed) + 1 == ALL.load(Ordering::Relaxed) {
                DONE.notify_one();
            }
            Ok(())
        })
    }
}
