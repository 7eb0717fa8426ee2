//! The outbox and its relay: nothing lost, nothing taken away before it is confirmed, order per key.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla::db::{Db, Dialect};
use ottla::outbox::{Outbox, Relay, RelayOptions, Sink};
use ottla::transport::BoxFuture;
use ottla::{Envelope, Error, Outgoing, Result, Timestamp, params};

use crate::support::{Chance, Fresh, rows, until};

/// A broker that keeps what it confirmed, and fails as it is told to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Broker {
    pub(crate) got: Arc<Mutex<Vec<Outgoing>>>,
    down: Arc<Mutex<HashSet<String>>>,
    refused: Arc<Mutex<HashSet<String>>>,
}

impl Broker {
    /// Whatever has this name cannot be published now.
    fn down(&self, name: &str) {
        self.down.lock().unwrap().insert(name.to_owned());
    }

    fn up(&self) {
        self.down.lock().unwrap().clear();
    }

    fn names(&self) -> Vec<String> {
        self.got.lock().unwrap().iter().map(|message| message.envelope.name.clone()).collect()
    }
}

impl Sink for Broker {
    fn publish<'a>(&'a mut self, batch: &'a [Outgoing]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for message in batch {
                let name = &message.envelope.name;
                if self.down.lock().unwrap().contains(name) {
                    let source = "connection refused".into();
                    return Err(Error::Unreachable {
                        address: "broker".into(),
                        source,
                        hint: String::new(),
                    });
                }
                if self.refused.lock().unwrap().contains(name) {
                    return Err(Error::Refused { doing: name.clone(), why: "too large".into() });
                }
                self.got.lock().unwrap().push(message.clone());
            }
            Ok(())
        })
    }
}

