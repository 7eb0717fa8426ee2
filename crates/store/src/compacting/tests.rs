//! Stories of compacted partitions: the last value of each key is there, whatever happened between.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::batch::{BatchBuilder, RecordDraft, split};
use crate::codec::Codec;
use crate::frame::{Frame, Item, StreamKind};
use crate::records::Records;
use crate::testing::{Broker, MemDisk, tiny};
use crate::{Options, ReadLimit};

/// A broker whose segments are so small that there are always some to compact.
fn start(disk: &Arc<MemDisk>, seed: u64) -> Broker {
    Broker::start_with(disk, Options { segment_bytes: 12 << 10, ..tiny(seed) }).unwrap()
}

fn task<'a>() -> CompactTask<'a> {
    CompactTask {
        below: Offset(i64::MAX),
        older_than_ms: None,
        dirty_percent_min: 1,
        now_ms: 5000,
        delete_retention_ms: 100,
        aborted: &|_| false,
        map_bytes_max: 1 << 20,
        between: &|| true,
    }
}

fn put(broker: &Broker, topic: StreamId, key: &str, value: Option<&str>) {
    let mut builder = BatchBuilder::new(Codec::None);
    let (key, value) = (Some(key.as_bytes()), value.map(str::as_bytes));
    builder.push(&RecordDraft { timestamp_ms: 1000, key, value, headers: &[] });
    broker.append(Frame::of(Item::Batch { stream: topic, batch: builder.build() }));
    broker.commit();
}

/// Sets each of ten keys `rounds` times; returns what they are in the end.
fn churn(broker: &Broker, topic: StreamId, rounds: usize) -> BTreeMap<String, String> {
    let mut last = BTreeMap::new();
    for round in 0..rounds {
        for key in 0..10 {
            let (key, value) = (format!("key {key}"), format!("{round} {}", "x".repeat(400)));
            put(broker, topic, &key, Some(&value));
            last.insert(key, value);
        }
        broker.settle_down();
    }
    last
}

/// The last value of each key as a reader sees it, and how many records there are.
fn read(broker: &Broker, topic: StreamId) -> (BTreeMap<String, String>, usize) {
    let (mut last, mut count) = (BTreeMap::new(), 0);
    let mut from = broker.store.extent(topic).unwrap().start;
    loop {
        let limit = ReadLimit { end: Offset(i64::MAX), bytes_max: 3000 };
        let read = broker.store.read(topic, from, limit).unwrap();
        if read.bytes == 0 {
            assert_eq!(from, broker.store.extent(topic).unwrap().durable_end);
            return (last, count);
        }
        for batch in read.pieces.into_iter().flat_map(split) {
            let batch = batch.unwrap();
            let records = Records::open(&batch).unwrap();
            for record in records.iter().map(Result::unwrap) {
                assert!(record.offset >= from, "offsets ascend");
                count += 1;
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                match record.value {
                    Some(value) => {
                        last.insert(key, String::from_utf8(value.to_vec()).unwrap());
                    }
                    None => drop(last.remove(&key)),
                }
            }
            from = records.header().next_offset();
        }
    }
}

#[test]
fn only_the_last_record_of_each_key_stays_and_the_files_of_the_others_go() {
    let disk = MemDisk::new();
    let broker = start(&disk, 1);
    let topic = broker.create(StreamKind::Partition);
    let last = churn(&broker, topic, 60);
    let before = disk.names("partitions/");
    let done = broker.store.compact(topic, &task()).unwrap().unwrap();
    assert_eq!(done.records_after, 10);
    assert!(done.records_before > 200 && done.bytes_after * 10 < done.bytes_before, "{done:?}");
    assert_eq!(read(&broker, topic).0, last);
    assert_eq!(broker.store.compact(topic, &task()).unwrap(), None, "nothing is dirty any more");
    let last = churn(&broker, topic, 20);
    let after = disk.names("partitions/");
    assert!(before.iter().filter(|old| after.contains(old)).count() < 4, "{after:?}");
    for disk in [disk.after_power_loss(), disk.after_kill()] {
        let broker = start(&disk, 2);
        assert_eq!(read(&broker, topic).0, last);
        assert_eq!(disk.names("lost+found/"), [""; 0]);
        assert!(broker.store.compact(topic, &task()).unwrap().is_some(), "there is more now");
        assert_eq!(read(&broker, topic).0, last);
    }
}

