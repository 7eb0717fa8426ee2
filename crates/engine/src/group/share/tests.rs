//! One story for each rule of KIP-932.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::group::assignor::Parts;

pub(super) struct Shelf(pub(super) BTreeMap<String, (TopicId, u32)>, pub(super) u64);

impl Topics for Shelf {
    fn version(&self) -> u64 {
        self.1
    }

    fn find(&self, name: &str) -> Option<(TopicId, u32)> {
        self.0.get(name).copied()
    }

    fn each(&self, visit: &mut dyn FnMut(&str, TopicId, u32)) {
        for (name, (id, partitions)) in &self.0 {
            visit(name, *id, *partitions);
        }
    }
}

pub(super) const ORDERS: Part = Part { topic: TopicId([1; 16]), partition: 0 };

pub(super) fn at(ms: u64) -> Now {
    Now { monotonic: Monotonic(ms), ..Now::default() }
}

pub(super) fn shelf(partitions: u32) -> Shelf {
    Shelf(BTreeMap::from([("orders".to_owned(), (ORDERS.topic, partitions))]), 1)
}

pub(super) fn beat(member: &str, epoch: i32) -> ShareBeat {
    ShareBeat {
        member: member.into(),
        epoch,
        rack: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        topics: (epoch == 0).then(|| vec![Arc::from("orders")]),
    }
}

/// A group that shares partition 0 from offset 0, with its log of records.
struct Desk {
    group: ShareGroup,
    log: Vec<ShareRecord>,
    now: Now,
}

impl Desk {
    fn new() -> Self {
        let mut group = ShareGroup::new(ShareSettings::default());
        let log = vec![group.start(ORDERS, 0, at(0))];
        Self { group, log, now: at(0) }
    }

    /// Takes from the batches `spans` what is free.
    fn take(&mut self, member: &str, spans: &[(i64, i64)], max: u32) -> Vec<(i64, i64, u16)> {
        let spans: Vec<Span> = spans
            .iter()
            .map(|(first, last)| Span { first: *first, last: *last, hidden: false })
            .collect();
        self.take_spans(member, &spans, max, false)
    }

    fn take_spans(
        &mut self,
        member: &str,
        spans: &[Span],
        records_max: u32,
        strict: bool,
    ) -> Vec<(i64, i64, u16)> {
        let (next, records) = self.group.next(ORDERS, 0);
        self.log.extend(records);
        let Some(from) = next else { return Vec::new() };
        let spans: Vec<Span> = spans.iter().filter(|span| span.last >= from).copied().collect();
        let member = member.into();
        let locks_max = self.group.settings().locks_max;
        let take = Take {
            member: &member,
            from,
            spans: &spans,
            records_max,
            strict,
            batch_size: 500,
            locks_max,
        };
        let (acquired, records) = self.group.acquire(ORDERS, &take, self.now);
        self.log.extend(records);
        acquired.iter().map(|a| (a.first, a.last, a.count)).collect()
    }

    fn ack(&mut self, member: &str, first: i64, last: i64, types: &[i8]) -> Result<(), AckError> {
        let types = types.iter().filter_map(|code| AckType::from_code(*code)).collect();
        let batches = [AckBatch { first, last, types }];
        let records = self.group.acknowledge(ORDERS, &member.into(), &batches, self.now)?;
        self.log.extend(records);
        Ok(())
    }

    fn pass(&mut self, ms: u64) {
        self.now = at(self.now.monotonic.0 + ms);
        self.log.extend(self.group.tick(self.now));
    }

    fn start(&self) -> i64 {
        self.group.lag(ORDERS, 0).unwrap().start
    }

    /// Kill and restart: the fold of the log is all that is left.
    fn crash(&mut self) {
        let mut fold = RememberedShares::default();
        for record in self.log.clone() {
            fold.replay(record);
        }
        assert_eq!(&fold, self.group.remembered());
        self.group = ShareGroup::restore(*self.group.settings(), fold, self.now);
    }
}

