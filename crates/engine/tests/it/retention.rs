//! Retention: what is too old or too much goes, and nothing else.

use std::sync::Arc;

use ottla_engine::topic::{Isolation, ProduceError};
use ottla_engine::txn::producers::ProducerError;
use ottla_engine::{NewTopic, Offset};

use crate::rig::{Rig, batch_at, idempotent};

const HOUR_MS: u64 = 3_600_000;

fn topic(rig: &Rig, settings: &[(&str, &str)]) {
    let overrides = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let new = NewTopic { name: "log".to_owned(), partitions: Some(1), overrides };
    rig.engine.create_topic(&new).unwrap();
    rig.sync();
}

fn produce(rig: &Rig, value: &str) {
    let now = rig.engine.now();
    let batch = batch_at(&[value], now.wall.0);
    rig.engine.produce(&rig.partition("log"), batch, now).unwrap();
    rig.sync();
}

/// Lets a whole round of retention pass.
fn round(rig: &Rig) {
    rig.elapse(30_000);
    rig.engine.tick();
    rig.sync();
}

/// The first offset that exists, and all values from there on.
fn held(rig: &Rig) -> (i64, Vec<String>) {
    let partition = rig.partition("log");
    let start = rig.engine.store().extent(partition.stream()).unwrap().start;
    (start.0, rig.read(&partition, start.0, Isolation::ReadUncommitted))
}

#[test]
fn young_records_expire_though_no_segment_was_ever_written() {
    let rig = Rig::new();
    topic(&rig, &[("retention.ms", "3600000")]);
    rig.engine.tick();
    produce(&rig, "old");
    rig.elapse(HOUR_MS);
    produce(&rig, "new");
    assert_eq!(held(&rig), (0, vec!["old".to_owned(), "new".to_owned()]));
    round(&rig);
    assert_eq!(held(&rig), (1, vec!["new".to_owned()]));
    rig.elapse(2 * HOUR_MS);
    round(&rig);
    assert_eq!(held(&rig), (2, vec![]), "all of it, the newest data too");
    let rig = rig.power_cut();
    assert_eq!(held(&rig), (2, vec![]));
    produce(&rig, "next");
    assert_eq!(held(&rig), (2, vec!["next".to_owned()]), "offsets go on");
}

#[test]
fn a_record_later_than_segment_ms_after_a_segments_first_one_begins_the_next_segment() {
    let rig = Rig::new();
    topic(&rig, &[("segment.ms", "60000"), ("retention.ms", "3600000")]);
    rig.engine.tick();
    produce(&rig, "first of its segment");
    topic_noise(&rig);
    rig.elapse(60_000);
    produce(&rig, "not later than a minute");
    topic_noise(&rig);
    rig.elapse(1);
    produce(&rig, "later, though just after the one before it");
    topic_noise(&rig);
    rig.elapse(60_000);
    produce(&rig, "retired together with");
    rig.elapse(60_001);
    produce(&rig, "one of the next segment");
    topic_noise(&rig);
    let stream = rig.partition("log").stream();
    let ends = |rig: &Rig| -> Vec<i64> {
        rig.engine.store().segments(stream).iter().map(|segment| segment.next.0).collect()
    };
    assert_eq!(ends(&rig), [2, 4, 5]);
    let rig = rig.power_cut();
    topic_noise(&rig);
    assert_eq!(ends(&rig), [2, 4, 5], "whether the last of them was in a snapshot yet or not");
    rig.elapse(HOUR_MS - 150_000);
    round(&rig);
    assert_eq!(held(&rig).0, 2, "a closed segment expires on its own");
}

#[test]
fn old_segments_expire_and_their_files_go() {
    let rig = Rig::new();
    topic(&rig, &[("retention.ms", "3600000"), ("segment.bytes", "1048576")]);
    rig.engine.tick();
    let value = "x".repeat(10_000);
    for _ in 0..200 {
        produce(&rig, &value);
    }
    rig.keep();
    let stream = rig.partition("log").stream();
    let before = rig.engine.store().segments(stream);
    assert_eq!(before.len(), 2, "closed at 1 MiB");
    assert!(before[0].bytes <= 1 << 20);
    rig.elapse(2 * HOUR_MS);
    produce(&rig, "alive");
    round(&rig);
    assert_eq!(held(&rig), (200, vec!["alive".to_owned()]));
    assert!(rig.engine.store().segments(stream).is_empty());
    topic_noise(&rig);
    let files = rig.files(&format!("partitions/{:016x}/", stream.0));
    assert!(
        before
            .iter()
            .all(|old| !files.iter().any(|f| f.ends_with(&format!("{:016x}.seg", old.file)))),
        "{files:?}"
    );
}

