//! Stories of whole stores: what was acknowledged is there afterwards, and nothing else.

use crate::disk::Disk;
use crate::frame::{Frame, Item, StreamKind};
use crate::state::Purpose;
use crate::testing::{Broker, MemDisk, batch_of};
use crate::{Lsn, Offset, OpenError, ReadError, ReadLimit, Refused};

fn value(n: usize) -> Vec<u8> {
    format!("record {n} {}", "x".repeat(200)).into_bytes()
}

#[test]
fn what_was_committed_is_there_after_the_loss_of_power_and_what_was_not_is_gone() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let topic = broker.create(StreamKind::Partition);
    for n in 0..100 {
        let offset = Offset(i64::try_from(n).unwrap());
        assert_eq!(broker.produce(topic, &value(n)), offset);
        broker.commit();
    }
    broker.note("kept");
    broker.commit();
    broker.produce(topic, &value(100));
    broker.note("lost");
    let extent = broker.store.extent(topic).unwrap();
    assert_eq!((extent.durable_end, extent.end), (Offset(100), Offset(101)));

    let broker = Broker::start(&disk.after_power_loss());
    assert_eq!(broker.store.extent(topic).unwrap().end, Offset(100));
    assert_eq!(broker.values(topic, 0), (0..100).map(value).collect::<Vec<_>>());
    assert_eq!(broker.model.note.lock().unwrap().1, b"kept");
    assert_eq!(broker.produce(topic, b"next"), Offset(100));
}

#[test]
fn a_start_after_a_start_finds_the_same_and_keeps_every_place() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let queue = broker.create(StreamKind::Queue);
    let message = broker.publish(&[queue], b"hello");
    broker.commit();
    let mut disk = disk.after_kill();
    for seed in 2..8 {
        let broker = Broker::try_start(&disk, seed).unwrap();
        assert_eq!(broker.store.message(message).unwrap().as_ref(), b"hello");
        assert!(broker.model.queues.lock().unwrap()[&queue].contains(&message));
        let another = broker.publish(&[queue], b"more");
        assert!(another > message);
        broker.commit();
        disk = disk.after_kill();
        let again = Broker::try_start(&disk, 100 + seed).unwrap();
        assert_eq!(again.store.message(another).unwrap().as_ref(), b"more");
        disk = again.disk.after_power_loss();
    }
}

#[test]
fn a_torn_last_group_is_cut_though_its_later_pages_are_whole() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let topic = broker.create(StreamKind::Partition);
    broker.produce(topic, b"kept");
    broker.commit();
    let torn = broker.store.end();
    for n in 0..30 {
        broker.produce(topic, &value(n));
    }
    broker.commit();
    let disk = disk.after_kill();
    let wal = disk.names("wal/").remove(0);
    let page = usize::try_from(torn.0).unwrap() + 4096;
    disk.damage(&wal, |bytes| bytes[page..page + 512].fill(0));
    let broker = Broker::start(&disk);
    assert_eq!(broker.values(topic, 0), [b"kept"]);
}

#[test]
fn a_damaged_group_below_what_was_durable_refuses_the_start_and_changes_nothing() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let topic = broker.create(StreamKind::Partition);
    broker.commit();
    broker.produce(topic, b"one");
    broker.commit();
    broker.store.prove();
    broker.commit();
    let disk = disk.after_power_loss();
    let wal = disk.names("wal/").remove(0);
    disk.damage(&wal, |bytes| bytes[4096 + 4096 + 20] ^= 1); // the second group's header
    let before: Vec<_> = disk.names("").iter().map(|name| disk.bytes(name)).collect();
    match Broker::try_start(&disk, 2) {
        Err(OpenError::Corrupt { .. }) => {}
        other => panic!("{:?}", other.map(|_| "started")),
    }
    let after: Vec<_> = disk.names("").iter().map(|name| disk.bytes(name)).collect();
    assert_eq!(before, after);
}

