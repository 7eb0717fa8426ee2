//! The seed's section 3, dead letters: what cannot be done is set aside with its cause, looked at and sent back.
#![expect(clippy::print_stdout, reason = "a program that tells what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla::dead_letters::DeadLetters;
use ottla::handler::{Msg, State};
use ottla::{Connection, Failure, Message, Service};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Message)]
#[message(name = "order.placed", key = "order")]
struct OrderPlaced {
    order: String,
    amount: i64,
}

type Shop = (Arc<AtomicBool>, mpsc::Sender<String>);

async fn process(
    Msg(m): Msg<OrderPlaced>,
    State((mended, done)): State<Shop>,
) -> Result<(), Failure> {
    if m.amount < 0 && !mended.load(Ordering::Relaxed) {
        return Err(Failure::permanent("an amount is not negative"));
    }
    done.send(m.order).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), ottla::Error> {
    let broker = Connection::open("memory:").await?; // or kafka://…, amqp://…, ottla://…
    let (mended, (done, mut orders)) =
        (Arc::new(AtomicBool::new(false)), mpsc::channel::<String>(3));
    let service = || {
        Service::new("payment", &broker)
            .state((Arc::clone(&mended), done.clone()))
            .on("queue:orders", process)
    };
    for (order, amount) in [("order-1", 5), ("order-2", -5), ("order-3", 5)] {
        broker.publish("queue:orders", &OrderPlaced { order: order.to_owned(), amount }).await?;
    }
    let dead = DeadLetters::new(&broker, "queue:orders", "payment");
    let all_three = async {
        for _ in 0..2 {
            println!("{} is processed", orders.recv().await.unwrap_or_default());
        }
        while !matches!(dead.count().await, Ok(1)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    service().run(all_three).await?;

    for letter in dead.look(10).await? {
        println!("{}: {}, {}", dead.address(), letter.reason, letter.cause);
    }
    mended.store(true, Ordering::Relaxed); // the program was mended
    println!("{} sent back", dead.redrive(10).await?);
    let one = async { println!("{} is processed", orders.recv().await.unwrap_or_default()) };
    service().run(one).await
}
