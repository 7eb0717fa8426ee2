//! What operators do and brokers suffer, in memory and without time passing: redrive by choice, outages, closing.
#![expect(clippy::unwrap_used, reason = "a test may stop here")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla::dead_letters::{DeadLetters, Filter, Redrive, Redriven};
use ottla::handler::{Msg, State};
use ottla::policy::{Order, Policy};
use ottla::service::{Condition, Health};
use ottla::transport::memory::Memory;
use ottla::transport::{
    BoxFuture, Caps, FeedControl, Parcel, RawFeed, Subscription, Transport, feed,
};
use ottla::{
    Address, Connection, Envelope, Error, Failure, Incoming, Message, Mint, Reason, Service, Settle,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, oneshot};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Message)]
#[message(name = "order.paid", key = "order")]
struct Paid {
    order: String,
    number: u32,
}

fn paid(order: &str, number: u32) -> Paid {
    Paid { order: order.to_owned(), number }
}

/// Memory as a broker that can be cut off, and that settles as Kafka does.
#[derive(Debug)]
struct Frail {
    memory: Arc<Memory>,
    /// Cuts every feed that is open.
    cut: Arc<Notify>,
    /// How often nobody answers before it is there again.
    refusals: AtomicU32,
    asked: AtomicU32,
}

impl Frail {
    fn new() -> Arc<Self> {
        let (refusals, asked) = (AtomicU32::new(0), AtomicU32::new(0));
        Arc::new(Self { memory: Arc::new(Memory::new(2)), cut: Arc::default(), refusals, asked })
    }

    fn gone() -> Error {
        let hint = "it comes back".to_owned();
        Error::Unreachable { address: "frail".to_owned(), source: "cut".into(), hint }
    }

    async fn open(&self, to: &Subscription) -> ottla::Result<RawFeed> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let refuse = |left: u32| left.checked_sub(1);
        if self.refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, refuse).is_ok() {
            return Err(Self::gone());
        }
        let mut inner = self.memory.subscribe(to).await?;
        let (out, events) = feed(to.max_in_flight);
        let (close, mut closed) = mpsc::channel::<oneshot::Sender<()>>(1);
        let cut = Arc::clone(&self.cut);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = cut.notified() => { drop(out.send(Err(Self::gone())).await); break; }
                    told = closed.recv() => {
                        inner.close().await.unwrap();
                        if let Some(told) = told {
                            told.send(()).ok();
                        }
                        return;
                    }
                    event = inner.next() => match event {
                        Some(event) => drop(out.send(event).await),
                        None => break,
                    },
                }
            }
            inner.close().await.unwrap();
        });
        Ok(RawFeed::new(events, Arc::new(Closing(close))))
    }
}

#[derive(Debug)]
struct Closing(mpsc::Sender<oneshot::Sender<()>>);

impl FeedControl for Closing {
    fn stop(&self) -> BoxFuture<'_, ottla::Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn close(&self) -> BoxFuture<'_, ottla::Result<()>> {
        Box::pin(async {
            let (told, wait) = oneshot::channel();
            if self.0.send(told).await.is_ok() {
                drop(wait.await);
            }
            Ok(())
        })
    }
}

impl Transport for Frail {
    fn caps(&self) -> Caps {
        Caps { selective_ack: false, ..self.memory.caps() }
    }

    fn publish<'a>(
        &'a self,
        to: &'a Address,
        batch: Vec<Parcel>,
    ) -> BoxFuture<'a, ottla::Result<()>> {
        self.memory.publish(to, batch)
    }

    fn subscribe<'a>(&'a self, to: &'a Subscription) -> BoxFuture<'a, ottla::Result<RawFeed>> {
        Box::pin(self.open(to))
    }

    fn depth<'a>(&'a self, at: &'a Address, group: &'a str) -> BoxFuture<'a, ottla::Result<u64>> {
        self.memory.depth(at, group)
    }

    fn close(&self) -> BoxFuture<'_, ottla::Result<()>> {
        self.memory.close()
    }
}

async fn memory() -> Connection {
    Connection::open_with("memory:", Mint::virtual_from(1)).await.unwrap()
}

/// Gives up messages of `queue:orders`: number, and why.
async fn give_up(connection: &Connection, letters: &[(&str, u32, Reason)]) {
    for (order, number, _) in letters {
        connection.publish("queue:orders", &paid(order, *number)).await.unwrap();
    }
    let mut feed = connection.subscribe(Subscription::new("queue:orders", "ship")).await.unwrap();
    for (_, _, reason) in letters {
        let Some(Ok(Incoming::Delivery(delivery))) = feed.next().await else { panic!("ended") };
        let settle = Settle::Dead { reason: *reason, cause: "a bug".to_owned() };
        delivery.settle(settle).await.unwrap();
    }
    feed.close().await.unwrap();
}

