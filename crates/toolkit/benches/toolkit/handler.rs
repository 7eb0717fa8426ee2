//! Messages through a service, and through a loop that somebody wrote by hand: the broker is memory and the
//! handler does nothing but count, so that what is left is the framework.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ottla::handler::{Cx, Layer, Msg, Next, Verdict};
use ottla::transport::{BoxFuture, Subscription};
use ottla::{Connection, Envelope, Incoming, Message, Policy, Service};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{Failure, row, two_workers};

#[derive(Serialize, Deserialize, Message)]
#[message(name = "order.paid", key = "order")]
struct Paid {
    order: String,
    cents: u64,
    currency: String,
}

/// Messages that were handled or set aside, and word when it is all of them.
static HANDLED: AtomicU64 = AtomicU64::new(0);
static ALL: AtomicU64 = AtomicU64::new(u64::MAX);
static DONE: Notify = Notify::const_new();

fn handled(paid: &Paid) {
    black_box(paid);
    if HANDLED.fetch_add(1, Ordering::Relaxed) + 1 == ALL.load(Ordering::Relaxed) {
        DONE.notify_one();
    }
}

/// `raw`: a loop over the feed; `service`: a handler; `layers`: a handler in four layers.
pub(crate) fn run(side: &str, count: u64) -> Result<String, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connection = Connection::open("memory:").await?;
        publish(&connection, count, false).await?;
        ALL.store(count, Ordering::Relaxed);
        let began = Instant::now();
        match side {
            "raw" => raw(&connection).await?,
            "service" => service(&connection, 0).await?,
            "layers" => service(&connection, 4).await?,
            _ => return Err("raw, service or layers".into()),
        }
        Ok(row(side, count, began.elapsed()))
    })
}

async fn publish(connection: &Connection, count: u64, poison: bool) -> Result<(), Failure> {
    let mut rest = 0..count;
    while !rest.is_empty() {
        let batch: Vec<Envelope> = rest
            .by_ref()
            .take(500)
            .map(|number| {
                let order = format!("order-{}", number % 100);
                let paid = Paid { order, cents: number, currency: "EUR".to_owned() };
                let mut envelope = Envelope::of(&paid, connection.mint())?;
                if poison && number % 100 == 50 {
                    envelope.body = "{\"order\":".into();
                }
                Ok::<_, ottla::Error>(envelope)
            })
            .collect::<Result<_, _>>()?;
        connection.send("orders", batch).await?;
    }
    Ok(())
}

async fn raw(connection: &Connection) -> Result<(), Failure> {
    let mut feed = connection.subscribe(Subscription::new("orders", "shipping")).await?;
    while HANDLED.load(Ordering::Relaxed) < ALL.load(Ordering::Relaxed) {
        match feed.next().await {
            Some(Ok(Incoming::Delivery(delivery))) => {
                handled(&delivery.envelope.decode()?);
                delivery.ack();
            }
            Some(Err(error)) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(feed.close().await?)
}

async fn service(connection: &Connection, layers: usize) -> Result<(), Failure> {
    let service = Service::new("shipping", connection).on_with("orders", Policy::default(), take);
    let service = (0..layers).fold(service, |service, _| service.layer(Through));
    Ok(service.run(DONE.notified()).await?)
}

async fn take(Msg(paid): Msg<Paid>) {
    handled(&paid);
}

/// A layer that does nothing.
struct Through;

impl Layer for Through {
    fn call<'a>(&'a self, cx: &'a mut Cx, next: Next<'a>) -> BoxFuture<'a, Verdict> {
        next.run(cx)
    }
}

/// A flood that waits for a service, every hundredth message of it undecodable or none.
pub(crate) fn storm(line: &str, poison: bool, count: u64) -> Result<String, Failure> {
    two_workers()?.block_on(async {
        let connection = Connection::open(line).await?;
        publish(&connection, count, poison).await?;
        ALL.store(if poison { count - count / 100 } else { count }, Ordering::Relaxed);
        let began = Instant::now();
        service(&connection, 0).await?; // whoever is being set aside is waited for
        let took = began.elapsed();
        connection.close().await?;
        Ok(row(if poison { "poison" } else { "clean" }, count, took))
    })
}
