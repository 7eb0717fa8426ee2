//! `ottla tour`: the main job in ten lines, the broker's sudden death included.

use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use clap::Command;
use ottla_client::Cluster;
use ottla_engine::batch::split;
use ottla_engine::records::Records;

use crate::exit::{Code, Failure};
use crate::kafka::{failure, unexpected};
use crate::produce::{Outgoing, Producer};

pub(crate) fn command() -> Command {
    Command::new("tour").about("Shows the main job: write, read, kill -9, and nothing is missing")
}

pub(crate) fn run() -> Result<(), Failure> {
    let mut tour = Tour::new()?;
    let outcome = tour.walk();
    tour.clean_up();
    outcome
}

struct Tour {
    directory: PathBuf,
    broker: Option<Child>,
    line: u32,
}

impl Tour {
    fn new() -> Result<Self, Failure> {
        let name = format!("ottla-tour-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory)
            .map_err(|error| Failure::new(Code::CantCreate, error))?;
        Ok(Self { directory, broker: None, line: 0 })
    }

    fn walk(&mut self) -> Result<(), Failure> {
        let begun = clock();
        let address = self.start()?;
        self.say(begun, &format!("started a broker for Kafka clients on {address}"));
        let begun = clock();
        let mut cluster = Cluster::connect(&address).map_err(failure)?;
        let topic = cluster.topic(TOPIC, true).map_err(failure)?;
        self.say(begun, &format!("asked for topic {TOPIC}: it was made at once"));
        let begun = clock();
        let mut producer = Producer::new(cluster, topic);
        for number in 0..ORDERS {
            let value = Some(order(number).into_bytes());
            producer.push(Outgoing { value, ..Outgoing::default() })?;
        }
        producer.flush()?;
        self.say(
            begun,
            &format!("wrote {ORDERS} orders; each is on disk before it is acknowledged"),
        );
        let begun = clock();
        check(&read_all(&address)?)?;
        self.say(begun, &format!("read {ORDERS} orders back, in order"));
        let begun = clock();
        self.kill()?;
        self.say(begun, "killed the broker with SIGKILL: no goodbye, no flush");
        let begun = clock();
        let address = self.start()?;
        self.say(begun, &format!("started it again on the same data, now on {address}"));
        let begun = clock();
        check(&read_all(&address)?)?;
        self.say(begun, &format!("all {ORDERS} orders are there, in order: nothing was lost"));
        by_hand();
        Ok(())
    }

    fn say(&mut self, begun: Instant, what: &str) {
        self.line += 1;
        let elapsed = begun.elapsed();
        eprintln!("{:>2}. {what} ({:.1} ms)", self.line, elapsed.as_secs_f64() * 1e3);
    }

    /// Starts `ottla serve` on a free port and waits until it is ready.
    fn start(&mut self) -> Result<String, Failure> {
        let ready = self.directory.join("ready.json");
        if ready.exists() {
            std::fs::remove_file(&ready).map_err(|error| Failure::new(Code::Io, error))?;
        }
        let program = std::env::current_exe().map_err(|error| Failure::new(Code::Io, error))?;
        let child = Process::new(program)
            .arg("serve")
            .args(["--kafka", "127.0.0.1:0", "--amqp", "off", "--http", "off"])
            .arg("--data")
            .arg(self.directory.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .env("OTTLA_LOG", "warn")
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Failure::new(Code::Io, error))?;
        self.broker = Some(child);
        self.wait_until_ready(&ready)
    }

    fn wait_until_ready(&mut self, ready: &Path) -> Result<String, Failure> {
        let begun = clock();
        while begun.elapsed() < START_TIMEOUT {
            if let Ok(text) = std::fs::read_to_string(ready) {
                let parsed: serde_json::Value =
                    serde_json::from_str(&text).map_err(|error| Failure::new(Code::Io, error))?;
                let address = parsed.pointer("/kafka/0").and_then(serde_json::Value::as_str);
                return address.map(str::to_owned).ok_or_else(unexpected);
            }
            if let Some(child) = &mut self.broker
                && let Ok(Some(status)) = child.try_wait()
            {
                let what = format!("the broker ended at once: {status}");
                return Err(Failure::new(Code::Unavailable, what));
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        Err(Failure::new(Code::Unavailable, "the broker was not ready in time"))
    }

    fn kill(&mut self) -> Result<(), Failure> {
        if let Some(mut child) = self.broker.take() {
            child
                .kill()
                .and_then(|()| child.wait())
                .map_err(|error| Failure::new(Code::Io, error))?;
        }
        Ok(())
    }

    fn clean_up(&mut self) {
        if let Err(failed) = self.kill() {
            failed.report();
        }
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            eprintln!("{} is left behind: {error}", self.directory.display());
        }
    }
}

fn order(number: usize) -> String {
    format!("{{\"order\": {number}}}")
}

fn read_all(address: &str) -> Result<Vec<String>, Failure> {
    let mut cluster = Cluster::connect(address).map_err(failure)?;
    let topic = cluster.topic(TOPIC, false).map_err(failure)?;
    let mut values = Vec::new();
    let mut next = 0;
    loop {
        let answer = crate::consume::fetch_once(&mut cluster, &topic, 0, next)?;
        let before = next;
        for batch in split(answer) {
            let Ok(batch) = batch else { break };
            let records = Records::open(&batch).map_err(|error| Failure::new(Code::Data, error))?;
            for record in records.iter() {
                let record = record.map_err(|error| Failure::new(Code::Data, error))?;
                let value = record.value.unwrap_or_default();
                values.push(String::from_utf8_lossy(value).into_owned());
            }
            next = records.header().next_offset().0;
        }
        if next == before {
            return Ok(values);
        }
    }
}

fn check(values: &[String]) -> Result<(), Failure> {
    let expected = (0..ORDERS).map(order);
    if values.len() == ORDERS && values.iter().cloned().eq(expected) {
        return Ok(());
    }
    let what = format!("expected {ORDERS} orders in order and found {} records", values.len());
    Err(Failure::new(Code::Data, what))
}

/// The same by hand, with what people have.
fn by_hand() {
    eprintln!(
        "
by hand, in another terminal:
  ottla serve                                     data in ./ottla-data, Kafka on 127.0.0.1:9092
  seq 1000 | ottla produce orders
  ottla consume orders --last 3
  kcat -b 127.0.0.1:9092 -C -t orders -e -q | tail -3
  python3 -m venv venv && venv/bin/pip install confluent-kafka
  venv/bin/python -c \"from confluent_kafka import Producer as P; p = P({{'bootstrap.servers': '127.0.0.1:9092'}}); p.produce('orders', b'hello'); print(p.flush(9))\""
    );
}

#[expect(clippy::disallowed_methods, reason = "the tour shows a person how long things take")]
fn clock() -> Instant {
    Instant::now()
}

const TOPIC: &str = "orders";
const ORDERS: usize = 1000;
const START_TIMEOUT: Duration = Duration::from_secs(10);
