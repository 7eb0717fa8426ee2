//! A service goes on by itself when its broker is killed and comes back. `RECONNECT_BINARY` names the broker's
//! program, which the suite `reconnect-ottla` builds.
#![cfg(any(feature = "kafka", feature = "amqp"))]
#![expect(clippy::unwrap_used, reason = "a test may stop here")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla::handler::{Msg, State};
use ottla::policy::Policy;
use ottla::service::Health;
use ottla::{Connection, Envelope, Message, Service};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

#[derive(Clone, Debug, Serialize, Deserialize, Message)]
#[message(name = "order.paid", key = "order")]
struct Paid {
    order: String,
    number: u32,
}

const IN_FLIGHT: u32 = 32;

/// How often each message was handled.
type Handled = Arc<Mutex<BTreeMap<u32, u32>>>;

async fn count(Msg(paid): Msg<Paid>, State(handled): State<Handled>) {
    *handled.lock().unwrap().entry(paid.number).or_default() += 1;
}

/// A served Ottla that can be killed and started again, with its data and its ports.
struct Broker {
    folder: PathBuf,
    ports: [u16; 2],
    process: Option<Child>,
}

impl Broker {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ottla-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = free.map(|listener| listener.local_addr().unwrap().port());
        Self { folder, ports, process: None }
    }

    async fn start(&mut self, binary: &str) {
        let ready = self.folder.join("ready");
        drop(std::fs::remove_file(&ready));
        let [kafka, amqp] = self.ports.map(|port| format!("127.0.0.1:{port}"));
        let mut command = Command::new(binary);
        command.arg("serve").arg("--data").arg(self.folder.join("data"));
        command.args(["--http", "off", "--kafka", &kafka, "--amqp", &amqp]);
        command.arg("--ready-file").arg(&ready).stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        until("the broker is ready", async || ready.exists()).await;
    }

    fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..4_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    panic!("not within two minutes: {what}");
}

/// Publishes until it is confirmed, with one id.
async fn publish(connection: &Connection, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let paid = Paid { order: format!("order-{}", number % 7), number };
        let envelope = Envelope::of(&paid, connection.mint()).unwrap();
        while connection.send("orders", [envelope.clone()]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn settled(connection: &Connection) {
    until("everything is settled", async || {
        connection.depth("orders", "audit").await.is_ok_and(|depth| depth == 0)
    })
    .await;
}

/// `unconfirmed`: how many of the messages that were acknowledged last may come again.
async fn goes_on(name: &str, unconfirmed: usize, line: impl Fn([u16; 2]) -> String) {
    let Ok(binary) = std::env::var("RECONNECT_BINARY") else { return };
    let mut broker = Broker::new(name);
    broker.start(&binary).await;
    let connection = Connection::open(&line(broker.ports)).await.unwrap();
    let handled = Handled::default();
    let policy = Policy::default().in_flight(IN_FLIGHT);
    let service = Service::new("audit", &connection)
        .state(Arc::clone(&handled))
        .on_with("orders", policy, count);
    let health: Health = service.health();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(service.run(async { drop(stopped.await) }));
    until("the service listens", async || health.is_ready()).await;
    let seen = || handled.lock().unwrap().len();

    publish(&connection, 0..100).await;
    until("a hundred are handled", async || seen() == 100).await;
    settled(&connection).await;
    broker.kill(); // with nothing in flight: what was settled stays settled
    broker.start(&binary).await;

    let again = connection.clone();
    let publishing = tokio::spawn(async move { publish(&again, 100..400).await });
    until("it works again", async || seen() >= 200).await;
    broker.kill(); // in the middle: of publishing, of handling, of settling
    tokio::time::sleep(Duration::from_millis(300)).await; // an outage is not a blink
    broker.start(&binary).await;
    publishing.await.unwrap();
    until("all are handled", async || seen() == 400).await;
    settled(&connection).await;

    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    let handled = handled.lock().unwrap();
    let twice = |from, to| handled.range(from..to).filter(|(_, times)| **times > 1).count();
    let again = twice(0, 100);
    assert!(again <= unconfirmed, "what was settled before the first kill came again: {handled:?}");
    assert!(twice(100, 400) < 300, "not everything comes twice");
}

#[cfg(feature = "kafka")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_kafka_a_service_goes_on_when_its_broker_comes_back() {
    goes_on("kafka", 0, |[kafka, _]| format!("kafka://127.0.0.1:{kafka}")).await;
}

#[cfg(feature = "amqp")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_amqp_a_service_goes_on_when_its_broker_comes_back() {
    // Nobody confirms an acknowledgement, and a queue's depth does not count what is with its consumers.
    let unconfirmed = usize::try_from(IN_FLIGHT).unwrap();
    goes_on("amqp", unconfirmed, |[_, amqp]| format!("amqp://guest:guest@127.0.0.1:{amqp}/%2f"))
        .await;
}
