//! `ottla topic`, `ottla produce`, `ottla consume` and `ottla tour`, as a person types them.

use std::process::Stdio;
use std::time::Duration;

use crate::rig::{Broker, Scratch, clock, feed, ottla, run, told, within};

#[test]
fn lines_go_in_and_come_out_in_order() {
    let broker = Broker::start();
    let orders: String = (1..=100).map(|number| format!("order {number}\n")).collect();
    feed(&mut broker.command(&["produce", "orders"]), &orders).ok();
    assert_eq!(run(&mut broker.command(&["consume", "orders"])).ok(), orders);
}

#[test]
fn a_reader_chooses_where_to_begin_and_when_to_stop() {
    let broker = Broker::start();
    feed(&mut broker.command(&["produce", "t"]), "a\nb\nc\nd\n").ok();
    let read = |arguments: &[&str]| {
        run(&mut broker.command(&[&["consume", "t"], arguments].concat())).ok()
    };
    assert_eq!(read(&["--from", "2"]), "c\nd\n");
    assert_eq!(read(&["--from", "earliest", "--count", "2"]), "a\nb\n");
    assert_eq!(read(&["--from", "latest"]), "");
    assert_eq!(read(&["--last", "1"]), "d\n");
    assert_eq!(read(&["--last", "99"]), "a\nb\nc\nd\n");
    assert_eq!(read(&["--since", "0"]), "a\nb\nc\nd\n");
    assert_eq!(read(&["--since", "99999999999999"]), "");
}

#[test]
fn keys_headers_and_tombstones_survive_the_way_through() {
    let broker = Broker::start();
    let records = [
        r#"{"key": "k1", "value": "v1", "headers": {"trace": "7f"}}"#,
        r#"{"key": "k1", "value": null}"#,
        r#"{"value": {"nested": true}, "partition": 0}"#,
    ];
    feed(&mut broker.command(&["produce", "t", "--json"]), &records.join("\n")).ok();
    let out = run(&mut broker.command(&["consume", "t", "--json"])).ok();
    let read: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read.len(), 3);
    assert_eq!((&read[0]["key"], &read[0]["value"]), (&"k1".into(), &"v1".into()));
    assert_eq!(read[0]["headers"][0]["name"], "trace");
    assert_eq!(read[0]["headers"][0]["value"], "7f");
    assert_eq!(read[1]["value"], serde_json::Value::Null);
    assert_eq!(read[2]["value"], r#"{"nested":true}"#);
    assert_eq!(read[2]["offset"], 2);
}

#[test]
fn keys_may_stand_in_the_line_and_keep_their_partition() {
    let broker = Broker::start();
    run(&mut broker.command(&["topic", "create", "keyed", "--partitions", "4"])).ok();
    let lines: String = (0..40).map(|number| format!("k{}:{number}\n", number % 4)).collect();
    feed(&mut broker.command(&["produce", "keyed", "-K", ":"]), &lines).ok();
    let out = run(&mut broker.command(&["consume", "keyed", "--json"])).ok();
    let mut home = std::collections::HashMap::new();
    for line in out.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let key = record["key"].as_str().unwrap().to_owned();
        let partition = record["partition"].clone();
        let first = home.entry(key).or_insert(partition.clone());
        assert_eq!(*first, partition, "a key stays in its partition");
    }
    assert_eq!((out.lines().count(), home.len()), (40, 4));
    let shown = run(&mut broker.command(&["consume", "keyed", "--headers", "--count", "1"])).ok();
    assert_eq!(shown.split('\t').count(), 3, "key, headers, value: {shown}");
}

#[test]
fn a_follower_sees_what_is_written_while_it_waits() {
    let broker = Broker::start();
    feed(&mut broker.command(&["produce", "live"]), "before\n").ok();
    let mut follower = broker.command(&["consume", "live", "--follow", "--count", "3"]);
    follower.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let follower = follower.spawn().unwrap();
    feed(&mut broker.command(&["produce", "live"]), "while\nafter\n").ok();
    let out = told(follower.wait_with_output().unwrap()).ok();
    assert_eq!(out, "before\nwhile\nafter\n");
}

