//! The seed's pattern 6, a saga: reserve, charge, ship; when shipping says no, what was done is undone, the
//! last first.
#![expect(clippy::print_stdout, reason = "a program that tells what it does")]

use std::sync::Arc;

use ottla::db::Db;
use ottla::handler::{Emit, Msg, State};
use ottla::outbox::{Relay, RelayOptions};
use ottla::saga::{Saga, Sagas, step};
use ottla::{Connection, Error, Message, Service};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

macro_rules! messages {
    ($($name:ident = $text:literal),*) => { $(
        #[derive(Clone, Serialize, Deserialize, Message)]
        #[message(name = $text, key = "order")]
        struct $name { order: String }
    )* };
}
messages!(
    OrderPlaced = "order.placed",
    OrderRejected = "order.rejected",
    ReserveInventory = "inventory.reserve",
    InventoryReserved = "inventory.reserved",
    ReleaseInventory = "inventory.release",
    InventoryReleased = "inventory.released",
    ChargePayment = "payment.charge",
    PaymentCharged = "payment.charged",
    RefundPayment = "payment.refund",
    PaymentRefunded = "payment.refunded",
    ShipOrder = "shipment.ship",
    OrderShipped = "shipment.shipped",
    ShippingRefused = "shipment.refused"
);

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    order: String,
}

fn order_saga() -> Saga<Order> {
    let of = |o: &Order| o.order.clone();
    Saga::starts_on("order", "orders", |placed: OrderPlaced| Order { order: placed.order })
        .step(
            step("reserve_inventory", "queue:inventory", move |o| ReserveInventory {
                order: of(o),
            })
            .done_on::<InventoryReserved>("answers")
            .undo("queue:inventory", move |o| ReleaseInventory { order: of(o) })
            .undone_on::<InventoryReleased>("answers"),
        )
        .step(
            step("charge_payment", "queue:payment", move |o| ChargePayment { order: of(o) })
                .done_on::<PaymentCharged>("answers")
                .undo("queue:payment", move |o| RefundPayment { order: of(o) })
                .undone_on::<PaymentRefunded>("answers"),
        )
        .step(
            step("ship_order", "queue:shipping", move |o| ShipOrder { order: of(o) })
                .done_on::<OrderShipped>("answers")
                .failed_on::<ShippingRefused>("answers"),
        )
        .fails_with("ends", move |o, _| OrderRejected { order: of(o) })
}

/// A participant: says what it does and answers.
macro_rules! participant {
    ($($function:ident: $request:ident => $answer:ident),*) => { $(
        async fn $function(Msg(m): Msg<$request>, emit: Emit) -> Result<(), Error> {
            println!("{}", stringify!($function));
            emit.send("answers", &$answer { order: m.order })
        }
    )* };
}
participant!(
    reserve_inventory: ReserveInventory => InventoryReserved,
    release_inventory: ReleaseInventory => InventoryReleased,
    charge_payment: ChargePayment => PaymentCharged,
    refund_payment: RefundPayment => PaymentRefunded,
    refuse_to_ship: ShipOrder => ShippingRefused
);

async fn rejected(Msg(m): Msg<OrderRejected>, State(end): State<Arc<Notify>>) {
    println!("{} is rejected", m.order);
    end.notify_one();
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let broker = Connection::open("memory:").await?; // or kafka://…, amqp://…, ottla://…
    let db = Db::open("sqlite::memory:").await?; // or postgres://…
    let sagas = Arc::new(Sagas::open(order_saga(), &db).await?);
    let (stop, stopped) = watch::channel(false);
    let until = || {
        let mut stopped = stopped.clone();
        async move { drop(stopped.wait_for(|stop| *stop).await) }
    };
    let mut running: JoinSet<Result<(), Error>> = JoinSet::new();
    for service in [
        Service::new("inventory", &broker)
            .on("queue:inventory", reserve_inventory)
            .on("queue:inventory", release_inventory),
        Service::new("payment", &broker)
            .on("queue:payment", charge_payment)
            .on("queue:payment", refund_payment),
        Service::new("shipping", &broker).on("queue:shipping", refuse_to_ship),
        sagas.listen(Service::new("order-saga", &broker)),
    ] {
        running.spawn(service.run(until()));
    }
    let mut relay = Relay::open(&db, broker.clone(), RelayOptions::default()).await?;
    let end = until();
    running.spawn(async move { relay.run(end).await.map(drop) });

    broker.publish("orders", &OrderPlaced { order: "order-1".to_owned() }).await?;
    let end = Arc::new(Notify::new());
    let waiting = Service::new("orders", &broker).state(Arc::clone(&end)).on("ends", rejected);
    waiting.run(async move { end.notified().await }).await?;
    stop.send(true).ok();
    while let Some(ended) = running.join_next().await {
        ended.map_err(|_| Error::Closed("a service"))??;
    }
    Ok(())
}
