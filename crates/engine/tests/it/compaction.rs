//! Compacted topics: the last value of each key stays, of committed data, across restarts.

use std::collections::BTreeMap;

use ottla_engine::batch::{BatchBuilder, BatchRules, PreparedBatch, RecordDraft};
use ottla_engine::codec::Codec;
use ottla_engine::topic::Isolation;
use ottla_engine::txn::Outcome;
use ottla_engine::txn::coordinator::{EndRequest, EndVersion, Identity, InitRequest};
use ottla_engine::{NewTopic, Offset, Writer};

use crate::rig::Rig;

const START_MS: i64 = 1_700_000_000_000;

fn topic(rig: &Rig) {
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1048576"),
        ("delete.retention.ms", "60000"),
        ("min.cleanable.dirty.ratio", "0.1"),
    ];
    let overrides = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let new = NewTopic { name: "state".to_owned(), partitions: Some(1), overrides };
    rig.engine.create_topic(&new).unwrap();
    rig.sync();
}

fn keyed(key: &str, value: Option<&str>, writer: Option<(Identity, i32)>) -> PreparedBatch {
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some((who, sequence)) = writer {
        builder = builder.producer(who.producer.0, who.epoch.0, sequence).transactional();
    }
    let (key, value) = (Some(key.as_bytes()), value.map(str::as_bytes));
    builder.push(&RecordDraft { timestamp_ms: START_MS, key, value, headers: &[] });
    let bytes = builder.build().to_bytes(Offset::ZERO);
    PreparedBatch::check(bytes, &BatchRules::default(), START_MS).unwrap()
}

fn put(rig: &Rig, key: &str, value: Option<&str>) {
    let now = rig.engine.now();
    rig.engine.produce(&rig.partition("state"), keyed(key, value, None), now).unwrap();
}

/// Three mebibytes of changes of one key.
fn churn(rig: &Rig) {
    for n in 0..320 {
        put(rig, "busy", Some(&format!("{n} {}", "x".repeat(10_000))));
        rig.keep();
    }
}

fn compact(rig: &Rig) {
    rig.elapse(15_000);
    while rig.engine.compact_next().unwrap() {}
    rig.keep();
}

/// All records that a reader of committed data goes through.
fn records(rig: &Rig) -> usize {
    rig.read(&rig.partition("state"), 0, Isolation::ReadUncommitted).len()
}

fn size(rig: &Rig) -> u64 {
    rig.engine.store().size(rig.partition("state").stream())
}

#[test]
fn the_last_value_of_each_key_stays_across_compactions_and_power_cuts() {
    let mut rig = Rig::new();
    topic(&rig);
    let mut last = BTreeMap::new();
    for n in 0..20 {
        put(&rig, &format!("quiet {n}"), Some(&format!("value {n}")));
        last.insert(format!("value {n}"), ());
    }
    put(&rig, "gone", Some("value gone"));
    put(&rig, "gone", None);
    for round in 0..3 {
        churn(&rig);
        let before = size(&rig);
        compact(&rig);
        assert!(size(&rig) < before / 2, "round {round}: {before} to {}", size(&rig));
        rig = rig.power_cut();
        let values = rig.read_all("state");
        assert!(last.keys().all(|value| values.contains(value)), "round {round}");
        assert!(!values.contains(&"value gone".to_owned()));
        assert!(values.last().unwrap().starts_with("319 "));
        rig.elapse(60_000);
    }
    assert!(!rig.read_all("state").contains(&String::new()), "the tombstone went as well");
}

#[test]
fn aborted_records_go_and_do_not_hide_committed_ones() {
    let rig = Rig::new();
    topic(&rig);
    put(&rig, "account", Some("committed"));
    let id = "transfer".into();
    let init = InitRequest { id: Some(id), timeout_ms: 60_000, expected: None };
    let who = rig.engine.init_transactions(init).unwrap().answer.unwrap();
    let writer = Writer { id: "transfer", who, implicit: true };
    let partition = rig.partition("state");
    let batch = keyed("account", Some("aborted"), Some((who, 0)));
    rig.engine.produce_in_transaction(writer, &partition, batch, rig.engine.now()).unwrap();
    let end = EndRequest {
        id: "transfer".into(),
        who,
        outcome: Outcome::Abort,
        version: EndVersion::Bumping,
    };
    rig.engine.end_transaction(&end).unwrap().answer.unwrap();
    churn(&rig);
    let before = records(&rig);
    compact(&rig);
    assert!(records(&rig) < before / 2);
    let values = rig.power_cut().read_all("state");
    assert!(values.contains(&"committed".to_owned()));
    assert!(!values.contains(&"aborted".to_owned()));
}

#[test]
fn what_an_open_transaction_wrote_is_not_compacted() {
    let rig = Rig::new();
    topic(&rig);
    let init = InitRequest { id: Some("slow".into()), timeout_ms: 600_000, expected: None };
    let who = rig.engine.init_transactions(init).unwrap().answer.unwrap();
    let writer = Writer { id: "slow", who, implicit: true };
    let batch = keyed("busy", Some("undecided"), Some((who, 0)));
    let now = rig.engine.now();
    rig.engine.produce_in_transaction(writer, &rig.partition("state"), batch, now).unwrap();
    churn(&rig);
    let before = records(&rig);
    compact(&rig);
    assert_eq!(records(&rig), before);
}