#[test]
fn two_members_share_one_partition_and_nobody_gets_the_others_records() {
    let mut desk = Desk::new();
    let log: Vec<(i64, i64)> = (0..4).map(|n| (n * 10, n * 10 + 9)).collect();
    assert_eq!(desk.take("a", &log, 15), [(0, 19, 1)], "the batch that reaches the limit is whole");
    assert_eq!(desk.take("b", &log, 500), [(20, 39, 1)]);
    assert_eq!(desk.take("a", &log, 500), []);
    assert_eq!(desk.ack("b", 0, 0, &[1]), Err(AckError::InvalidState));
    assert_eq!(desk.ack("b", 20, 39, &[1]), Ok(()));
    assert_eq!(desk.start(), 0, "what lies before is not done");
    assert_eq!(desk.ack("a", 0, 19, &[1]), Ok(()));
    assert_eq!(desk.start(), 40);
    assert_eq!(desk.group.lag(ORDERS, 45).unwrap().lag, 5);
}

#[test]
fn strict_takers_get_no_record_too_many() {
    let mut desk = Desk::new();
    let span = [Span { first: 0, last: 9, hidden: false }];
    assert_eq!(desk.take_spans("a", &span, 4, true), [(0, 3, 1)]);
    assert_eq!(desk.take_spans("b", &span, 4, true), [(4, 7, 1)]);
    assert_eq!(desk.take_spans("b", &span, 4, true), [(8, 9, 1)]);
}

#[test]
fn released_records_come_again_with_a_higher_count_and_end_at_the_limit() {
    let mut desk = Desk::new();
    for count in 1..=5 {
        assert_eq!(desk.take("a", &[(0, 1)], 10), [(0, 1, count)]);
        assert_eq!(desk.ack("a", 0, 1, &[2]), Ok(()));
    }
    assert_eq!(desk.take("a", &[(0, 1)], 10), [], "archived after the fifth delivery");
    assert_eq!(desk.start(), 2);
}

#[test]
fn each_type_of_acknowledgement_has_its_effect() {
    // KIP-932: 0 gap, 1 accept, 2 release, 3 reject, and 4 renew of KIP-1222
    let mut desk = Desk::new();
    assert_eq!(desk.take("a", &[(0, 4)], 10), [(0, 4, 1)]);
    desk.pass(20_000);
    assert_eq!(desk.ack("a", 0, 4, &[0, 1, 2, 3, 4]), Ok(()));
    assert_eq!(desk.start(), 2);
    assert_eq!(desk.take("b", &[(0, 4)], 10), [(2, 2, 2)]);
    desk.pass(10_000);
    assert_eq!(desk.take("b", &[(0, 4)], 10), [], "the renewed lock still holds");
    desk.pass(20_000);
    assert_eq!(desk.take("b", &[(0, 4)], 10), [(2, 2, 3), (4, 4, 2)], "both locks have ended");
}

#[test]
fn one_bad_batch_refuses_all_of_the_partition() {
    let mut desk = Desk::new();
    desk.take("a", &[(0, 9)], 10);
    let batches = [(0, 4), (8, 12)].map(|(first, last)| AckBatch {
        first,
        last,
        types: vec![AckType::Accept],
    });
    let refused = desk.group.acknowledge(ORDERS, &"a".into(), &batches, desk.now);
    assert_eq!(refused, Err(AckError::InvalidState));
    assert_eq!(desk.start(), 0);
    assert_eq!(desk.ack("a", 0, 9, &[1]), Ok(()), "still held");
    assert_eq!(desk.ack("a", 0, 9, &[1]), Ok(()), "below the start: done with long ago");
    assert_eq!(desk.ack("a", 10, 10, &[1]), Err(AckError::InvalidState), "never delivered");
}

#[test]
fn batches_that_cannot_be_meant_are_refused() {
    let batch = |first, last, count| AckBatch { first, last, types: vec![AckType::Accept; count] };
    for bad in [
        vec![batch(3, 2, 1)],
        vec![batch(0, 2, 2)],
        vec![batch(0, 2, 0)],
        vec![batch(0, 2, 1), batch(2, 3, 1)],
        vec![batch(-1, 2, 1)],
        vec![batch(0, i64::MAX, 2)],
    ] {
        assert!(matches!(check_batches(&bad), Err(AckError::InvalidRequest(_))), "{bad:?}");
    }
    assert_eq!(check_batches(&[batch(0, 2, 3), batch(5, 900, 1)]), Ok(()));
}