#[test]
fn a_damaged_payload_below_what_was_durable_quarantines_its_stream_alone() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let sick = broker.create(StreamKind::Partition);
    let sound = broker.create(StreamKind::Partition);
    broker.produce(sound, b"fine");
    let place = broker.append(Frame::of(Item::Batch { stream: sick, batch: batch_of(b"poor") }));
    broker.commit();
    broker.store.prove();
    broker.commit();
    let disk = disk.after_power_loss();
    let wal = disk.names("wal/").remove(0);
    let payload = usize::try_from(place.items[0].0).unwrap() + 4096 + 32;
    disk.damage(&wal, |bytes| bytes[payload + 65] ^= 1);
    let broker = Broker::start(&disk);
    assert_eq!(broker.values(sound, 0), [b"fine"]);
    let limit = ReadLimit { end: Offset(9), bytes_max: 9 };
    assert!(matches!(broker.store.read(sick, Offset(0), limit), Err(ReadError::Corrupt { .. })));
    assert_eq!(broker.store.damage()[0].stream, sick);
}

#[test]
fn a_failed_sync_poisons_the_log_for_good() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let topic = broker.create(StreamKind::Partition);
    broker.commit();
    let durable = broker.store.durable();
    broker.produce(topic, b"never acknowledged");
    disk.fail_syncs("wal/");
    broker.store.commit().unwrap_err();
    assert_eq!(broker.store.durable(), durable);
    assert!(!broker.store.wait(broker.store.end()));
    assert_eq!(broker.store.reserve(Purpose::Grow, 1, 1).unwrap_err(), Refused::Poisoned);
    broker.store.commit().unwrap_err();
}

#[test]
fn room_is_refused_before_anything_changes() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let store = &broker.store;
    assert_eq!(store.reserve(Purpose::Grow, 1, 49 << 20).unwrap_err(), Refused::TooLarge);
    let first = store.reserve(Purpose::Grow, 1, 20 << 20).unwrap();
    assert_eq!(store.reserve(Purpose::Grow, 1, 40 << 20).unwrap_err(), Refused::Busy);
    drop(first);
    drop(store.reserve(Purpose::Grow, 1, 20 << 20).unwrap());
    assert_eq!(store.unsynced_bytes(), 0);

    disk.free.store(1 << 20, std::sync::atomic::Ordering::Relaxed);
    broker.settle_down();
    assert_eq!(store.reserve(Purpose::Grow, 1, 2 << 20).unwrap_err(), Refused::DiskFull);
    drop(store.reserve(Purpose::Shrink, 1, 100).unwrap());
}

#[test]
fn a_frame_over_several_streams_is_there_whole_or_not_at_all() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let (a, b) = (broker.create(StreamKind::Partition), broker.create(StreamKind::Partition));
    broker.commit();
    let mut frame = Frame::of(Item::Batch { stream: b, batch: batch_of(b"1") });
    frame.push(Item::Batch { stream: a, batch: batch_of(b"2") });
    frame.push(Item::Batch { stream: b, batch: batch_of(b"3") });
    let appended = broker.append(frame);
    assert_eq!(appended.offsets, [Offset(0), Offset(0), Offset(1)]);
    let lost = Broker::start(&disk.after_power_loss());
    assert_eq!((lost.values(a, 0).len(), lost.values(b, 0).len()), (0, 0));
    broker.commit();
    let kept = Broker::start(&disk.after_power_loss());
    assert_eq!((kept.values(a, 0).len(), kept.values(b, 0).len()), (1, 2));
}

#[test]
fn a_frame_larger_than_a_segment_gets_one_of_its_own_and_is_copied_forward() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let queue = broker.create(StreamKind::Queue);
    broker.publish(&[queue], b"small");
    broker.commit();
    let large = vec![7; 60_000];
    let lsn = broker.publish(&[queue], &large);
    broker.publish(&[queue], b"behind");
    broker.commit();
    let broker = Broker::start(&disk.after_kill());
    assert_eq!(broker.store.message(lsn).unwrap(), large);
    let broker = Broker::start(&broker.disk.after_power_loss());
    assert_eq!(broker.store.message(lsn).unwrap(), large);
    assert_eq!(broker.model.queues.lock().unwrap()[&queue].len(), 3);
}

