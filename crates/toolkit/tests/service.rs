//! What a service does with its messages, in memory and without time passing.
#![expect(clippy::unwrap_used, reason = "a test may stop here")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla::dead_letters::DeadLetters;
use ottla::handler::{Attempt, Emit, Msg, State};
use ottla::policy::{Backoff, Order, Policy, Trip};
use ottla::transport::Subscription;
use ottla::{Connection, Failure, Incoming, Message, Mint, Reason, Service};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Message)]
#[message(name = "order.paid", key = "order")]
struct Paid {
    order: String,
    number: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Message)]
#[message(name = "parcel.sent", key = "order")]
struct Sent {
    order: String,
}

/// What handlers saw: order, number, attempt.
type Log = Arc<Mutex<Vec<(String, u32, u32)>>>;

struct Running {
    stop: oneshot::Sender<()>,
    done: JoinHandle<ottla::Result<()>>,
}

impl Running {
    fn begin(service: Service) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let done = tokio::spawn(service.run(async { drop(stopped.await) }));
        Self { stop, done }
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.done.await.unwrap().unwrap();
    }
}

async fn memory() -> Connection {
    Connection::open_with("memory:", Mint::virtual_from(1)).await.unwrap()
}

fn paid(order: &str, number: u32) -> Paid {
    Paid { order: order.to_owned(), number }
}

async fn publish(connection: &Connection, messages: &[(&str, u32)]) {
    for (order, number) in messages {
        connection.publish("orders", &paid(order, *number)).await.unwrap();
    }
}

fn policy() -> Policy {
    let retry =
        Backoff { jitter: 0.0, ..Backoff::new(Duration::from_secs(1), Duration::from_secs(60), 3) };
    Policy::default().retry(retry).trip(None)
}

/// Fails on number 13 always, on 7 the first time.
async fn unlucky(
    Msg(paid): Msg<Paid>,
    Attempt(attempt): Attempt,
    State(log): State<Log>,
) -> Result<(), Failure> {
    log.lock().unwrap().push((paid.order, paid.number, attempt));
    match paid.number {
        13 => Err("never".into()),
        7 if attempt == 1 => Err("not yet".into()),
        66 => panic!("a bug"),
        _ => Ok(()),
    }
}

async fn run_for(service: Service, span: Duration) {
    let running = Running::begin(service);
    tokio::time::sleep(span).await;
    running.end().await;
}