/// Enough of another topic for several strides and snapshots.
/// Lets the log retire what was produced so far.
fn topic_noise(rig: &Rig) {
    let new =
        NewTopic { name: "noise".to_owned(), partitions: Some(1), overrides: Default::default() };
    drop(rig.engine.create_topic(&new)); // there is one already, if it is called again
    let noise = rig.partition("noise");
    for _ in 0..60 {
        let now = rig.engine.now();
        let batch = batch_at(&[&"n".repeat(9000)], now.wall.0);
        rig.engine.produce(&noise, batch, now).unwrap();
        rig.keep();
    }
}

#[test]
fn the_oldest_go_until_the_size_fits_and_never_below_it() {
    let rig = Rig::new();
    topic(&rig, &[("retention.bytes", "20000"), ("retention.ms", "-1")]);
    for n in 0..10 {
        produce(&rig, &format!("{n}{}", "x".repeat(4_000)));
    }
    round(&rig);
    let (start, values) = held(&rig);
    assert_eq!(start, 5, "four would be too few, six too many");
    assert_eq!(values.len(), 5);
    round(&rig);
    assert_eq!(held(&rig).0, 5);
}

#[test]
fn a_compacted_topic_loses_nothing_by_age() {
    let rig = Rig::new();
    topic(&rig, &[("retention.ms", "1000"), ("cleanup.policy", "compact")]);
    let now = rig.engine.now();
    rig.engine.produce(&rig.partition("log"), batch_at(&["kept"], now.wall.0), now).unwrap();
    rig.sync();
    rig.elapse(HOUR_MS);
    round(&rig);
    assert_eq!(held(&rig), (0, vec!["kept".to_owned()]));
}

#[test]
fn a_producer_that_was_idle_for_a_day_is_forgotten_and_begins_anew() {
    let rig = Rig::new();
    topic(&rig, &[("cleanup.policy", "compact")]);
    let (producer, _) = rig.engine.new_producer().unwrap();
    let produce = |sequence| {
        let batch = idempotent(&["x"], producer.0, sequence);
        let outcome = rig.engine.produce(&rig.partition("log"), batch, rig.engine.now());
        rig.sync();
        outcome.map(|_| ())
    };
    produce(0).unwrap();
    rig.elapse(23 * HOUR_MS);
    round(&rig);
    assert_eq!(produce(7), Err(ProduceError::Producer(ProducerError::OutOfOrder)));
    rig.elapse(HOUR_MS);
    round(&rig);
    produce(7).unwrap();
    assert_eq!(produce(9), Err(ProduceError::Producer(ProducerError::OutOfOrder)));
}

#[test]
fn a_clock_that_jumps_deletes_nothing_by_age_for_ten_minutes() {
    let rig = Rig::new();
    topic(&rig, &[("retention.ms", "3600000")]);
    rig.engine.tick();
    produce(&rig, "precious");
    rig.jump(5 * HOUR_MS);
    for _ in 0..19 {
        round(&rig);
    }
    assert_eq!(held(&rig), (0, vec!["precious".to_owned()]));
    for _ in 0..2 {
        round(&rig);
    }
    assert_eq!(held(&rig), (1, vec![]), "the clock was right after all");
}

#[test]
fn a_thousand_partitions_take_many_ticks_of_bounded_work() {
    let rig = Rig::new();
    let overrides = [("retention.ms".to_owned(), "1000".to_owned())].into();
    let new = NewTopic { name: "wide".to_owned(), partitions: Some(1000), overrides };
    let (wide, _) = rig.engine.create_topic(&new).unwrap();
    for partition in wide.partitions().iter() {
        let now = rig.engine.now();
        rig.engine.produce(partition, batch_at(&["x"], now.wall.0), now).unwrap();
    }
    rig.sync();
    rig.engine.tick();
    while trimmed(&rig, &wide) < 1000 {
        let before = trimmed(&rig, &wide);
        rig.elapse(2_000);
        rig.engine.tick();
        rig.sync();
        assert!(trimmed(&rig, &wide) - before <= 64);
    }
}

fn trimmed(rig: &Rig, topic: &Arc<ottla_engine::topic::Topic>) -> usize {
    let start = |stream| rig.engine.store().extent(stream).unwrap().start;
    topic.partitions().iter().filter(|one| start(one.stream()) > Offset(0)).count()
}
