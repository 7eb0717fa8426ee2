//! A storm of poison: of a flood of messages every hundredth cannot be decoded. Exactly those end among the
//! dead letters, each once, and everything else is handled once. What it costs is told, and judged by nobody:
//! `docs/bench` has the figures. `CONFORMANCE_AT` names one more broker, as for the conformance suite.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test may stop here, and say why"
)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ottla::dead_letters::DeadLetters;
use ottla::handler::{Msg, State};
use ottla::transport::Subscription;
use ottla::{Connection, Envelope, Message, Reason, Service, Uuid};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

#[derive(Serialize, Deserialize, Message)]
#[message(name = "meter.read", key = "meter")]
struct Read {
    meter: String,
    number: usize,
}

type Handled = Arc<Mutex<Vec<usize>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory_exactly_the_poison_is_set_aside() {
    storm("memory", &Connection::open("memory:").await.unwrap(), 5_000).await;
}

#[cfg(feature = "embedded")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_embedded_broker_exactly_the_poison_is_set_aside() {
    let data = std::env::temp_dir().join(format!("ottla-storm-{}", std::process::id()));
    let line = format!("ottla://embedded?data={}", data.display());
    let connection = Connection::open(&line).await.unwrap();
    storm("embedded", &connection, 3_000).await;
    connection.close().await.unwrap();
    std::fs::remove_dir_all(data).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_broker_named_by_the_environment_exactly_the_poison_is_set_aside() {
    let Ok(line) = std::env::var("CONFORMANCE_AT") else { return };
    storm(&line, &Connection::open(&line).await.unwrap(), 3_000).await;
}

async fn storm(broker: &str, connection: &Connection, messages: usize) {
    let clean = flood(connection, messages, None).await;
    let poisoned = flood(connection, messages, Some(100)).await;
    let ratio = 100.0 * clean.as_secs_f64() / poisoned.as_secs_f64();
    eprintln!(
        "{broker}: {messages} messages in {clean:?}, with 1 % poison in {poisoned:?}: {ratio:.0} %"
    );
}

/// How long a service needs for a flood that waits for it.
async fn flood(connection: &Connection, messages: usize, poison: Option<usize>) -> Duration {
    let topic = format!("storm.{}", connection.mint().id().simple());
    let first = Subscription::new(topic.as_str(), "readers"); // who does not replay keeps them from here on
    connection.subscribe(first).await.unwrap().close().await.unwrap();
    let mut bad = BTreeSet::new();
    let flood: Vec<Envelope> = (0..messages)
        .map(|number| {
            let meter = format!("meter-{}", number % 16);
            let envelope = Envelope::of(&Read { meter, number }, connection.mint()).unwrap();
            if poison.is_none_or(|every| number % every != every / 2) {
                return envelope;
            }
            bad.insert(envelope.id);
            Envelope { body: "{\"meter\":".into(), ..envelope }
        })
        .collect();
    for batch in flood.chunks(500) {
        connection.send(topic.as_str(), batch.iter().cloned()).await.unwrap();
    }

    let handled = Handled::default();
    let service =
        Service::new("readers", connection).state(Arc::clone(&handled)).on(topic.as_str(), take);
    let health = service.health();
    let (stop, stopped) = oneshot::channel::<()>();
    let began = Instant::now();
    let running = tokio::spawn(service.run(async { drop(stopped.await) }));
    let all = u64::try_from(messages).unwrap();
    let over = tokio::time::timeout(PATIENCE, async {
        while health.look().await.iter().map(|source| source.handled + source.dead).sum::<u64>()
            < all
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    over.await.expect("everything is handled or set aside");
    let took = began.elapsed();
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();

    let dead = DeadLetters::new(connection, topic.as_str(), "readers");
    assert_eq!(dead.count().await.unwrap(), u64::try_from(bad.len()).unwrap(), "dead letters");
    let letters = dead.look(u32::try_from(messages).unwrap()).await.unwrap();
    assert!(letters.iter().all(|letter| letter.reason == Reason::Undecodable));
    let found: BTreeSet<Uuid> = letters.iter().map(|letter| letter.envelope.id).collect();
    assert_eq!((found.len(), found), (letters.len(), bad), "each of the poison, once");
    let mut handled = handled.lock().unwrap().clone();
    handled.sort_unstable();
    let good = |number: &usize| poison.is_none_or(|every| number % every != every / 2);
    assert!(handled.into_iter().eq((0..messages).filter(good)), "each of the others, once");
    took
}

async fn take(Msg(read): Msg<Read>, State(handled): State<Handled>) {
    handled.lock().unwrap().push(read.number);
}

const PATIENCE: Duration = Duration::from_secs(120);