#[test]
fn a_message_for_several_queues_is_stored_once() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let (a, b) = (broker.create(StreamKind::Queue), broker.create(StreamKind::Queue));
    let lsn = broker.publish(&[a, b], b"both");
    assert!(matches!(broker.store.message(lsn), Err(ReadError::UnknownMessage(_))));
    broker.commit();
    assert_eq!(broker.store.message(lsn).unwrap().as_ref(), b"both");
    broker.settle(a, lsn);
    broker.commit();
    let broker = Broker::start(&disk.after_power_loss());
    let queues = broker.model.queues.lock().unwrap();
    assert_eq!((queues[&a].len(), queues[&b].len()), (0, 1));
    assert!(matches!(
        broker.store.message(Lsn(lsn.0 + 4)),
        Err(ReadError::Corrupt { .. } | ReadError::UnknownMessage(_))
    ));
}

/// Publishes and consumes until the log has gone around several times.
fn churn(broker: &Broker, rounds: usize) {
    let scratch = broker.create(StreamKind::Queue);
    for n in 0..rounds {
        let lsn = broker.publish(&[scratch], &[b'.'; 3000]);
        broker.settle(scratch, lsn);
        broker.note(&format!("round {n}"));
        broker.settle_down();
    }
}

#[test]
fn a_topic_reads_the_same_across_segments_and_log_and_the_log_does_not_grow() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let topic = broker.create(StreamKind::Partition);
    for n in 0..1000 {
        broker.produce(topic, &value(n));
        broker.settle_down();
        if n % 97 == 0 {
            assert_eq!(broker.values(topic, 0).len(), n + 1);
        }
    }
    assert!(broker.store.floor() > Lsn(1 << 20));
    assert!(!broker.store.segments(topic).is_empty());
    assert!(disk.names("wal/").len() < 16, "{:?}", disk.names("wal/"));
    assert_eq!(disk.names("snapshots/").len(), 2);
    assert_eq!(broker.values(topic, 0), (0..1000).map(value).collect::<Vec<_>>());

    let again = Broker::start(&disk.after_power_loss());
    assert_eq!(again.values(topic, 0), (0..1000).map(value).collect::<Vec<_>>());
    assert_eq!(again.produce(topic, b"next"), Offset(1000));
    again.settle_down();
    let found = again.store.find_timestamp(topic, 1000).unwrap().unwrap();
    assert_eq!(crate::batch::BatchHeader::parse(&found).unwrap().base_offset, Offset(0));
    assert!(again.store.find_timestamp(topic, 1001).unwrap().is_none());
    assert!(again.store.max_timestamp(topic).unwrap().is_some());
}

#[test]
fn a_message_outlives_its_stride_and_a_settled_one_does_not() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let (a, b) = (broker.create(StreamKind::Queue), broker.create(StreamKind::Queue));
    let kept = broker.publish(&[a, b], b"kept");
    let gone = broker.publish(&[a], b"gone");
    broker.settle(a, kept);
    broker.settle(a, gone);
    churn(&broker, 200);
    assert!(broker.store.floor() > gone);
    assert_eq!(broker.store.message(kept).unwrap().as_ref(), b"kept");
    assert!(matches!(broker.store.message(gone), Err(ReadError::UnknownMessage(_))));

    let again = Broker::start(&disk.after_power_loss());
    assert_eq!(again.store.message(kept).unwrap().as_ref(), b"kept");
    assert!(again.model.queues.lock().unwrap()[&b].contains(&kept));
    assert!(again.model.queues.lock().unwrap()[&a].is_empty());
    again.settle(b, kept);
    churn(&again, 200);
    assert!(matches!(again.store.message(kept), Err(ReadError::UnknownMessage(_))));
    assert_eq!(again.disk.names("oldlog/"), Vec::<String>::new());
}

