//! `ottla dead-letters`: an operator finds out why messages were given up, and sends back the right ones.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use ottla::transport::Subscription;
use ottla::{Connection, Envelope, Incoming, Reason, Settle};
use serde_json::Value;

fn ottla(line: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    command.arg("dead-letters").args(arguments).args(["--at", line]).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn json(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", told(output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Three orders and an invoice that the service `ship` gave up, for two reasons.
async fn give_up(line: &str) {
    let connection = Connection::open(line).await.unwrap();
    for (number, name) in (0..).zip(["order.paid", "order.paid", "invoice", "order.paid"]) {
        let envelope = Envelope::raw(name, format!("{{\"number\":{number}}}"), connection.mint());
        let envelope = envelope.with_key(format!("key-{number}"));
        connection.send("queue:orders", [envelope]).await.unwrap();
    }
    let mut feed = connection.subscribe(Subscription::new("queue:orders", "ship")).await.unwrap();
    for number in 0..4 {
        let Some(Ok(Incoming::Delivery(delivery))) = feed.next().await else { panic!("ended") };
        let reason = if number == 0 { Reason::Permanent } else { Reason::Exhausted };
        let cause = format!("no street\nstack trace {number}");
        delivery.settle(Settle::Dead { reason, cause }).await.unwrap();
    }
    feed.close().await.unwrap();
    connection.close().await.unwrap();
}

async fn left(line: &str) -> (u64, u64) {
    let connection = Connection::open(line).await.unwrap();
    let depth = async |at: &str| connection.depth(at, "ship").await.unwrap();
    let found = (depth("queue:orders").await, depth("queue:orders.dead").await);
    connection.close().await.unwrap();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_finds_the_cause_and_sends_back_what_was_asked_for() {
    let folder = std::env::temp_dir().join(format!("ottla-letters-{}", std::process::id()));
    let line = format!("ottla://embedded?data={}", folder.display());
    give_up(&line).await;
    let place = ["queue:orders", "ship"];
    let run = |verb: &str, more: &[&str]| {
        let arguments: Vec<&str> = [verb].into_iter().chain(place).chain(more.to_vec()).collect();
        ottla(&line, &arguments)
    };

    let listed = told(&run("list", &[]));
    assert_eq!(listed.lines().count(), 5, "{listed}");
    assert!(listed.contains("permanent") && listed.contains("no street"), "{listed}");
    assert!(!listed.contains("stack trace"), "one line each: {listed}");

    let exhausted = ["--type", "order.paid", "--reason", "exhausted", "--json"];
    let found = json(&run("list", &exhausted));
    let keys: Vec<&Value> = found.iter().map(|letter| &letter["key"]).collect();
    assert_eq!(keys, ["key-1", "key-3"]);
    let id = found[0]["id"].as_str().unwrap();
    let shown = told(&run("show", &[id]));
    assert!(shown.contains("{\"number\":1}") && shown.contains("stack trace 1"), "{shown}");
    let unknown = run("show", &["00000000-0000-0000-0000-000000000000"]);
    assert_eq!(unknown.status.code(), Some(66), "{}", told(&unknown));

    let preview = [&exhausted[..], &["--limit", "1", "--preview"]].concat();
    assert_eq!(json(&run("redrive", &preview)).len(), 1);
    assert_eq!(left(&line).await, (0, 4), "a preview moves nothing");

    let sent = json(&run("redrive", &[&exhausted[..], &["--rate", "20"]].concat()));
    assert_eq!((&sent[0]["sent"], &sent[0]["stayed"]), (&2.into(), &2.into()));
    assert_eq!(left(&line).await, (2, 2));
    let rest = json(&run("list", &["--json"]));
    let rest: Vec<&Value> = rest.iter().map(|letter| &letter["key"]).collect();
    assert_eq!(rest, ["key-0", "key-2"]);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn misuse_is_told_with_what_to_do() {
    let wrong = ottla("memory:", &["redrive", "orders", "ship", "--reason", "bored"]);
    assert_eq!(wrong.status.code(), Some(64), "{}", told(&wrong));
    assert!(told(&wrong).contains("exhausted"), "{}", told(&wrong));
    let nowhere = ottla("nowhere", &["list", "orders", "ship"]);
    assert_eq!(nowhere.status.code(), Some(64), "{}", told(&nowhere));
    if !cfg!(feature = "kafka") {
        let lacking = ottla("kafka://127.0.0.1:1", &["list", "orders", "ship"]);
        assert_eq!(lacking.status.code(), Some(64), "{}", told(&lacking));
        assert!(told(&lacking).contains("--features kafka"), "{}", told(&lacking));
    }
}
