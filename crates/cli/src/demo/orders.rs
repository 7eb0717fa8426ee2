//! Orders are placed at the price of a local view, and directed by a saga.

use std::time::Duration;

use ottla::db::{Db, Tx};
use ottla::outbox::Outbox;
use ottla::saga::{Saga, step};
use ottla::view::View;
use ottla::{Envelope, Error, params};
use serde::{Deserialize, Serialize};

use super::messages::*;

/// What the saga remembers of an order.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    order: String,
    customer: String,
    item: String,
    cents: i64,
}

/// Writes an order and the message about it in one transaction.
pub(crate) async fn place(
    (db, outbox): (&Db, &Outbox),
    prices: &View<Price>,
    (order, customer, item): (&str, &str, &str),
) -> Result<(), Error> {
    let price = prices.get(item).ok_or(Error::Refused {
        doing: format!("placing order {order}"),
        why: format!("nobody sells a {item}"),
    })?;
    let placed = OrderPlaced {
        order: order.to_owned(),
        customer: customer.to_owned(),
        item: item.to_owned(),
        cents: price.cents,
    };
    let mut tx: Tx = db.begin().await?;
    let insert = "INSERT INTO orders (id, item, cents) VALUES ($1, $2, $3)";
    tx.exec(insert, &params![order, item, price.cents]).await?;
    outbox.put(&mut tx, "orders", Envelope::of(&placed, db.mint())?).await?;
    Ok(tx.commit().await?)
}

/// Reserve, charge, ship; undone in reverse. `within`: how long shipping may take.
pub(crate) fn saga(within: Duration) -> Saga<Order> {
    Saga::starts_on("order", "orders", |placed: OrderPlaced| {
        let OrderPlaced { order, customer, item, cents } = placed;
        Order { order, customer, item, cents }
    })
    .step(
        step("reserve_inventory", "queue:inventory", |o: &Order| Reserve {
            order: o.order.clone(),
            item: o.item.clone(),
        })
        .done_on::<Reserved>("inventory-events")
        .failed_on::<OutOfStock>("inventory-events")
        .undo("queue:inventory", |o| Release { order: o.order.clone(), item: o.item.clone() })
        .undone_on::<Released>("inventory-events"),
    )
    .step(
        step("charge_payment", "queue:payment", |o: &Order| Charge {
            order: o.order.clone(),
            customer: o.customer.clone(),
            cents: o.cents,
        })
        .done_on::<Charged>("payments")
        .failed_on::<Declined>("payments")
        .undo("queue:payment", |o| Refund {
            order: o.order.clone(),
            customer: o.customer.clone(),
            cents: o.cents,
        })
        .undone_on::<Refunded>("payments"),
    )
    .step(
        step("ship_order", "queue:shipping", |o: &Order| Ship {
            order: o.order.clone(),
            customer: o.customer.clone(),
        })
        .done_on::<Shipped>("shipments")
        .within(within), // the poison order is never shipped
    )
    .completes_with("order-ends", |o| OrderConfirmed {
        order: o.order.clone(),
        customer: o.customer.clone(),
    })
    .fails_with("order-ends", |o, why| OrderRejected {
        order: o.order.clone(),
        customer: o.customer.clone(),
        why: why.to_owned(),
    })
}
