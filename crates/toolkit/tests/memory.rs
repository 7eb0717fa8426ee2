//! What a program sees of a broker in memory.
#![expect(clippy::unwrap_used, reason = "a test may stop here")]

use std::time::Duration;

use ottla::transport::Subscription;
use ottla::{
    Address, Connection, DeadLetter, Delivery, Feed, Incoming, Message, Mint, Reason, Settle,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize, Message)]
#[message(name = "order.paid", key = "order")]
struct OrderPaid {
    order: String,
    number: u32,
}

async fn memory() -> Connection {
    Connection::open_with("memory:?partitions=4", Mint::virtual_from(1)).await.unwrap()
}

async fn next(feed: &mut Feed) -> Delivery {
    match feed.next().await.unwrap().unwrap() {
        Incoming::Delivery(delivery) => delivery,
        other => panic!("{other:?}"),
    }
}

fn paid(order: &str, number: u32) -> OrderPaid {
    OrderPaid { order: order.to_owned(), number }
}

#[tokio::test(start_paused = true)]
async fn a_failed_message_comes_again_later_with_its_count_and_ends_among_the_dead_letters() {
    let connection = memory().await;
    connection.publish("orders", &paid("o-1", 1)).await.unwrap();
    let mut feed = connection.subscribe(Subscription::new("orders", "ship")).await.unwrap();
    let first = next(&mut feed).await;
    assert_eq!(
        (first.attempt(), first.envelope.decode::<OrderPaid>().unwrap()),
        (1, paid("o-1", 1))
    );
    let before = connection.mint().now();
    let after = Duration::from_secs(3600);
    first.settle(Settle::Retry { after, cause: "no stock".into() }).await.unwrap();
    let second = next(&mut feed).await;
    assert_eq!(connection.mint().now().since(before), after);
    assert_eq!(second.attempt(), 2);
    let id = second.envelope.id;
    let cause = "no such product".to_owned();
    second.settle(Settle::Dead { reason: Reason::Permanent, cause }).await.unwrap();

    let dead = Subscription::new(Address::queue("orders.ship.dead"), "operator");
    let mut dead = connection.subscribe(dead).await.unwrap();
    let letter = DeadLetter::read(next(&mut dead).await.envelope.clone()).unwrap();
    assert_eq!((letter.reason, letter.attempts, letter.envelope.id), (Reason::Permanent, 2, id));
    let causes: Vec<&str> = letter.history.iter().map(|attempt| attempt.cause.as_str()).collect();
    assert_eq!(causes, ["no stock", "no such product"]);
    assert!(letter.envelope.headers.is_empty(), "as it was published");

    let (to, again) = letter.redriven();
    connection.send(to, [again]).await.unwrap();
    let redriven = next(&mut feed).await;
    assert_eq!((redriven.attempt(), redriven.envelope.id), (1, id));
}

#[tokio::test(start_paused = true)]
async fn a_second_consumer_takes_over_half_once_the_first_has_let_go() {
    let connection = memory().await;
    let ship = || Subscription::new("orders", "ship").max_in_flight(100);
    let mut first = connection.subscribe(ship()).await.unwrap();
    for number in 0..40 {
        connection.publish("orders", &paid(&format!("o-{number}"), number)).await.unwrap();
    }
    let mut held = Vec::new();
    while held.len() < 40 {
        held.push(next(&mut first).await);
    }
    let mut second = connection.subscribe(ship()).await.unwrap();
    let Some(Ok(Incoming::Revoked(revoked))) = first.next().await else { panic!("not revoked") };
    assert_eq!(revoked.lanes.len(), 2);
    // half of what goes is finished, half is given back
    let (going, staying): (Vec<_>, Vec<_>) =
        held.into_iter().partition(|delivery| revoked.lanes.contains(&delivery.lane()));
    let mut finished = 0;
    let count = going.len();
    for (at, delivery) in going.into_iter().enumerate() {
        if at % 2 == 0 {
            finished += 1;
            delivery.ack();
        }
    }
    drop(revoked);
    staying.into_iter().for_each(Delivery::ack);
    for _ in 0..count - finished {
        next(&mut second).await.ack();
    }
    first.close().await.unwrap();
    second.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_wants_everything_is_told_when_it_has_seen_what_was_there() {
    let connection = memory().await;
    for number in 0..1_000 {
        connection.publish("orders", &paid(&format!("o-{number}"), number)).await.unwrap();
    }
    let mut view = connection.subscribe(Subscription::all("orders")).await.unwrap();
    let mut seen = 0;
    loop {
        match view.next().await.unwrap().unwrap() {
            Incoming::Delivery(delivery) => {
                seen += 1;
                delivery.ack();
            }
            Incoming::Live => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, 1_000);
}
