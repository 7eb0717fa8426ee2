//! Dead letters of share groups (KIP-1191): a record that is given up is in the dead-letter topic once it is gone, and not before.

use std::collections::BTreeMap;

use ottla_engine::group::GroupId;
use ottla_engine::group::share::{AckBatch, AckError, AckType, ShareBeat};
use ottla_engine::records::Records;
use ottla_engine::topic::{Isolation, PartitionId};
use ottla_engine::{Lsn, Offset, ShareWant, part_of};

use crate::rig::{Rig, batch};

/// What is set of a topic, the broker or the group.
type Settings<'a> = &'a [(&'a str, &'a str)];

const TO_DLQ: (&str, &str) = ("errors.deadletterqueue.topic.name", "dlq.orders");
const COPIES: (&str, &str) = ("errors.deadletterqueue.copy.record.enable", "true");
const ENABLED: (&str, &str) = ("errors.deadletterqueue.group.enable", "true");

fn group() -> GroupId {
    "billing".into()
}

fn set(settings: Settings<'_>) -> impl FnOnce(&mut BTreeMap<String, String>) {
    let settings: Vec<(String, String)> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    move |all| all.extend(settings)
}

/// A broker with `orders`, a dead-letter topic of two partitions, and a group with a member.
fn desk(of_group: Settings<'_>, of_topic: Settings<'_>) -> Rig {
    let rig = Rig::new();
    rig.topic("orders", 1);
    rig.topic("dlq.orders", 2);
    rig.engine.configure_topic("dlq.orders", set(of_topic), false).unwrap();
    rig.engine.configure_group("billing", set(&[("share.auto.offset.reset", "earliest")])).unwrap();
    rig.engine.configure_group("billing", set(of_group)).unwrap();
    join(&rig);
    rig
}

fn join(rig: &Rig) {
    let beat = ShareBeat {
        member: "m".into(),
        epoch: 0,
        rack: None,
        client_id: "app".into(),
        client_host: "/127.0.0.1".into(),
        topics: Some(vec!["orders".into()]),
    };
    rig.engine.share_heartbeat(&group(), &beat).unwrap().0.unwrap();
    rig.sync();
}

fn produce(rig: &Rig, values: &[&str]) {
    let now = rig.engine.now();
    rig.engine.produce(&rig.partition("orders"), batch(values), now).unwrap();
    rig.sync();
}

/// The offsets that the member is given now, and how often they have been delivered.
fn take(rig: &Rig) -> Vec<(i64, u16)> {
    let want = ShareWant {
        records_max: 100_000,
        bytes_max: 32 << 20,
        batch_size: 1_000,
        strict: false,
        cached_only: false,
    };
    let shared = rig.engine.share_fetch(&group(), &"m".into(), &rig.partition("orders"), want);
    let shared = shared.unwrap().unwrap();
    let offsets = |run: &ottla_engine::group::share::Acquired| {
        (run.first..=run.last).map(|at| (at, run.count)).collect::<Vec<_>>()
    };
    shared.acquired.iter().flat_map(offsets).collect()
}

fn say(rig: &Rig, first: i64, types: &[AckType]) -> Result<Lsn, AckError> {
    let last = first + i64::try_from(types.len()).unwrap() - 1;
    let batches = vec![AckBatch { first, last, types: types.to_vec() }];
    let part = part_of(&rig.partition("orders"));
    let (results, lsn) =
        rig.engine.share_acknowledge(&group(), &"m".into(), &[(part, batches)]).unwrap();
    results.into_iter().next().unwrap().map(|()| lsn)
}

/// One dead letter: offset and key, value and the other headers as text.
type Letter = (i64, Option<String>, Option<String>, Vec<(String, String)>);

fn letters(rig: &Rig) -> Vec<Letter> {
    let mut found = Vec::new();
    let topic = rig.engine.catalog().topic("dlq.orders").cloned();
    for index in 0.. {
        let partition = topic.as_ref().and_then(|topic| topic.partition(PartitionId(index)));
        let Some(partition) = partition else { break };
        let mut next = Offset::ZERO;
        loop {
            let store = rig.engine.store();
            let isolation = Isolation::ReadUncommitted;
            let fetched = partition.fetch(store, next, 1 << 20, isolation, false).unwrap().unwrap();
            if fetched.batches.bytes == 0 {
                break;
            }
            for batch in fetched.batches.pieces.into_iter().flat_map(ottla_engine::batch::split) {
                let batch = batch.unwrap();
                let records = Records::open(&batch).unwrap();
                next = records.header().next_offset();
                found.extend(records.iter().map(|record| letter(&record.unwrap())));
            }
        }
    }
    found
}