#[test]
fn the_older_snapshot_gives_exactly_the_same_when_the_newest_is_damaged() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let topic = broker.create(StreamKind::Partition);
    let queue = broker.create(StreamKind::Queue);
    let message = broker.publish(&[queue], b"kept");
    for n in 0..300 {
        broker.produce(topic, &value(n));
        broker.settle_down();
    }
    churn(&broker, 60);
    let disk = disk.after_power_loss();
    let newest = disk.names("snapshots/").pop().unwrap();
    disk.damage(&newest, |bytes| bytes[100] ^= 1);
    let again = Broker::start(&disk);
    assert_eq!(again.values(topic, 0), (0..300).map(value).collect::<Vec<_>>());
    assert_eq!(again.store.message(message).unwrap().as_ref(), b"kept");
    assert_eq!(again.model.note.lock().unwrap().1, b"round 59");
    assert!(disk.names("lost+found/").iter().any(|name| name.contains("snapshots")));
    churn(&again, 60);
    let last = Broker::start(&disk.after_power_loss());
    assert_eq!(last.values(topic, 0), (0..300).map(value).collect::<Vec<_>>());
}

#[test]
fn a_message_that_a_snapshot_knows_is_damaged_and_not_torn_when_it_rots_at_the_end_of_the_log() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let queue = broker.create(StreamKind::Queue);
    let mut judged = 0;
    for n in 0..200 {
        let before = disk.names("snapshots/");
        let body = format!("message {n} {}", "x".repeat(900));
        let message = broker.publish(&[queue], body.as_bytes());
        broker.settle_down();
        if disk.names("snapshots/") == before {
            continue;
        }
        // Nothing is behind the message but perhaps the header of a segment made ahead.
        let rotten = disk.after_power_loss();
        let place = |bytes: &[u8]| bytes.windows(body.len()).position(|at| at == body.as_bytes());
        let holder = |name: &&String| place(&rotten.bytes(name)).is_some();
        let file = rotten.names("wal/").iter().find(holder).unwrap().clone();
        rotten.damage(&file, |bytes| {
            let at = place(bytes).unwrap();
            bytes[at + 20] ^= 1;
        });
        let again = Broker::start(&rotten);
        assert!(!again.store.damage().is_empty(), "message {n} was cut away in silence");
        let found = again.store.message(message);
        assert!(matches!(found, Err(ReadError::Corrupt { .. })), "{found:?}");
        judged += 1;
    }
    assert!(judged > 5, "{judged}");
}

#[test]
fn a_file_of_the_log_that_a_power_cut_brings_back_is_not_read() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let queue = broker.create(StreamKind::Queue);
    broker.commit();
    let first = disk.names("wal/").first().unwrap().clone();
    // A start ends that file here, though its header says that it goes on; the message is behind.
    let broker = Broker::start(&disk.after_power_loss());
    let kept = broker.publish(&[queue], b"kept");
    broker.commit();
    let bytes = broker.disk.bytes(&first);
    assert!(kept.0 < bytes.len() as u64 - 4096, "within what the header says");
    churn(&broker, 60);
    assert!(broker.store.floor() > kept && !broker.disk.names("wal/").contains(&first));
    let disk = broker.disk.after_power_loss();
    let file = disk.create(&first).unwrap();
    file.write_at(&[std::io::IoSlice::new(&bytes)], 0).unwrap();
    let again = Broker::start(&disk);
    assert_eq!(again.store.message(kept).unwrap().as_ref(), b"kept");
}

#[test]
fn a_start_after_every_step_of_the_keeper_finds_everything() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let topic = broker.create(StreamKind::Partition);
    let queue = broker.create(StreamKind::Queue);
    let message = broker.publish(&[queue], b"kept");
    let mut produced = 0;
    for seed in 0..250 {
        broker.produce(topic, &value(produced));
        produced += 1;
        broker.publish(&[queue], &[b'.'; 900]);
        broker.commit();
        broker.store.keep(&broker.model).unwrap();
        let again = Broker::try_start(&disk.after_power_loss(), 1000 + seed).unwrap();
        assert_eq!(again.values(topic, 0).len(), produced, "after step {seed}");
        assert_eq!(again.store.message(message).unwrap().as_ref(), b"kept");
        assert_eq!(again.model.queues.lock().unwrap()[&queue].len(), produced + 1);
    }
    assert!(broker.store.floor() > Lsn::ZERO);
}