async fn put(db: &Db, outbox: &Outbox, key: &str, names: &[&str]) {
    let mut tx = db.begin().await.unwrap();
    for name in names {
        let message = Envelope::raw(*name, r#"{"n":1}"#, db.mint()).with_key(key);
        outbox.put(&mut tx, "orders", message).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn open(fresh: &Fresh, broker: &Broker) -> (Outbox, Relay<Broker>) {
    let outbox = Outbox::open(&fresh.db).await.unwrap();
    let relay = Relay::open(&fresh.db, broker.clone(), RelayOptions::default()).await.unwrap();
    (outbox, relay)
}

#[tokio::test]
async fn what_commits_is_published_as_it_was_and_what_rolls_back_is_not() {
    let (fresh, broker) = (Fresh::new().await, Broker::default());
    let (outbox, mut relay) = open(&fresh, &broker).await;
    let mint = fresh.db.mint();
    let cause = Envelope::raw("cause", "{}", mint);
    let message = Envelope::raw("blob", vec![0_u8, 255], mint)
        .with_key("k")
        .with_header("tenant", "7")
        .caused_by(&cause, mint);
    let mut tx = fresh.db.begin().await.unwrap();
    outbox.put(&mut tx, "queue:mail", message.clone()).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = fresh.db.begin().await.unwrap();
    outbox.put(&mut tx, "orders", Envelope::raw("never", "{}", mint)).await.unwrap();
    tx.rollback().await.unwrap();

    assert_eq!(relay.drain().await.unwrap().published, 1);
    let got = broker.got.lock().unwrap().clone();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].to, "queue:mail".into());
    assert_eq!(got[0].envelope, message);
    assert_eq!(outbox.depth().await.unwrap(), 0);
}

#[tokio::test]
async fn while_the_broker_is_down_everything_stays_and_then_goes_in_order() {
    let (fresh, broker) = (Fresh::new().await, Broker::default());
    let (outbox, mut relay) = open(&fresh, &broker).await;
    put(&fresh.db, &outbox, "k", &["a", "b", "c"]).await;
    broker.down("a");
    for _ in 0..5 {
        let round = relay.round().await.unwrap();
        assert_eq!((round.published, round.set_aside), (0, 0));
        assert_eq!(outbox.depth().await.unwrap(), 3);
    }
    broker.up();
    until("all are published", async || {
        relay.drain().await.unwrap().failed == 0 && outbox.depth().await.unwrap() == 0
    })
    .await;
    assert_eq!(broker.names(), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_key_that_cannot_be_published_now_holds_up_nobody_else_and_keeps_its_order() {
    let (fresh, broker) = (Fresh::new().await, Broker::default());
    let (outbox, mut relay) = open(&fresh, &broker).await;
    put(&fresh.db, &outbox, "stuck", &["s1", "s2"]).await;
    put(&fresh.db, &outbox, "other", &["o1", "o2"]).await;
    broker.down("s1");
    until("the other key is published", async || {
        relay.round().await.unwrap();
        outbox.depth().await.unwrap() == 2
    })
    .await;
    assert!(!broker.names().contains(&"s2".to_owned()), "s2 overtook s1");
    broker.up();
    until("all are published", async || {
        relay.round().await.unwrap();
        outbox.depth().await.unwrap() == 0
    })
    .await;
    let stuck: Vec<_> = broker.names().into_iter().filter(|name| name.starts_with('s')).collect();
    assert_eq!(stuck, ["s1", "s2"]);
}

#[tokio::test]
async fn a_row_that_never_can_be_published_is_set_aside_with_its_reason() {
    let (fresh, broker) = (Fresh::new().await, Broker::default());
    let (outbox, mut relay) = open(&fresh, &broker).await;
    put(&fresh.db, &outbox, "k", &["good", "poison", "after"]).await;
    fresh.script("INSERT INTO outbox (aggregate_id, event_type, payload, destination) VALUES ('k', 'lost', '{}', NULL)").await;
    broker.refused.lock().unwrap().insert("poison".to_owned());
    let round = relay.drain().await.unwrap();
    assert_eq!((outbox.depth().await.unwrap(), round.set_aside), (0, 2));
    let names = broker.names();
    assert_eq!(names.iter().filter(|name| *name == "after").count(), 1);
    let sql = "SELECT event_type, reason FROM ottla_outbox_dead ORDER BY row_id";
    let dead = fresh.db.query(sql, &[]).await.unwrap();
    assert_eq!(dead[0].get::<String>(0).unwrap(), "poison");
    assert!(dead[0].get::<String>(1).unwrap().contains("too large"));
    assert!(dead[1].get::<String>(1).unwrap().contains("--address"));
}

#[tokio::test]
async fn a_message_that_is_due_later_waits() {
    let (fresh, broker) = (Fresh::new().await, Broker::default());
    let (outbox, mut relay) = open(&fresh, &broker).await;
    let envelope = Envelope::raw("reminder", "{}", fresh.db.mint());
    let delay = Some(Duration::from_millis(80));
    let mut tx = fresh.db.begin().await.unwrap();
    outbox.send(&mut tx, &Outgoing { to: "mail".into(), envelope, delay }).await.unwrap();
    tx.commit().await.unwrap();
    let before = fresh.db.mint().now();
    assert_eq!(relay.drain().await.unwrap().published, 0);
    until("it is due", async || relay.drain().await.unwrap().published == 1).await;
    assert!(fresh.db.mint().now().since(before) >= Duration::from_millis(70));
}

#[tokio::test]
async fn a_dead_owner_is_followed_by_another_and_loses_nothing() {
    let (fresh, broker) = (Fresh::new().await, Broker::default());
    let outbox = Outbox::open(&fresh.db).await.unwrap();
    let options = || {
        let mut options = RelayOptions::default();
        options.lease = Duration::from_millis(300);
        options
    };
    let mut first = Relay::open(&fresh.db, broker.clone(), options()).await.unwrap();
    let mut second = Relay::open(&fresh.again().await, broker.clone(), options()).await.unwrap();
    put(&fresh.db, &outbox, "k", &["a"]).await;
    assert_eq!(first.round().await.unwrap().published, 1);
    put(&fresh.db, &outbox, "k", &["b"]).await;
    assert!(second.round().await.unwrap().elsewhere, "the first has it");
    drop(first); // dies without a word
    until("the second takes over", async || second.round().await.unwrap().published == 1).await;
    assert_eq!(broker.names(), ["a", "b"]);
}

/// The gap test: 16 writers that hold their transactions, some rolled back, a relay beside them. Each row
/// carries the number of its key, drawn under the lock of the key's own row, as an aggregate's version is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_writers_lose_no_message_and_no_key_is_reordered() {
    const WRITERS: u64 = 16;
    const KEYS: u64 = 32;
    let (fresh, broker) = (Fresh::new().await, Broker::default());
    let (outbox, mut relay) = open(&fresh, &broker).await;
    fresh.script("CREATE TABLE aggregate (id BIGINT PRIMARY KEY, n BIGINT NOT NULL); CREATE TABLE scratch (n BIGINT)").await;
    for key in 0..KEYS {
        fresh.script(&format!("INSERT INTO aggregate VALUES ({key}, 0)")).await;
    }
    let each = rows(3_200) / WRITERS;
    let hold = fresh.db.dialect() == Dialect::Postgres;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let relaying = tokio::spawn(async move {
        relay.run(async { drop(stopped.await) }).await.unwrap();
        relay
    });
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (db, outbox) = (fresh.db.clone(), outbox.clone());
            tokio::spawn(async move {
                let (mut chance, mut committed) = (Chance::new(writer + 1), 0);
                while committed < each {
                    let many = 1 + chance.below(5).min(each - committed - 1);
                    let mut tx = db.begin().await.unwrap();
                    if chance.below(2) == 0 {
                        tx.exec("INSERT INTO scratch VALUES (1)", &[]).await.unwrap();
                    }
                    let key = i64::try_from(chance.below(KEYS)).unwrap();
                    for _ in 0..many {
                        let next = "UPDATE aggregate SET n = n + 1 WHERE id = $1 RETURNING n";
                        let n: i64 = tx.one(next, &params![key]).await.unwrap().get(0).unwrap();
                        let message = Envelope::raw("step", n.to_string(), db.mint())
                            .with_key(key.to_string());
                        outbox.put(&mut tx, "steps", message).await.unwrap();
                    }
                    if hold && chance.below(8) == 0 {
                        tx.flush().await.unwrap();
                        tokio::time::sleep(Duration::from_millis(chance.below(15))).await;
                    }
                    if chance.below(20) == 0 {
                        tx.rollback().await.unwrap();
                    } else {
                        tx.commit().await.unwrap();
                        committed += many;
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    until("all are relayed", async || outbox.depth().await.unwrap() == 0).await;
    stop.send(()).unwrap();
    relaying.await.unwrap();

    let got = broker.got.lock().unwrap().clone();
    assert_eq!(u64::try_from(got.len()).unwrap(), each * WRITERS);
    let mut last = HashMap::new();
    for message in &got {
        let n: u64 = std::str::from_utf8(&message.envelope.body).unwrap().parse().unwrap();
        let before = last.insert(message.envelope.key.clone(), n).unwrap_or(0);
        assert_eq!(n, before + 1, "of {:?}", message.envelope.key);
    }
    assert_eq!(
        got.iter().map(|message| message.envelope.id).collect::<HashSet<_>>().len(),
        got.len()
    );
    assert!(got[0].envelope.time > Timestamp(0));
}