fn letter(record: &ottla_engine::records::Record<'_>) -> Letter {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut headers = Vec::new();
    for (name, value) in record.headers {
        headers.push((text(name), text(value.unwrap())));
    }
    let at = headers.iter().position(|(name, _)| name == "__dlq.errors.offset").unwrap();
    let offset = headers.remove(at).1.parse().unwrap();
    (offset, record.key.map(text), record.value.map(text), headers)
}

fn offsets(letters: &[Letter]) -> Vec<i64> {
    letters.iter().map(|letter| letter.0).collect()
}

#[test]
fn a_rejected_record_is_a_dead_letter_with_kafkas_headers() {
    let rig = desk(&[TO_DLQ], &[ENABLED]);
    produce(&rig, &["a", "b", "c"]);
    assert_eq!(take(&rig), [(0, 1), (1, 1), (2, 1)]);
    say(&rig, 0, &[AckType::Accept, AckType::Reject, AckType::Release]).unwrap();
    rig.sync();
    let told = [
        ("topic", "orders"),
        ("partition", "0"),
        ("group", "billing"),
        ("delivery.count", "1"),
        ("message", "Offset rejected by client."),
    ];
    let headers = told.map(|(name, value)| (format!("__dlq.errors.{name}"), value.to_owned()));
    assert_eq!(letters(&rig), [(1, None, None, headers.to_vec())], "key and value only on request");
    assert_eq!(take(&rig), [(2, 2)]);
}

#[test]
fn a_dead_letter_carries_its_record_where_the_group_wants_it() {
    let rig = desk(&[TO_DLQ, COPIES], &[ENABLED]);
    produce(&rig, &["a", "b"]);
    produce(&rig, &["c"]);
    take(&rig);
    say(&rig, 0, &[AckType::Accept, AckType::Reject, AckType::Reject]).unwrap();
    rig.keep(); // the source may be read from its segment, too
    let found: Vec<_> = letters(&rig).into_iter().map(|letter| (letter.0, letter.2)).collect();
    assert_eq!(found, [(1, Some("b".to_owned())), (2, Some("c".to_owned()))]);
}

#[test]
fn a_record_that_comes_back_from_its_last_delivery_is_a_dead_letter() {
    let rig = desk(&[TO_DLQ, ("share.delivery.count.limit", "2")], &[ENABLED]);
    produce(&rig, &["a"]);
    for count in 1..=2 {
        assert!(letters(&rig).is_empty());
        assert_eq!(take(&rig), [(0, count)]);
        say(&rig, 0, &[AckType::Release]).unwrap();
        rig.sync();
    }
    let [(0, None, None, headers)] = &letters(&rig)[..] else { panic!() };
    assert_eq!(headers[3].1, "2");
    assert_eq!(headers[4].1, "Offset delivery count exceeded the threshold.");
    assert!(take(&rig).is_empty());
}

#[test]
fn so_is_one_whose_last_holder_says_nothing() {
    let rig = desk(&[TO_DLQ, COPIES, ("share.delivery.count.limit", "2")], &[ENABLED]);
    produce(&rig, &["a", "b"]);
    for count in 1..=2 {
        assert!(letters(&rig).is_empty());
        assert_eq!(take(&rig), [(0, count), (1, count)]);
        rig.pass(30_001);
    }
    let found: Vec<_> = letters(&rig).into_iter().map(|letter| (letter.0, letter.2)).collect();
    assert_eq!(found, [(0, Some("a".to_owned())), (1, Some("b".to_owned()))]);
    join(&rig);
    assert!(take(&rig).is_empty());
}

/// Three rejections; power fails with any part of them on the disk.
#[test]
fn through_a_power_cut_each_record_is_in_exactly_one_place() {
    let mut split = 0;
    for seed in 0..40 {
        let rig = desk(&[TO_DLQ, COPIES], &[ENABLED]);
        produce(&rig, &["a", "b", "c", "d"]);
        take(&rig);
        for at in 0..3 {
            say(&rig, at, &[AckType::Reject]).unwrap();
            if seed % 4 == u64::try_from(at).unwrap() {
                rig.sync();
            }
        }
        let rig = rig.power_cut_as(seed);
        join(&rig);
        let buried = offsets(&letters(&rig));
        let alive: Vec<i64> = take(&rig).into_iter().map(|(offset, _)| offset).collect();
        let mut all = [buried.clone(), alive].concat();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3], "seed {seed}: {buried:?} have letters");
        split += usize::from((1..3).contains(&buried.len()));
    }
    assert!(split > 5, "the power always failed at the same place");
}