async fn numbers(dead: &DeadLetters) -> Vec<u32> {
    let letters = dead.look(100).await.unwrap();
    letters.iter().map(|letter| letter.envelope.decode::<Paid>().unwrap().number).collect()
}

const LETTERS: [(&str, u32, Reason); 4] = [
    ("a", 1, Reason::Panicked),
    ("b", 2, Reason::Exhausted),
    ("a", 3, Reason::Exhausted),
    ("c", 4, Reason::Permanent),
];

#[tokio::test(start_paused = true)]
async fn what_is_not_asked_for_stays_in_its_order_however_the_broker_settles() {
    let frail = Connection::over("frail", Frail::new(), Mint::virtual_from(1));
    for connection in [memory().await, frail] {
        give_up(&connection, &LETTERS).await;
        let dead = DeadLetters::new(&connection, "queue:orders", "ship");
        let exhausted = Redrive::new(Filter::default().because(Reason::Exhausted));
        assert_eq!(dead.preview(&exhausted).await.unwrap().len(), 2);
        assert_eq!(numbers(&dead).await, [1, 2, 3, 4], "a preview moves nothing");
        let done = dead.redrive_by(&exhausted.limit(1)).await.unwrap();
        assert_eq!(done, Redriven { sent: 1, stayed: 3 });
        let mut left = numbers(&dead).await;
        left.sort_unstable();
        assert_eq!(left, [1, 3, 4], "only 2 has gone");
        let none = Redrive::new(Filter::default().named("order.shipped"));
        assert_eq!(dead.redrive_by(&none).await.unwrap(), Redriven { sent: 0, stayed: 3 });
    }
}

#[tokio::test(start_paused = true)]
async fn looking_for_dead_letters_where_there_are_none_makes_no_place_for_them() {
    let frail = Frail::new();
    let transport: Arc<dyn Transport> = Arc::<Frail>::clone(&frail);
    let connection = Connection::over("frail", transport, Mint::virtual_from(1));
    let dead = DeadLetters::new(&connection, "queue:orders", "ship");
    assert!(dead.look(10).await.unwrap().is_empty());
    assert_eq!(dead.redrive(10).await.unwrap(), 0);
    assert_eq!(
        frail.asked.load(Ordering::Relaxed),
        0,
        "nobody subscribed, which would make the queue"
    );
}

/// A newcomer that knows nothing of the keys that others parked, while an operator looks at the letters.
#[tokio::test(start_paused = true)]
async fn a_key_stays_parked_for_a_newcomer_while_its_letters_are_in_other_hands() {
    let connection = memory().await;
    give_up(&connection, &[("a", 1, Reason::Exhausted)]).await;
    let dead = DeadLetters::new(&connection, "queue:orders", "ship");
    let letters = Subscription::new(dead.address(), "ship");
    let mut operator = connection.subscribe(letters).await.unwrap();
    let Some(Ok(Incoming::Delivery(held))) = operator.next().await else { panic!("ended") };
    connection.publish("queue:orders", &paid("a", 2)).await.unwrap();
    let log = Arc::new(Mutex::new(Vec::<u32>::new()));
    let service = Service::new("ship", &connection).state(Arc::clone(&log));
    let parking = Policy::default().order(Order::ParkKey);
    let service = service.on_with("queue:orders", parking, count);
    let running = tokio::spawn(service.run(std::future::pending()));
    tokio::time::sleep(Duration::from_secs(35)).await;
    drop(held);
    operator.close().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(log.lock().unwrap().is_empty(), "2 overtook 1");
    assert_eq!(numbers(&dead).await, [1, 2]);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_redrive_goes_no_faster_than_it_is_told() {
    let connection = memory().await;
    give_up(&connection, &LETTERS).await;
    let dead = DeadLetters::new(&connection, "queue:orders", "ship");
    let begun = tokio::time::Instant::now();
    let slowly = Redrive::new(Filter::default()).per_second(2);
    assert_eq!(dead.redrive_by(&slowly).await.unwrap().sent, 4);
    assert_eq!(begun.elapsed(), Duration::from_millis(1_500));
}

#[tokio::test(start_paused = true)]
async fn a_key_goes_on_only_when_none_of_its_letters_is_left() {
    let connection = memory().await;
    let dead = DeadLetters::new(&connection, "orders", "ship");
    let (log, broken) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(true)));
    let handler = {
        let (log, broken) = (Arc::clone(&log), Arc::clone(&broken));
        move |Msg(paid): Msg<Paid>| {
            let (log, broken) = (Arc::clone(&log), Arc::clone(&broken));
            async move {
                if paid.number == 1 && *broken.lock().unwrap() {
                    return Err(Failure::permanent("a bug"));
                }
                log.lock().unwrap().push(paid.number);
                Ok(())
            }
        }
    };
    let service = Service::new("ship", &connection);
    let service = service.on_with("orders", Policy::default().order(Order::ParkKey), handler);
    let running = tokio::spawn(service.run(std::future::pending()));
    let publish = async |number| {
        connection.publish("orders", &paid("a", number)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
    };
    publish(1).await;
    publish(2).await;
    assert_eq!(numbers(&dead).await, [1, 2], "2 waits behind 1");
    *broken.lock().unwrap() = false; // mended
    assert_eq!(dead.redrive(1).await.unwrap(), 1);
    publish(3).await;
    assert_eq!(numbers(&dead).await, [2, 3], "3 may not overtake 2");
    assert_eq!(dead.redrive(10).await.unwrap(), 2);
    publish(4).await;
    assert_eq!(*log.lock().unwrap(), [1, 2, 3, 4]);
    running.abort();
}