#[test]
fn a_compaction_that_never_became_durable_did_not_happen() {
    let disk = MemDisk::new();
    let broker = start(&disk, 1);
    let topic = broker.create(StreamKind::Partition);
    let last = churn(&broker, topic, 40);
    let records = read(&broker, topic).1;
    broker.store.compact(topic, &task()).unwrap().unwrap();
    assert!(read(&broker, topic).1 < records);
    let disk = disk.after_power_loss();
    let broker = start(&disk, 2);
    assert_eq!(read(&broker, topic), (last.clone(), records));
    assert_eq!(disk.names("lost+found/").len(), 1, "the output, which nothing names");
    broker.store.compact(topic, &task()).unwrap().unwrap();
    broker.commit();
    let broker = start(&disk.after_power_loss(), 3);
    assert_eq!(read(&broker, topic).0, last);
    assert!(read(&broker, topic).1 < records);
}

#[test]
fn a_start_after_any_step_finds_the_last_value_of_every_key() {
    let disk = MemDisk::new();
    let broker = start(&disk, 1);
    let topic = broker.create(StreamKind::Partition);
    let mut last = churn(&broker, topic, 40);
    let mut compactions = 0;
    for step in 0..60 {
        put(&broker, topic, "key 3", Some(&format!("{step} {}", "y".repeat(3000))));
        last.insert("key 3".into(), format!("{step} {}", "y".repeat(3000)));
        broker.store.keep(&broker.model).unwrap();
        if step % 7 == 0 {
            compactions += usize::from(broker.store.compact(topic, &task()).unwrap().is_some());
        }
        if step % 3 == 0 {
            broker.commit();
        }
        for disk in [disk.after_power_loss(), disk.after_kill()] {
            assert_eq!(read(&start(&disk, 2), topic).0, last, "after step {step}");
            let snapshots = disk.names("snapshots/");
            let whole: Vec<_> = snapshots.iter().filter(|n| n.ends_with(".snap")).collect();
            if let [_, newest] = whole[..] {
                disk.damage(newest, |bytes| bytes[100] ^= 1);
                assert_eq!(read(&start(&disk, 3), topic).0, last, "older one, step {step}");
            }
        }
    }
    assert!(compactions > 3, "{compactions}");
}

#[test]
fn what_an_open_transaction_or_a_younger_time_protects_is_left_alone() {
    let disk = MemDisk::new();
    let broker = start(&disk, 1);
    let topic = broker.create(StreamKind::Partition);
    churn(&broker, topic, 40);
    let none = CompactTask { below: Offset(3), ..task() };
    assert_eq!(broker.store.compact(topic, &none).unwrap(), None);
    let young = CompactTask { older_than_ms: Some(1000), ..task() };
    assert_eq!(broker.store.compact(topic, &young).unwrap(), None);
    let stopped = CompactTask { between: &|| false, ..task() };
    let files = disk.names("partitions/");
    let done = broker.store.compact(topic, &stopped).unwrap();
    assert!(done.is_some() || disk.names("partitions/") == files, "nothing is left behind");
}

#[test]
fn a_tombstone_takes_its_key_along_and_goes_itself_later() {
    let disk = MemDisk::new();
    let broker = start(&disk, 1);
    let topic = broker.create(StreamKind::Partition);
    put(&broker, topic, "gone", Some("soon"));
    put(&broker, topic, "gone", None);
    let last = churn(&broker, topic, 40);
    let first = broker.store.compact(topic, &task()).unwrap().unwrap();
    assert_eq!(first.records_after, 11, "ten keys and the tombstone");
    churn(&broker, topic, 40);
    let late = CompactTask { now_ms: 5100, ..task() };
    let second = broker.store.compact(topic, &late).unwrap().unwrap();
    assert_eq!(second.records_after, 10);
    assert_eq!(read(&start(&disk.after_kill(), 2), topic).0, last);
}

#[test]
fn a_topic_trimmed_or_deleted_during_its_compaction_stays_so() {
    let disk = MemDisk::new();
    let broker = start(&disk, 1);
    let (topic, doomed) =
        (broker.create(StreamKind::Partition), broker.create(StreamKind::Partition));
    churn(&broker, topic, 40);
    churn(&broker, doomed, 40);
    let end = broker.store.extent(topic).unwrap().durable_end;
    let trim = || {
        broker.append(Frame::of(Item::Trim { stream: topic, start: end }));
        true
    };
    // So small a map that the pieces are many; a piece is a mebibyte, so the trim comes by hand.
    trim();
    assert_eq!(broker.store.compact(topic, &task()).unwrap(), None);
    broker.store.compact(doomed, &task()).unwrap().unwrap();
    broker.append(Frame::of(Item::Delete { stream: doomed }));
    broker.settle_down();
    let filler = broker.create(StreamKind::Partition);
    churn(&broker, filler, 20);
    assert_eq!(disk.names(&partition_dir(doomed)), [""; 0]);
    let again = start(&disk.after_power_loss(), 2);
    assert_eq!(again.store.extent(doomed), None);
    assert_eq!(again.store.extent(topic).unwrap().start, end);
}
