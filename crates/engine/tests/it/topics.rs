//! Topics, records, idempotence.

use ottla_engine::topic::{Isolation, ProduceError};
use ottla_engine::txn::producers::ProducerError;
use ottla_engine::{CreateError, DeleteRecordsError, NewTopic, Offset};

use crate::rig::{Rig, batch, idempotent};

#[test]
fn what_was_acknowledged_survives_a_power_cut_and_what_was_not_seen_may_not() {
    let rig = Rig::new();
    rig.topic("orders", 1);
    let partition = rig.partition("orders");
    let now = rig.engine.now();
    rig.engine.produce(&partition, batch(&["a", "b"]), now).unwrap();
    rig.sync();
    rig.engine.produce(&partition, batch(&["never synced"]), now).unwrap();
    assert_eq!(rig.read_all("orders"), ["a", "b"], "not durable is not visible");
    let rig = rig.power_cut();
    let found = rig.read_all("orders");
    assert_eq!(found.get(..2), Some(&["a".to_owned(), "b".to_owned()][..]));
}

#[test]
fn offsets_go_on_after_a_power_cut_where_acknowledged_ones_ended() {
    let mut rig = Rig::new();
    rig.topic("orders", 1);
    for round in 0..5 {
        let partition = rig.partition("orders");
        let now = rig.engine.now();
        let produced = rig.engine.produce(&partition, batch(&["x"]), now).unwrap();
        assert_eq!(produced.base_offset, Offset(round));
        rig.sync();
        rig = rig.power_cut();
    }
    assert_eq!(rig.read_all("orders").len(), 5);
}

#[test]
fn a_retried_batch_gets_its_first_offset_even_after_a_power_cut() {
    let rig = Rig::new();
    rig.topic("orders", 1);
    let (producer, _) = rig.engine.new_producer().unwrap();
    let now = rig.engine.now();
    for sequence in 0..7 {
        let partition = rig.partition("orders");
        let value = sequence.to_string();
        let fresh = idempotent(&[&value], producer.0, sequence);
        let first = rig.engine.produce(&partition, fresh.clone(), now).unwrap();
        let again = rig.engine.produce(&partition, fresh, now).unwrap();
        assert_eq!(first, again, "the same offset and the same place to wait for");
    }
    rig.sync();
    let rig = rig.power_cut();
    let partition = rig.partition("orders");
    let retried = rig.engine.produce(&partition, idempotent(&["4"], producer.0, 4), now).unwrap();
    assert_eq!(retried.base_offset, Offset(4));
    let skipped = rig.engine.produce(&partition, idempotent(&["9"], producer.0, 9), now);
    assert_eq!(skipped, Err(ProduceError::Producer(ProducerError::OutOfOrder)));
    rig.engine.produce(&partition, idempotent(&["7"], producer.0, 7), now).unwrap();
    rig.sync();
    assert_eq!(rig.read_all("orders"), ["0", "1", "2", "3", "4", "5", "6", "7"]);
}

#[test]
fn producer_ids_are_never_given_twice() {
    let mut rig = Rig::new();
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(rig.engine.new_producer().unwrap().0.0);
        rig.sync();
        rig = rig.power_cut();
    }
    let mut unique = seen.clone();
    unique.dedup();
    assert!(seen.is_sorted() && unique == seen, "{seen:?}");
}

#[test]
fn old_records_are_read_from_segments_and_new_ones_from_the_log() {
    let mut rig = Rig::new();
    rig.topic("orders", 1);
    let long = "x".repeat(2000);
    let mut expected = Vec::new();
    for round in 0..4 {
        for number in 0..40 {
            let value = format!("{round}.{number} {long}");
            let partition = rig.partition("orders");
            rig.engine.produce(&partition, batch(&[&value]), rig.engine.now()).unwrap();
            expected.push(value);
        }
        rig.keep();
        assert!(!rig.engine.store().segments(rig.partition("orders").stream()).is_empty());
        assert_eq!(rig.read_all("orders"), expected);
        rig = rig.power_cut();
        assert_eq!(rig.read_all("orders"), expected, "after the power cut of round {round}");
    }
}