#[test]
fn a_lock_that_times_out_gives_the_record_to_the_next() {
    let mut desk = Desk::new();
    desk.take("a", &[(0, 0)], 1);
    assert_eq!(desk.group.deadline(), Some(Monotonic(30_000)));
    desk.pass(29_999);
    assert_eq!(desk.take("b", &[(0, 0)], 1), []);
    desk.pass(1);
    assert_eq!(desk.take("b", &[(0, 0)], 1), [(0, 0, 2)]);
    assert_eq!(desk.ack("a", 0, 0, &[1]), Err(AckError::InvalidState), "too late");
    assert_eq!(desk.ack("b", 0, 0, &[1]), Ok(()));
}

#[test]
fn the_end_of_a_session_gives_back_without_counting() {
    let mut desk = Desk::new();
    desk.take("a", &[(0, 4)], 10);
    assert!(desk.group.release(&"a".into()));
    assert!(!desk.group.release(&"a".into()));
    assert_eq!(desk.take("b", &[(0, 4)], 10), [(0, 4, 1)]);
}

#[test]
fn the_window_does_not_grow_beyond_its_limit() {
    let mut desk = Desk::new();
    let log: Vec<(i64, i64)> = (0..30).map(|n| (n * 100, n * 100 + 99)).collect();
    let taken = desk.take("a", &log, 10_000);
    assert_eq!(taken.last().unwrap().1, 1_999);
    assert_eq!(desk.take("b", &log, 10_000), []);
    assert_eq!(desk.ack("a", 100, 1_999, &[1]), Ok(()));
    assert_eq!(desk.take("b", &log, 10_000), [], "the first batch still holds the window");
    assert_eq!(desk.ack("a", 0, 0, &[2]), Ok(()));
    assert_eq!(desk.take("b", &log, 1), [(0, 0, 2)], "what came back is inside");
    assert_eq!(desk.ack("b", 0, 0, &[1]), Ok(()));
    assert_eq!(desk.ack("a", 1, 99, &[1]), Ok(()));
    assert_eq!(desk.take("b", &log, 10), [(2_000, 2_099, 1)]);
}

#[test]
fn markers_and_compacted_offsets_are_nobodys() {
    let mut desk = Desk::new();
    let span = |first, last, hidden| Span { first, last, hidden };
    let spans = [span(2, 3, false), span(4, 4, true), span(7, 8, false), span(9, 9, true)];
    assert_eq!(desk.take_spans("a", &spans, 100, false), [(2, 3, 1), (7, 8, 1)]);
    assert_eq!(desk.start(), 2);
    assert_eq!(desk.ack("a", 2, 3, &[1]), Ok(()));
    assert_eq!(desk.start(), 7);
    assert_eq!(desk.ack("a", 7, 8, &[1]), Ok(()));
    assert_eq!(desk.start(), 10);
    desk.crash();
    assert_eq!(desk.start(), 10);
}

#[test]
fn records_that_were_deleted_are_not_waited_for() {
    let mut desk = Desk::new();
    desk.take("a", &[(0, 9)], 10);
    let (next, records) = desk.group.next(ORDERS, 5);
    desk.log.extend(records);
    assert_eq!((next, desk.start()), (Some(10), 5));
    assert_eq!(desk.ack("a", 0, 9, &[1]), Ok(()), "what is gone is not judged");
    assert_eq!(desk.start(), 10);
    desk.crash();
}

#[test]
fn after_a_crash_accepted_records_stay_away_and_held_ones_come_again() {
    let mut desk = Desk::new();
    desk.take("a", &[(0, 9)], 10);
    desk.ack("a", 0, 2, &[1]).unwrap();
    desk.ack("a", 5, 5, &[1]).unwrap();
    desk.ack("a", 6, 6, &[2]).unwrap();
    desk.ack("a", 7, 7, &[3]).unwrap();
    desk.crash();
    assert_eq!(desk.take("b", &[(0, 9)], 10), [(3, 4, 1), (6, 6, 2), (8, 9, 1)]);
}