#[test]
fn more_than_a_frame_of_letters_is_several_frames_and_each_letter_comes_once() {
    let rig = desk(&[TO_DLQ, COPIES], &[ENABLED]);
    let value = "x".repeat(4_000);
    for _ in 0..10 {
        produce(&rig, &[value.as_str(); 100]); // 4 MB
        rig.keep();
    }
    let mut taken = 0;
    while taken < 1_000 {
        let held = i64::try_from(take(&rig).len()).unwrap();
        assert!(held > 0, "{taken} were taken");
        let batches =
            vec![AckBatch { first: taken, last: taken + held - 1, types: vec![AckType::Reject] }];
        let part = part_of(&rig.partition("orders"));
        let done = rig.engine.share_acknowledge(&group(), &"m".into(), &[(part, batches)]);
        assert_eq!(done.unwrap().0, [Ok(())]);
        rig.keep();
        taken += held;
    }
    while rig.engine.has_dying() {
        rig.engine.bury();
        rig.keep();
    }
    let found = letters(&rig);
    assert_eq!(offsets(&found), (0..1_000).collect::<Vec<_>>());
    assert!(found.iter().all(|letter| letter.2.as_deref() == Some(&value)));
    assert!(take(&rig).is_empty());
}

#[test]
fn acknowledgements_that_are_refused_bury_nothing() {
    let rig = desk(&[TO_DLQ], &[ENABLED]);
    produce(&rig, &["a", "b"]);
    take(&rig);
    assert_eq!(say(&rig, 1, &[AckType::Reject, AckType::Reject]), Err(AckError::InvalidState));
    rig.sync();
    assert!(letters(&rig).is_empty());
    say(&rig, 0, &[AckType::Accept, AckType::Accept]).unwrap();
}