#[test]
fn a_topic_is_made_shown_changed_and_deleted() {
    let broker = Broker::start();
    let topic = |arguments: &[&str]| run(&mut broker.command(&[&["topic"], arguments].concat()));
    topic(&["create", "orders", "--partitions", "3", "--config", "retention.ms=60000"]).ok();
    let listed = topic(&["list"]).ok();
    assert!(
        listed.lines().any(|line| line.starts_with("orders") && line.contains('3')),
        "{listed}"
    );
    let described = topic(&["describe", "orders"]).ok();
    assert!(described.contains("retention.ms") && described.contains("60000"), "{described}");
    topic(&["alter", "orders", "--partitions", "5", "--config", "cleanup.policy=compact"]).ok();
    let described = topic(&["describe", "orders", "--json"]).ok();
    let described: serde_json::Value = serde_json::from_str(&described).unwrap();
    assert!(described.to_string().contains("compact"), "{described}");
    topic(&["create", "orders"]).failed(65, &["already exists"]);
    topic(&["create", "bad/name"]).failed(65, &["bad/name"]);
    topic(&["alter", "orders", "--partitions", "2"]).failed(65, &["orders"]);
    topic(&["delete", "orders"]).ok();
    topic(&["delete", "orders"]).failed(65, &["orders"]);
    assert!(!topic(&["list"]).ok().contains("orders"));
}

#[test]
fn failures_say_what_to_do() {
    let scratch = Scratch::new();
    let nobody = ["consume", "t", "--bootstrap", "127.0.0.1:1"];
    run(&mut ottla(&scratch, &nobody)).failed(69, &["127.0.0.1:1", "ottla serve", "--bootstrap"]);
    let broker = Broker::start();
    run(&mut broker.command(&["consume", "missing"])).failed(65, &["missing"]);
    feed(&mut broker.command(&["produce", "t", "--json"]), "not json\n").failed(65, &["no record"]);
    let elsewhere = feed(&mut broker.command(&["produce", "t", "-p", "9"]), "x\n");
    elsewhere.failed(64, &["none is number 9"]);
    run(&mut broker.command(&["consume", "t", "--from", "noon"])).failed(64, &["noon"]);
}

#[test]
fn the_log_of_one_run_is_there_in_the_next() {
    let broker = Broker::start();
    feed(&mut broker.command(&["produce", "kept"]), "one\n").ok();
    let broker = Broker::on(broker.into_scratch(), &[]);
    feed(&mut broker.command(&["produce", "kept"]), "two\n").ok();
    assert_eq!(run(&mut broker.command(&["consume", "kept"])).ok(), "one\ntwo\n");
}

#[test]
fn the_tour_ends_well_within_ten_seconds_and_leaves_nothing() {
    let scratch = Scratch::new();
    let begun = clock();
    let told = run(ottla(&scratch, &["tour"]).env("TMPDIR", scratch.path()));
    let took = begun.elapsed();
    assert!(told.err.contains("nothing was lost"), "{}", told.err);
    assert!(told.err.contains("by hand"), "it ends with what to type next: {}", told.err);
    told.ok();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let left = within(Duration::from_secs(1), || std::fs::read_dir(scratch.path()).ok()).count();
    assert_eq!(left, 0, "files left behind");
}

#[test]
fn the_demo_adds_up_on_either_broker_and_leaves_nothing() {
    let scratch = Scratch::new();
    for arguments in [&["demo"][..], &["demo", "--on", "memory:"]] {
        let told = run(ottla(&scratch, arguments).env("TMPDIR", scratch.path()));
        let proofs = told.out.lines().filter(|line| line.starts_with("ok ")).count();
        assert_eq!(proofs, 4, "{}{}", told.out, told.err);
        assert!(told.out.contains("stateDiagram-v2"), "{}", told.out);
        told.ok();
    }
    let left = std::fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(left, 0, "files left behind");
}