#[test]
fn altered_offsets_forget_what_was_done() {
    let mut desk = Desk::new();
    desk.take("a", &[(0, 9)], 10);
    desk.ack("a", 0, 9, &[1]).unwrap();
    let record = desk.group.start(ORDERS, 4, desk.now);
    desk.log.push(record);
    assert_eq!(desk.take("b", &[(0, 9)], 10), [(4, 9, 1)]);
    let record = desk.group.forget([ORDERS.topic].into()).unwrap();
    desk.log.push(record);
    assert!(!desk.group.shares(ORDERS));
    assert_eq!(desk.ack("b", 4, 4, &[1]), Err(AckError::UnknownPartition));
    assert_eq!(desk.group.forget([ORDERS.topic].into()), None);
    desk.crash();
}

fn parts(numbers: &[i32]) -> Parts {
    numbers.iter().map(|n| Part { topic: ORDERS.topic, partition: *n }).collect()
}

#[test]
fn every_member_gets_partitions_and_every_partition_a_member() {
    let mut group = ShareGroup::new(ShareSettings::default());
    let topics = shelf(2);
    let mut say = |member: &str, epoch| group.heartbeat(&beat(member, epoch), &topics, at(0)).0;
    let told = say("a", 0).unwrap();
    assert_eq!((told.epoch, told.assignment), (1, Some(parts(&[0, 1]))));
    assert_eq!(say("b", 0).unwrap().assignment, Some(parts(&[1])));
    let told = say("c", 0).unwrap();
    assert_eq!(
        (told.epoch, told.assignment),
        (3, Some(parts(&[0]))),
        "more members than partitions"
    );
    let told = say("a", 1).unwrap();
    assert_eq!((told.epoch, told.assignment), (3, Some(parts(&[0]))));
    assert_eq!(say("a", 3).unwrap().assignment, None, "as before");
    assert_eq!(say("a", 1).unwrap().epoch, 3, "the answer was lost");
    assert_eq!(say("a", 2), Err(ShareBeatError::FencedEpoch));
    assert_eq!(say("b", -1).unwrap().epoch, -1);
    assert_eq!(say("b", 2), Err(ShareBeatError::UnknownMember("b".into())));
    assert_eq!(say("a", 3).unwrap().assignment, None, "partition 0 stays with a");
    assert_eq!(say("c", 3).unwrap().assignment, Some(parts(&[1])));
}

#[test]
fn heartbeats_that_kafka_refuses_are_refused() {
    let mut group = ShareGroup::new(ShareSettings { members_max: 1, ..ShareSettings::default() });
    let topics = shelf(1);
    let invalid = |why| Err(ShareBeatError::InvalidRequest(why));
    let mut say = |beat: &ShareBeat| group.heartbeat(beat, &topics, at(0)).0;
    assert_eq!(say(&beat("", 0)), invalid("MemberId can't be empty."));
    assert_eq!(say(&beat(&"x".repeat(37), 0)), invalid("MemberId is too long."));
    assert_eq!(say(&beat("a", -2)), invalid("MemberEpoch is invalid."));
    let silent = ShareBeat { topics: None, ..beat("a", 0) };
    assert_eq!(say(&silent), invalid("SubscribedTopicNames must be set in first request."));
    assert!(say(&beat(&"x".repeat(36), 0)).is_ok());
    assert_eq!(say(&beat("b", 0)), Err(ShareBeatError::GroupFull));
}

#[test]
fn silent_members_are_removed_and_new_partitions_are_seen() {
    let mut group = ShareGroup::new(ShareSettings::default());
    group.heartbeat(&beat("a", 0), &shelf(1), at(0)).0.unwrap();
    group.heartbeat(&beat("b", 0), &shelf(1), at(10_000)).0.unwrap();
    assert_eq!(group.deadline(), Some(Monotonic(45_000)));
    assert_eq!(group.tick(at(45_000)), [ShareRecord::Gone { members: vec!["a".into()] }]);
    let more = Shelf(shelf(3).0, 2);
    let told = group.heartbeat(&beat("b", 2), &more, at(45_000)).0.unwrap();
    assert_eq!((told.epoch, told.assignment), (3, Some(parts(&[0, 1, 2]))));
    assert_eq!(group.state(), ShareState::Stable);
    group.tick(at(90_000));
    assert_eq!(group.state().to_string(), "Empty");
}