async fn count(Msg(paid): Msg<Paid>, State(log): State<Arc<Mutex<Vec<u32>>>>) {
    log.lock().unwrap().push(paid.number);
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn condition(health: &Health) -> Condition {
    health.look().await.first().unwrap().condition
}

#[tokio::test(start_paused = true)]
async fn a_service_outlives_its_broker_s_absence_and_loses_nothing() {
    let frail = Frail::new();
    let transport: Arc<dyn Transport> = Arc::<Frail>::clone(&frail);
    let connection = Connection::over("frail", transport, Mint::virtual_from(1));
    let log = Arc::new(Mutex::new(Vec::<u32>::new()));
    let service = Service::new("audit", &connection).state(Arc::clone(&log));
    let service = service.on_with("queue:orders", Policy::default().concurrency(1), count);
    let health = service.health();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(service.run(async { drop(stopped.await) }));
    for number in 0..10 {
        connection.publish("queue:orders", &paid("a", number)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(450)).await;
    assert_eq!(condition(&health).await, Condition::Running);
    frail.refusals.store(5, Ordering::Relaxed);
    frail.cut.notify_waiters(); // while the fifth is being handled
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((condition(&health).await, health.is_ready()), (Condition::Lost, false));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(condition(&health).await, Condition::Running);
    assert_eq!(frail.asked.load(Ordering::Relaxed), 7, "once, five times in vain, once more");
    assert_eq!(connection.depth("queue:orders", "audit").await.unwrap(), 0);
    let handled = log.lock().unwrap().clone();
    assert_eq!(
        handled,
        [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9],
        "the one in hand came again, in its turn"
    );
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_ends_what_is_being_read() {
    for source in ["orders", "queue:mail"] {
        let connection = memory().await;
        let mut feed = connection.subscribe(Subscription::new(source, "ship")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        connection.close().await.unwrap();
        let ended = feed.next().await;
        assert!(matches!(ended, Some(Err(Error::Closed(_)))), "{ended:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_json_value_is_written_where_the_line_says_so_and_read_anywhere() {
    let line = "memory:?partitions=1&cloudevents=structured";
    let structured = Connection::open_with(line, Mint::virtual_from(2)).await.unwrap();
    let sent = Envelope::of(&paid("a", 1), structured.mint()).unwrap().with_header("ottla-x", "1");
    structured.send("orders", [sent.clone()]).await.unwrap();
    let subscription = Subscription::new("orders", "ship");
    let mut raw = structured.transport().subscribe(&subscription).await.unwrap();
    let Some(Ok(ottla::transport::Event::Delivery(handed))) = raw.next().await else {
        panic!("nothing came")
    };
    assert_eq!(handed.envelope.content_type, "application/cloudevents+json");
    let event: serde_json::Value = serde_json::from_slice(&handed.envelope.body).unwrap();
    assert_eq!((&event["type"], &event["data"]["number"]), (&"order.paid".into(), &1.into()));
    drop(handed);
    raw.close().await.unwrap();
    let mut feed = structured.subscribe(subscription).await.unwrap();
    let Some(Ok(Incoming::Delivery(read))) = feed.next().await else { panic!("nothing came") };
    assert_eq!(read.envelope.decode::<Paid>().unwrap(), paid("a", 1)); // its members in another order
    assert_eq!(Envelope { body: sent.body.clone(), ..read.envelope.clone() }, sent);
    let wrong = Connection::open("memory:?cloudevents=xml").await.unwrap_err().to_string();
    assert!(wrong.contains("binary or structured"), "{wrong}");
}
