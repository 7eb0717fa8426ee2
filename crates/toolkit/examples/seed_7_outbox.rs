//! The seed's pattern 7, the outbox: an order and the message about it are one transaction; a relay publishes
//! what committed.
#![expect(clippy::print_stdout, reason = "a program that tells what it does")]

use ottla::db::Db;
use ottla::handler::{Msg, State};
use ottla::outbox::{Outbox, Relay, RelayOptions};
use ottla::{Connection, Envelope, Error, Message, Service, params};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Message)]
#[message(name = "order.created", key = "id")]
struct OrderCreated {
    id: String,
    cents: i64,
}

async fn heard(
    Msg(m): Msg<OrderCreated>,
    State(told): State<mpsc::Sender<String>>,
) -> Result<(), Error> {
    told.send(m.id).await.map_err(|_| Error::Closed("the story"))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let scratch = std::env::temp_dir().join(format!("ottla-seed-7-{}", std::process::id()));
    let told = tell(&format!("ottla://embedded?data={}", scratch.display())).await;
    std::fs::remove_dir_all(&scratch).ok();
    told
}

async fn tell(line: &str) -> Result<(), Error> {
    let db = Db::open("sqlite::memory:").await?; // or postgres://…
    let outbox = Outbox::open(&db).await?;
    let mut tx = db.begin().await?;
    tx.script("CREATE TABLE orders (id TEXT PRIMARY KEY, cents BIGINT)").await?;
    tx.commit().await?;

    for (id, commits) in [("order-1", true), ("order-2", false), ("order-3", true)] {
        let order = OrderCreated { id: id.to_owned(), cents: 4_200 };
        let mut tx = db.begin().await?;
        tx.exec("INSERT INTO orders VALUES ($1, $2)", &params![&order.id, order.cents]).await?;
        outbox.put(&mut tx, "orders", Envelope::of(&order, db.mint())?).await?;
        if commits {
            tx.commit().await?; // both
        } else {
            drop(tx); // neither
        }
    }
    println!("{} messages wait in the outbox", outbox.depth().await?);

    let broker = Connection::open(line).await?; // the embedded broker; or kafka://…, amqp://…
    let mut relay = Relay::open(&db, broker.clone(), RelayOptions::default()).await?;
    println!("{} published, {} left", relay.drain().await?.published, outbox.depth().await?);

    let (told, mut orders) = mpsc::channel::<String>(2);
    let two = async move {
        for _ in 0..2 {
            println!("shipping hears of {}", orders.recv().await.unwrap_or_default());
        }
    };
    Service::new("shipping", &broker).state(told).on("orders", heard).run(two).await?;
    broker.close().await
}
