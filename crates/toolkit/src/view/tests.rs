//! Stories of a price view.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::*;
use crate::Message;
use crate::envelope::Envelope;
use crate::mint::Mint;
use crate::transport::{
    BoxFuture, Caps, Event, FeedControl, Handed, Lane, Parcel, RawFeed, Settlement, Settler, Token,
    Transport, feed,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Message)]
#[message(name = "price.changed", key = "item")]
struct Price {
    item: String,
    cents: u64,
    revision: u64,
}

fn price(item: &str, cents: u64, revision: u64) -> Price {
    Price { item: item.to_owned(), cents, revision }
}

async fn shop(prices: &[Price]) -> Connection {
    let connection = Connection::open("memory:").await.unwrap();
    for price in prices {
        connection.publish("prices", price).await.unwrap();
    }
    connection
}

fn view() -> ViewOf<Price> {
    View::of("prices").newest_by(|price: &Price| price.revision)
}

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn an_opened_view_has_everything_that_was_there() {
    let prices: Vec<Price> = (0..1_000).map(|n| price(&format!("item-{n}"), n, 1)).collect();
    let connection = shop(&prices).await;
    let view = view().open(&connection).await.unwrap();
    assert_eq!(view.len(), 1_000, "no half view is ever seen");
    assert_eq!(view.get("item-7").unwrap().cents, 7);
    assert!(view.status().ready);
}

#[tokio::test]
async fn the_newest_row_wins_whatever_comes_last() {
    let connection = shop(&[price("cup", 900, 2), price("cup", 800, 1)]).await;
    let view = view().open(&connection).await.unwrap();
    assert_eq!(view.get("cup").unwrap().cents, 900);

    connection.publish("prices", &price("cup", 950, 3)).await.unwrap();
    let row = view.wait_for("cup", PATIENCE, |price| price.revision == 3).await.unwrap();
    assert_eq!(row.cents, 950);
}

#[tokio::test]
async fn a_tombstone_removes_a_row_and_an_older_row_does_not_bring_it_back() {
    let connection = shop(&[price("cup", 900, 5), price("pot", 2_000, 1)]).await;
    let gone = Envelope::tombstone::<Price>("cup", connection.mint());
    connection.send("prices", [gone]).await.unwrap();
    connection.publish("prices", &price("cup", 800, 4)).await.unwrap();
    let view = view().open(&connection).await.unwrap();
    assert_eq!((view.get("cup"), view.len()), (None, 1));

    connection.publish("prices", &price("cup", 990, 6)).await.unwrap();
    let back = view.wait_for("cup", PATIENCE, |_| true).await.unwrap();
    assert_eq!(back.cents, 990, "a newer one does");
}

#[tokio::test]
async fn what_cannot_be_read_is_counted_and_what_is_not_meant_is_passed_over() {
    let connection = shop(&[price("cup", 900, 1)]).await;
    let mint = connection.mint();
    let broken = Envelope::raw(Price::NAME, "{}", mint).with_key("cup");
    let other = Envelope::raw("stock.counted", "{}", mint).with_key("cup");
    connection.send("prices", [broken, other]).await.unwrap();
    let view = view().open(&connection).await.unwrap();
    assert_eq!(view.get("cup").unwrap().cents, 900);
    assert_eq!(view.status().unreadable, 1);
}

#[tokio::test]
async fn a_view_that_would_be_too_large_says_so() {
    let connection = shop(&[price("cup", 900, 1), price("pot", 2_000, 1)]).await;
    let error = view().max_rows(1).open(&connection).await.unwrap_err();
    assert!(error.to_string().contains("more than 1 rows"), "{error}");
}

#[test]
fn removed_keys_are_remembered_for_a_day() {
    let mut table = Table::new(10);
    let (noon, next_week) = (Timestamp(0), Timestamp(7 * 24 * 3_600_000));
    assert_eq!(table.put("cup", 1, 5), Taken::Changed);
    assert_eq!(table.bury("cup", noon), Taken::Changed);
    assert_eq!(table.put("cup", 2, 4), Taken::Nothing);
    assert_eq!(table.put("pot", 1, 1), Taken::Changed);
    assert_eq!(table.bury("pot", next_week), Taken::Changed);
    assert_eq!(table.put("cup", 2, 4), Taken::Changed, "forgotten by now");
}

/// A broker that hands out what the test gives it, once, and is gone then.
#[derive(Debug)]
struct Once(Mutex<Option<RawFeed>>);

impl Transport for Once {
    fn caps(&self) -> Caps {
        Caps {
            keyed_order: true,
            replay: true,
            redelivery_count: false,
            durable: false,
            selective_ack: true,
        }
    }

    fn publish<'a>(&'a self, _: &'a Address, _: Vec<Parcel>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Err(Error::Closed("the broker")) })
    }

    fn subscribe<'a>(&'a self, _: &'a Subscription) -> BoxFuture<'a, Result<RawFeed>> {
        let feed = self.0.lock().unwrap().take().ok_or(Error::Closed("the broker"));
        Box::pin(async { feed })
    }

    fn depth<'a>(&'a self, _: &'a Address, _: &'a str) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async { Ok(0) })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

impl FeedControl for Once {
    fn stop(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

impl Settler for Once {
    fn ack(&self, _: Token) {}

    fn release(&self, _: Token) {}
}

#[tokio::test(start_paused = true)]
async fn a_view_goes_on_answering_without_its_broker_and_says_since_when() {
    let mint = Mint::virtual_from(1);
    let (credit, events) = feed(8);
    let broker = Once(Mutex::new(Some(RawFeed::new(events, Arc::new(Once(Mutex::default()))))));
    let connection = Connection::over("once", Arc::new(broker), mint.clone());
    let token = Token { lane: Lane(0), number: 0 };
    let settlement = Settlement::new(Arc::new(Once(Mutex::default())), token);
    let envelope = Envelope::of(&price("cup", 900, 1), &mint).unwrap();
    let row = Event::Delivery(Handed { envelope, redelivered: 0, settlement });
    credit.send(Ok(row)).await.unwrap();
    credit.send(Ok(Event::Live)).await.unwrap();
    let view = view().open(&connection).await.unwrap();

    drop(credit); // the broker goes away
    let mut status = view.inner.shared.status.subscribe();
    let stale = status.wait_for(|status| status.stale_since.is_some()).await.unwrap().clone();
    assert_eq!(stale.stale_since.unwrap().1, "the feed ended");
    assert_eq!(view.get("cup").unwrap().cents, 900);
}
