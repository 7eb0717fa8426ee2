//! The seed's pattern 5, choreography: each service reacts to an event, nobody directs; the map says who does what.
#![expect(clippy::print_stdout, reason = "a program that tells what it does")]

use ottla::choreography::{Map, Role};
use ottla::handler::{Emit, Msg, State};
use ottla::{Connection, Error, Message, Service};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

#[derive(Serialize, Deserialize, Message)]
#[message(name = "order.created", key = "order")]
struct OrderCreated {
    order: String,
}

#[derive(Serialize, Deserialize, Message)]
#[message(name = "payment.taken", key = "order")]
struct PaymentTaken {
    order: String,
}

type Told = mpsc::Sender<String>;

async fn tell(told: &Told, what: String) -> Result<(), Error> {
    told.send(what).await.map_err(|_| Error::Closed("the story"))
}

async fn pay(Msg(m): Msg<OrderCreated>, State(told): State<Told>, emit: Emit) -> Result<(), Error> {
    tell(&told, format!("payment takes money for {}", m.order)).await?;
    emit.send("payments", &PaymentTaken { order: m.order })
}

async fn reserve(Msg(m): Msg<OrderCreated>, State(told): State<Told>) -> Result<(), Error> {
    tell(&told, format!("inventory reserves for {}", m.order)).await
}

async fn confirm(Msg(m): Msg<PaymentTaken>, State(told): State<Told>) -> Result<(), Error> {
    tell(&told, format!("notification confirms {}", m.order)).await
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let map = Map::named("shop")
        .with(Role::named("orders").emits::<OrderCreated>("orders"))
        .with(
            Role::named("payment")
                .hears::<OrderCreated>("orders")
                .emits::<PaymentTaken>("payments"),
        )
        .with(Role::named("inventory").hears::<OrderCreated>("orders"))
        .with(Role::named("notification").hears::<PaymentTaken>("payments"));
    println!("{}", map.mermaid());
    assert!(map.doubts().is_empty(), "{:?}", map.doubts());

    let broker = Connection::open("memory:").await?; // or kafka://…, amqp://…, ottla://…
    let (told, mut heard) = mpsc::channel::<String>(3);
    let (stop, stopped) = watch::channel(false);
    let mut running = JoinSet::new();
    for service in [
        Service::new("payment", &broker).state(told.clone()).on("orders", pay),
        Service::new("inventory", &broker).state(told.clone()).on("orders", reserve),
        Service::new("notification", &broker).state(told).on("payments", confirm),
    ] {
        let mut stopped = stopped.clone();
        running.spawn(service.run(async move { drop(stopped.wait_for(|stop| *stop).await) }));
    }
    broker.publish("orders", &OrderCreated { order: "order-1".to_owned() }).await?;
    for _ in 0..3 {
        println!("{}", heard.recv().await.unwrap_or_default());
    }
    stop.send(true).ok();
    while running.join_next().await.is_some() {}
    Ok(())
}