#[test]
fn a_recreated_topic_is_another_one_and_empty() {
    let rig = Rig::new();
    let first = rig.topic("orders", 1);
    let partition = rig.partition("orders");
    rig.engine.produce(&partition, batch(&["old"]), rig.engine.now()).unwrap();
    rig.engine.delete_topic(first.id()).unwrap().unwrap();
    let late = rig.engine.produce(&partition, batch(&["late"]), rig.engine.now());
    assert_eq!(late, Err(ProduceError::Gone));
    let second = rig.topic("orders", 1);
    assert_ne!(first.id(), second.id());
    let rig = rig.power_cut();
    assert_eq!(rig.read_all("orders"), [] as [String; 0]);
    assert_eq!(rig.engine.catalog().topic("orders").unwrap().id(), second.id());
}

#[test]
fn names_that_metrics_cannot_tell_apart_collide() {
    let rig = Rig::new();
    rig.topic("a.b", 1);
    let new = |name: &str| NewTopic {
        name: name.to_owned(),
        partitions: None,
        overrides: Default::default(),
    };
    let collides = rig.engine.create_topic(&new("a_b")).map(|_| ());
    assert!(matches!(collides, Err(CreateError::Collides { .. })), "{collides:?}");
    let exists = rig.engine.create_topic(&new("a.b")).map(|_| ());
    assert_eq!(exists, Err(CreateError::Exists("a.b".to_owned())));
    let mut wrong = new("c");
    wrong.overrides.insert("retention".to_owned(), "1".to_owned());
    assert!(matches!(rig.engine.create_topic(&wrong), Err(CreateError::Config(_))));
}

#[test]
fn settings_and_partitions_that_were_added_survive_a_power_cut() {
    let rig = Rig::new();
    rig.topic("orders", 2);
    let set = |overrides: &mut std::collections::BTreeMap<String, String>| {
        overrides.insert("max.message.bytes".to_owned(), "1000".to_owned());
    };
    rig.engine.configure_topic("orders", set, false).unwrap();
    rig.engine.create_partitions("orders", 5, false).unwrap();
    assert!(rig.engine.create_partitions("orders", 5, false).is_err());
    rig.keep();
    let rig = rig.power_cut();
    let topic = rig.engine.catalog().topic("orders").cloned().unwrap();
    assert_eq!((topic.partitions().len(), topic.config().message_bytes_max), (5, 1000));
}

#[test]
fn deleted_records_stay_deleted() {
    let rig = Rig::new();
    rig.topic("orders", 1);
    let partition = rig.partition("orders");
    for value in ["a", "b", "c"] {
        rig.engine.produce(&partition, batch(&[value]), rig.engine.now()).unwrap();
    }
    let early = rig.engine.delete_records(&partition, Some(Offset(1)));
    assert_eq!(early, Err(DeleteRecordsError::OutOfRange), "nothing is durable yet");
    rig.sync();
    rig.engine.delete_records(&partition, Some(Offset(2))).unwrap();
    rig.sync();
    let rig = rig.power_cut();
    let partition = rig.partition("orders");
    assert_eq!(rig.engine.earliest(&partition).unwrap().offset, Offset(2));
    assert_eq!(rig.read(&partition, 2, Isolation::ReadUncommitted), ["c"]);
}

#[test]
fn the_log_names_the_partitions_that_got_records() {
    let rig = Rig::new();
    rig.topic("orders", 1);
    rig.woken.0.lock().unwrap().clear();
    let partition = rig.partition("orders");
    rig.engine.produce(&partition, batch(&["a"]), rig.engine.now()).unwrap();
    assert_eq!(*rig.woken.0.lock().unwrap(), [], "not before it is durable");
    rig.sync();
    assert_eq!(*rig.woken.0.lock().unwrap(), [partition.stream()]);
}