#[test]
fn a_deleted_topic_leaves_no_file_and_its_namesake_is_empty() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let first = broker.create(StreamKind::Partition);
    for n in 0..300 {
        broker.produce(first, &value(n));
        broker.settle_down();
    }
    assert!(!disk.names("partitions/").is_empty());
    broker.append(Frame::of(Item::Delete { stream: first }));
    let second = broker.create(StreamKind::Partition);
    assert_ne!(first, second);
    churn(&broker, 200);
    assert_eq!(disk.names("partitions/"), Vec::<String>::new());
    let again = Broker::start(&disk.after_power_loss());
    assert!(again.store.extent(first).is_none());
    assert_eq!(again.store.extent(second).unwrap().end, Offset::ZERO);
    assert!(again.store.new_stream_id() > second);
}

#[test]
fn a_trimmed_topic_starts_where_it_was_trimmed_and_its_old_files_go() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let topic = broker.create(StreamKind::Partition);
    for n in 0..600 {
        broker.produce(topic, &value(n));
        broker.settle_down();
    }
    let before = disk.names("partitions/").len();
    assert!(before > 1);
    let start = Offset(500);
    broker.append(Frame::of(Item::Trim { stream: topic, start }));
    churn(&broker, 200);
    assert!(disk.names("partitions/").len() < before);
    let limit = ReadLimit { end: Offset(999), bytes_max: 9 };
    let below = broker.store.read(topic, Offset(499), limit);
    assert!(matches!(below, Err(ReadError::OutOfRange { .. })), "{below:?}");
    let again = Broker::start(&disk.after_power_loss());
    assert_eq!(again.store.extent(topic).unwrap().start, start);
    assert_eq!(again.values(topic, 500).len(), 100);
}

#[test]
fn a_segment_that_cannot_be_written_is_replaced_by_another() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let topic = broker.create(StreamKind::Partition);
    let mut n = 0;
    while disk.names("partitions/").is_empty() {
        broker.produce(topic, &value(n));
        broker.settle_down();
        n += 1;
    }
    disk.fail_syncs("partitions/");
    for n in n..600 {
        broker.produce(topic, &value(n));
        broker.settle_down();
    }
    assert!(broker.store.segments(topic).len() > 1);
    let again = Broker::start(&disk.after_power_loss());
    assert_eq!(again.values(topic, 0), (0..600).map(value).collect::<Vec<_>>());
}

#[test]
fn without_syncs_a_loss_of_power_loses_facts_but_never_the_start() {
    let disk = MemDisk::new();
    let options =
        || crate::Options { durability: crate::Durability::Os, ..crate::testing::tiny(1) };
    let broker = Broker::start_with(&disk, options()).unwrap();
    let topic = broker.create(StreamKind::Partition);
    for n in 0..600 {
        broker.produce(topic, &value(n));
        broker.settle_down();
    }
    assert!(broker.store.floor() > Lsn::ZERO);
    let again = Broker::start_with(&disk.after_power_loss(), options()).unwrap();
    let found = again.values(topic, 0);
    assert_eq!(found, (0..found.len()).map(value).collect::<Vec<_>>());
    assert!(!found.is_empty());
    assert_eq!(
        Broker::start_with(&disk.after_kill(), options()).unwrap().values(topic, 0).len(),
        600
    );
}

#[test]
fn a_disk_that_fills_up_during_retirement_neither_loses_nor_repeats_a_record() {
    let disk = MemDisk::new();
    let broker = Broker::start(&disk);
    let topics: Vec<_> = (0..3).map(|_| broker.create(StreamKind::Partition)).collect();
    for n in 0..200 {
        for topic in &topics {
            broker.produce(*topic, &value(n));
        }
        broker.commit();
        // Every other file of a partition finds no room.
        disk.full_after
            .store(if n % 2 == 0 { 1 } else { -1 }, std::sync::atomic::Ordering::Relaxed);
        while broker.store.keep(&broker.model).unwrap() {
            broker.commit();
        }
        disk.full_after.store(-1, std::sync::atomic::Ordering::Relaxed);
    }
    let again = Broker::start(&disk.after_power_loss());
    for topic in topics {
        assert_eq!(broker.values(topic, 0), (0..200).map(value).collect::<Vec<_>>());
        assert_eq!(again.values(topic, 0), (0..200).map(value).collect::<Vec<_>>());
    }
}