fn seen(log: &Log, order: &str) -> Vec<(u32, u32)> {
    let log = log.lock().unwrap();
    log.iter()
        .filter(|(o, ..)| o == order)
        .map(|(_, number, attempt)| (*number, *attempt))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_failing_message_holds_up_its_key_and_nobody_else() {
    let (connection, log) = (memory().await, Log::default());
    let messages = [("a", 1), ("a", 7), ("a", 2), ("b", 3), ("a", 13), ("a", 4)];
    publish(&connection, &messages).await;
    let service = Service::new("ship", &connection).state(Arc::clone(&log)).on_with(
        "orders",
        policy().order(Order::BlockKey),
        unlucky,
    );
    run_for(service, Duration::from_secs(600)).await;
    let a = [(1, 1), (7, 1), (7, 2), (2, 1), (13, 1), (13, 2), (13, 3), (4, 1)];
    assert_eq!(seen(&log, "a"), a);
    assert_eq!(seen(&log, "b"), [(3, 1)]);
    let letters = DeadLetters::new(&connection, "orders", "ship").look(10).await.unwrap();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((letter.reason, letter.attempts, letter.history.len()), (Reason::Exhausted, 3, 3));
    let waits: Vec<_> =
        letter.history.windows(2).map(|w| w[1].at.since(w[0].at).as_secs()).collect();
    assert_eq!(waits, [1, 2], "doubling");
}

#[tokio::test(start_paused = true)]
async fn behind_a_parked_message_its_key_waits_in_order_until_it_is_sent_back() {
    let (connection, log) = (memory().await, Log::default());
    publish(&connection, &[("a", 13), ("a", 1), ("b", 2), ("a", 3)]).await;
    let service = || {
        Service::new("ship", &connection).state(Arc::clone(&log)).on_with(
            "orders",
            policy().order(Order::ParkKey),
            unlucky,
        )
    };
    run_for(service(), Duration::from_secs(600)).await;
    assert_eq!(seen(&log, "b"), [(2, 1)]);
    let dead = DeadLetters::new(&connection, "orders", "ship");
    let parked: Vec<_> = dead.look(10).await.unwrap().iter().map(|l| l.reason).collect();
    assert_eq!(parked, [Reason::Exhausted, Reason::Parked, Reason::Parked]);
    publish(&connection, &[("a", 4)]).await; // and the service starts anew: it must remember
    run_for(service(), Duration::from_secs(60)).await;
    assert_eq!(dead.count().await.unwrap(), 4);
    // the bug is mended: 13 is lucky now
    async fn lucky(Msg(paid): Msg<Paid>, State(log): State<Log>) {
        log.lock().unwrap().push((paid.order, paid.number, 1));
    }
    log.lock().unwrap().clear();
    let mended = Service::new("ship", &connection).state(Arc::clone(&log)).on_with(
        "orders",
        policy().order(Order::ParkKey),
        lucky,
    );
    let running = Running::begin(mended);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(dead.redrive(100).await.unwrap(), 4);
    tokio::time::sleep(Duration::from_secs(10)).await;
    publish(&connection, &[("a", 5)]).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    running.end().await;
    assert_eq!(seen(&log, "a"), [(13, 1), (1, 1), (3, 1), (4, 1), (5, 1)]);
    assert_eq!(dead.count().await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_order_a_failing_message_comes_again_behind_others() {
    let (connection, log) = (memory().await, Log::default());
    publish(&connection, &[("a", 7), ("a", 1), ("a", 2)]).await;
    let service = Service::new("ship", &connection).state(Arc::clone(&log)).on_with(
        "orders",
        policy().order(Order::Unordered).concurrency(1),
        unlucky,
    );
    run_for(service, Duration::from_secs(60)).await;
    assert_eq!(seen(&log, "a"), [(7, 1), (1, 1), (2, 1), (7, 2)]);
}

#[tokio::test(start_paused = true)]
async fn poison_and_panics_are_set_aside_at_once_and_the_rest_goes_on() {
    let (connection, log) = (memory().await, Log::default());
    let mint = connection.mint();
    let poison = ottla::Envelope::raw("order.paid", "{", mint).with_key("a");
    connection.send("orders", [poison]).await.unwrap();
    publish(&connection, &[("a", 66), ("a", 1)]).await;
    let service = Service::new("ship", &connection).state(Arc::clone(&log)).on_with(
        "orders",
        policy(),
        unlucky,
    );
    run_for(service, Duration::from_secs(60)).await;
    assert_eq!(seen(&log, "a"), [(66, 1), (1, 1)]);
    let letters = DeadLetters::new(&connection, "orders", "ship").look(10).await.unwrap();
    let reasons: Vec<_> = letters.iter().map(|letter| (letter.reason, letter.attempts)).collect();
    assert_eq!(reasons, [(Reason::Undecodable, 1), (Reason::Panicked, 1)]);
    assert_eq!(letters[1].cause, "a bug");
}

#[tokio::test(start_paused = true)]
async fn when_everything_fails_intake_pauses_instead_of_spending_attempts() {
    let connection = memory().await;
    let down = Arc::new(AtomicU32::new(1));
    let tried = Arc::new(AtomicU32::new(0));
    async fn call(
        Msg(_): Msg<Paid>,
        State((down, tried)): State<(Arc<AtomicU32>, Arc<AtomicU32>)>,
    ) -> Result<(), Failure> {
        tried.fetch_add(1, Ordering::SeqCst);
        if down.load(Ordering::SeqCst) == 1 { Err("the database is down".into()) } else { Ok(()) }
    }
    let messages: Vec<(String, u32)> = (0..200).map(|n| (format!("o-{n}"), n)).collect();
    let messages: Vec<(&str, u32)> = messages.iter().map(|(o, n)| (o.as_str(), *n)).collect();
    publish(&connection, &messages).await;
    let trip = Trip { window: 10, failed_percent: 90, pause: Duration::from_secs(60) };
    let service = Service::new("ship", &connection)
        .state((Arc::clone(&down), Arc::clone(&tried)))
        .on_with("orders", policy().trip(Some(trip)).concurrency(4), call);
    let health = service.health();
    let running = Running::begin(service);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let spent = tried.load(Ordering::SeqCst);
    assert!((10..=14).contains(&spent), "{spent} attempts before it paused");
    assert_eq!(health.look().await[0].condition, ottla::service::Condition::Paused);
    down.store(0, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(120)).await;
    let seen = health.look().await;
    assert_eq!((seen[0].handled, seen[0].dead), (200, 0));
    assert!(
        health
            .metrics()
            .await
            .contains("ottla_service_handled_total{service=\"ship\",source=\"orders\"} 200")
    );
    running.end().await;
    assert_eq!(health.look().await[0].lag, Some(0));
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_emits_belongs_to_the_story_and_is_the_same_at_each_attempt() {
    let connection = memory().await;
    async fn ship(
        Msg(paid): Msg<Paid>,
        Attempt(attempt): Attempt,
        emit: Emit,
    ) -> Result<(), Failure> {
        emit.send("parcels", &Sent { order: paid.order })?;
        if attempt == 1 { Err("after it emitted".into()) } else { Ok(()) }
    }
    let cause = ottla::Envelope::of(&paid("a", 1), connection.mint()).unwrap();
    connection.send("orders", [cause.clone(), cause.clone()]).await.unwrap(); // delivered twice
    let service = Service::new("ship", &connection).on_with("orders", policy(), ship);
    run_for(service, Duration::from_secs(60)).await;
    let mut feed = connection.subscribe(Subscription::all("parcels")).await.unwrap();
    let mut ids = Vec::new();
    while let Some(Ok(Incoming::Delivery(delivery))) = feed.next().await {
        let sent = &delivery.envelope;
        assert_eq!((sent.correlation, sent.causation), (cause.correlation, Some(cause.id)));
        ids.push(sent.id);
        delivery.ack();
    }
    assert_eq!(ids.len(), 2, "nothing of the failed attempts was published");
    assert_eq!(ids[0], ids[1], "an inbox recognises it");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_handlers_finish_and_gives_back_the_rest() {
    let (connection, log) = (memory().await, Log::default());
    async fn slow(Msg(paid): Msg<Paid>, Attempt(attempt): Attempt, State(log): State<Log>) {
        tokio::time::sleep(Duration::from_secs(5)).await;
        log.lock().unwrap().push((paid.order, paid.number, attempt));
    }
    let orders: Vec<String> = (0..10).map(|n| format!("o-{n}")).collect();
    let messages: Vec<(&str, u32)> = orders.iter().map(|order| (order.as_str(), 1)).collect();
    publish(&connection, &messages).await;
    let service = || {
        Service::new("ship", &connection).state(Arc::clone(&log)).on_with(
            "orders",
            policy().concurrency(3),
            slow,
        )
    };
    run_for(service(), Duration::from_secs(1)).await; // stopped in the middle of the first three
    assert_eq!(log.lock().unwrap().len(), 3);
    run_for(service(), Duration::from_secs(60)).await;
    let mut handled = log.lock().unwrap().clone();
    handled.sort();
    let expected: Vec<_> = orders.iter().map(|order| (order.clone(), 1, 1)).collect();
    assert_eq!(handled, expected, "each once, none counted as failed");
}