/// Kafka gives records up all the same, without a letter.
#[test]
fn topics_that_may_not_be_used_get_no_letters() {
    let misuse: [(Settings<'_>, Settings<'_>, Settings<'_>); 5] = [
        (&[TO_DLQ], &[], &[]),
        (&[("errors.deadletterqueue.topic.name", "dlq.other")], &[ENABLED], &[]),
        (
            &[("errors.deadletterqueue.topic.name", "__dlq")],
            &[ENABLED],
            &[("errors.deadletterqueue.auto.create.topics.enable", "true")],
        ),
        (&[TO_DLQ], &[ENABLED], &[("errors.deadletterqueue.topic.name.prefix", "dead.")]),
        (&[TO_DLQ], &[ENABLED, ("cleanup.policy", "compact")], &[]),
    ];
    for (of_group, of_topic, of_broker) in misuse {
        let rig = desk(of_group, of_topic);
        rig.engine.configure_broker(set(of_broker)).unwrap();
        produce(&rig, &["a"]);
        take(&rig);
        say(&rig, 0, &[AckType::Reject]).unwrap();
        rig.sync();
        assert!(letters(&rig).is_empty(), "{of_group:?} {of_topic:?} {of_broker:?}");
        assert!(take(&rig).is_empty());
    }
}

#[test]
fn a_dead_letter_topic_is_made_where_the_broker_is_told_so() {
    let rig = Rig::new();
    rig.topic("orders", 1);
    rig.engine
        .configure_broker(set(&[("errors.deadletterqueue.auto.create.topics.enable", "true")]))
        .unwrap();
    rig.engine
        .configure_group("billing", set(&[TO_DLQ, ("share.auto.offset.reset", "earliest")]))
        .unwrap();
    join(&rig);
    produce(&rig, &["a"]);
    take(&rig);
    say(&rig, 0, &[AckType::Reject]).unwrap();
    rig.sync();
    let rig = rig.power_cut();
    assert_eq!(offsets(&letters(&rig)), [0]);
    let topic = rig.engine.catalog().topic("dlq.orders").cloned().unwrap();
    assert_eq!(topic.overrides().get(ENABLED.0).map(String::as_str), Some("true"));
}

/// A desk with five records on a full disk; `big` is what to delete.
fn full_desk(of_group: Settings<'_>) -> Rig {
    let rig = desk(&[TO_DLQ, COPIES], &[ENABLED]);
    rig.engine.configure_group("billing", set(of_group)).unwrap();
    rig.topic("big", 1);
    produce(&rig, &[&"x".repeat(9_000), "b", "c", "d", "e"]);
    rig.keep();
    rig.limit_disk(3 << 20);
    assert!(crate::full_disk::fill(&rig, "big") > 0);
    rig
}

fn make_room(rig: &Rig) {
    rig.engine.delete_topic(rig.partition("big").topic()).unwrap();
    rig.keep();
    rig.pass(1_000);
}

#[test]
fn a_full_disk_takes_all_acknowledgements_and_writes_the_letters_once_there_is_room() {
    let rig = full_desk(&[]);
    take(&rig);
    say(&rig, 0, &[AckType::Reject, AckType::Accept, AckType::Release]).unwrap();
    rig.pass(1_000);
    assert!(letters(&rig).is_empty(), "there is no room");
    assert_eq!(say(&rig, 0, &[AckType::Accept]), Err(AckError::InvalidState), "it was rejected");
    assert_eq!(take(&rig), [(2, 2)], "what was released comes again, what was rejected does not");
    rig.limit_disk(1 << 30);
    let rig = rig.power_cut();
    rig.limit_disk(1 << 20); // less than is there
    rig.keep();
    rig.pass(1_000);
    join(&rig);
    assert!(letters(&rig).is_empty());
    assert_eq!(take(&rig), [(2, 2), (3, 1), (4, 1)], "the rejection is as durable as any other");
    rig.limit_disk(3 << 20);
    make_room(&rig);
    let found = letters(&rig);
    assert_eq!(offsets(&found), [0]);
    assert_eq!(found[0].2.as_deref(), Some(&*"x".repeat(9_000)));
    assert_eq!(found[0].3[4].1, "Offset rejected by client.");
    rig.pass(2_000);
    assert_eq!(letters(&rig).len(), 1, "each letter comes once");
}

#[test]
fn a_full_disk_does_not_stop_sessions_and_locks_from_ending() {
    let rig = full_desk(&[("share.delivery.count.limit", "2")]);
    take(&rig);
    say(&rig, 0, &[AckType::Release, AckType::Release]).unwrap();
    assert_eq!(take(&rig), [(0, 2), (1, 2)]);
    rig.pass(30_001);
    assert_eq!(take(&rig), [(2, 2), (3, 2), (4, 2)], "locks have ended, and two records with them");
    let members = |rig: &Rig| {
        rig.engine
            .read_group(&group(), |group| group.as_share().unwrap().remembered().members.len())
    };
    assert_eq!(members(&rig).0, Some(1));
    rig.pass(20_000);
    assert_eq!(members(&rig).0, Some(0), "so has the session of a silent member");
    rig.pass(20_000);
    assert!(letters(&rig).is_empty());
    make_room(&rig);
    assert_eq!(offsets(&letters(&rig)), [0, 1, 2, 3, 4]);
    let lag = rig.engine.share_lag(&group(), &rig.partition("orders")).unwrap().0.unwrap();
    assert_eq!((lag.start, lag.lag), (5, 0));
}

/// Kafka gives them up without, too.
#[test]
fn records_that_wait_for_letters_are_let_go_where_the_group_wants_none_any_more() {
    let rig = full_desk(&[]);
    take(&rig);
    say(&rig, 0, &[AckType::Reject]).unwrap();
    rig.engine.configure_group("billing", |all| drop(all.remove(TO_DLQ.0))).unwrap();
    rig.pass(1_000);
    let lag = rig.engine.share_lag(&group(), &rig.partition("orders")).unwrap().0.unwrap();
    assert_eq!((lag.start, lag.lag), (1, 4));
    make_room(&rig);
    assert!(letters(&rig).is_empty());
}

/// However much was given up at once, in however many partitions and groups.
#[test]
fn one_look_at_the_dead_reads_a_bounded_piece_of_the_log() {
    let rig = full_desk(&[]);
    make_room(&rig);
    rig.limit_disk(1 << 30);
    let value = "x".repeat(40_000);
    for _ in 0..20 {
        produce(&rig, &[value.as_str(); 10]); // 8 MB
        rig.keep();
    }
    rig.limit_disk(1 << 20); // less than is there
    rig.keep();
    let mut held = 0;
    while held < 205 {
        held += take(&rig).len();
    }
    say(&rig, 0, &vec![AckType::Reject; held]).unwrap();
    assert!(letters(&rig).is_empty());
    rig.limit_disk(1 << 30);
    rig.keep();
    rig.elapse(1_000);
    let mut calls = 0;
    let mut before = 0;
    while rig.engine.has_dying() {
        calls += 1;
        rig.engine.bury();
        rig.keep();
        let count = letters(&rig).len();
        assert!(count > before && count - before < 64, "{} at once", count - before);
        before = count;
    }
    assert!(calls >= 8, "8 MB in {calls} calls");
    assert_eq!(offsets(&letters(&rig)), (0..205).collect::<Vec<_>>());
}
