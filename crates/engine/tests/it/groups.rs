//! Groups and their offsets: what was told is remembered.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ottla_engine::group::classic::{
    Answer, Command, CommitError, Committer, Heartbeat, HeartbeatError, Join, JoinError, Joined,
    Sync,
};
use ottla_engine::group::consumer::{Beat, Beaten};
use ottla_engine::group::offsets::Commit;
use ottla_engine::group::{Generation, GroupId, MemberId};
use ottla_engine::{CommitFailure, CommitRefused, DeleteGroupError, Lsn};

use crate::rig::Rig;

/// Where an answer arrives.
#[derive(Clone, Default)]
struct Letter(Arc<Mutex<Option<(Answer, Lsn)>>>);

impl Letter {
    fn arrived(&self) -> Option<(Answer, Lsn)> {
        self.0.lock().unwrap().take()
    }

    fn joined(&self) -> Joined {
        match self.arrived() {
            Some((Answer::Join(Ok(joined)), _)) => joined,
            other => panic!("not joined: {other:?}"),
        }
    }
}

fn group() -> GroupId {
    "billing".into()
}

fn send(rig: &Rig, command: Command) -> Letter {
    let letter = Letter::default();
    let place = letter.clone();
    let reply = Box::new(move |answer, lsn| *place.0.lock().unwrap() = Some((answer, lsn)));
    rig.engine.classic(&group(), command, reply).unwrap();
    letter
}

fn join(rig: &Rig, member: Option<&MemberId>) -> Letter {
    let join = Join {
        ticket: rig.engine.ticket(),
        member: member.cloned(),
        instance: None,
        client_id: "app".into(),
        client_host: "/127.0.0.1".into(),
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"orders"))],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        id_required: false,
        can_skip_assignment: false,
        uuid: rig.engine.draw_uuid(),
    };
    send(rig, Command::Join(join))
}

fn sync(rig: &Rig, joined: &Joined, share: &'static [u8]) -> Letter {
    let assignments = vec![(joined.member.clone(), Bytes::from_static(share))];
    let sync = Sync {
        ticket: rig.engine.ticket(),
        member: joined.member.clone(),
        instance: None,
        generation: joined.generation,
        protocol_type: None,
        protocol: None,
        assignments,
    };
    send(rig, Command::Sync(sync))
}

fn beat(rig: &Rig, member: &MemberId, generation: Generation) -> Result<(), HeartbeatError> {
    let ticket = rig.engine.ticket();
    let beat = Heartbeat { ticket, member: member.clone(), instance: None, generation };
    match send(rig, Command::Heartbeat(beat)).arrived() {
        Some((Answer::Heartbeat(outcome), _)) => outcome,
        other => panic!("no heartbeat's answer: {other:?}"),
    }
}

/// One member that joined and has its share.
fn settled(rig: &Rig) -> Joined {
    let joined = join(rig, None).joined();
    let synced = sync(rig, &joined, b"partition 0").arrived();
    assert!(matches!(synced, Some((Answer::Sync(Ok(_)), _))), "{synced:?}");
    rig.sync();
    joined
}

fn simple() -> Committer {
    Committer { member: None, instance: None, generation: Generation::NONE, knows_epochs: false }
}

fn offset(topic: &str, offset: i64) -> Commit {
    let metadata = "so far".into();
    Commit { topic: topic.into(), partition: 0, offset, leader_epoch: Some(0), metadata }
}

pub(crate) fn commit(rig: &Rig, topic: &str, at: i64) -> Lsn {
    let commits = vec![offset(topic, at)];
    let (results, lsn) = rig.engine.commit_offsets(&group(), &simple(), commits, None).unwrap();
    assert_eq!(results, [Ok(())]);
    lsn
}

/// The committed offset and whether the reply would have to wait.
pub(crate) fn committed(rig: &Rig, topic: &str) -> (Option<i64>, Lsn) {
    let read = |group: &ottla_engine::group::Group| {
        group.offsets().fetch(topic, 0, false).unwrap().map(|found| found.offset)
    };
    let (found, lsn) = rig.engine.read_group(&group(), read);
    (found.flatten(), lsn)
}

#[test]
fn a_commit_survives_a_power_cut_from_the_log_and_from_a_snapshot() {
    let mut rig = Rig::new();
    rig.topic("orders", 1);
    for at in 1..=20 {
        let lsn = commit(&rig, "orders", at);
        assert_eq!(committed(&rig, "orders"), (Some(at), lsn), "a read waits for the commit too");
        assert!(!lsn.is_durable(rig.engine.durable()), "told before it is durable");
        if at % 4 == 0 {
            rig.keep();
        }
        rig.sync();
        rig = rig.power_cut();
        assert_eq!(committed(&rig, "orders").0, Some(at));
    }
}

#[test]
fn an_offset_of_a_partition_that_does_not_exist_is_refused_alone() {
    let rig = Rig::new();
    rig.topic("orders", 1);
    let commits = vec![offset("nothing", 1), offset("orders", 2)];
    let (results, _) = rig.engine.commit_offsets(&group(), &simple(), commits, None).unwrap();
    assert_eq!(results, [Err(CommitFailure::UnknownPartition), Ok(())]);
    let member = Committer { generation: Generation(3), ..simple() };
    let other = GroupId::from("another");
    let refused = rig.engine.commit_offsets(&other, &member, vec![offset("orders", 1)], None);
    assert_eq!(refused, Err(CommitRefused::Commit(CommitError::IllegalGeneration)));
}

#[test]
fn a_restart_is_no_rebalance() {
    let rig = Rig::new();
    let joined = settled(&rig);
    let mut rig = rig.power_cut();
    assert_eq!(beat(&rig, &joined.member, joined.generation), Ok(()));
    rig.keep();
    rig = rig.power_cut();
    assert_eq!(beat(&rig, &joined.member, joined.generation), Ok(()));
    let newcomer = join(&rig, None);
    assert!(newcomer.arrived().is_none(), "the other has to come again first");
    let again = beat(&rig, &joined.member, joined.generation);
    assert_eq!(again, Err(HeartbeatError::RebalanceInProgress));
    let rejoined = join(&rig, Some(&joined.member)).joined();
    assert_eq!(rejoined.generation, joined.generation.next(), "no generation comes twice");
    assert_eq!(newcomer.joined().generation, rejoined.generation);
}

#[test]
fn a_member_that_vanished_is_waited_for_until_its_session_ends() {
    let rig = Rig::new();
    let gone = settled(&rig);
    let waiting = join(&rig, None);
    rig.pass(9_000);
    assert!(waiting.arrived().is_none());
    rig.pass(60_000);
    let (answer, lsn) = waiting.arrived().unwrap();
    assert!(matches!(answer, Answer::Join(Ok(_))), "{answer:?}");
    assert!(lsn.is_durable(rig.engine.durable()));
    let late = beat(&rig, &gone.member, gone.generation);
    assert_eq!(late, Err(HeartbeatError::UnknownMember));
}

#[test]
fn whoever_asks_about_a_group_does_not_make_it() {
    let rig = Rig::new();
    let stranger = MemberId::from("stranger");
    assert_eq!(beat(&rig, &stranger, Generation(1)), Err(HeartbeatError::UnknownMember));
    let refused = join(&rig, Some(&stranger)).arrived();
    assert!(matches!(refused, Some((Answer::Join(Err(JoinError::UnknownMember)), _))));
    assert_eq!(committed(&rig, "orders").0, None);
    assert_eq!(rig.engine.list_groups().0, []);
}

#[test]
fn the_offsets_of_a_deleted_topic_do_not_come_back_with_its_name() {
    for keep_between in [false, true] {
        let rig = Rig::new();
        let topic = rig.topic("orders", 1);
        rig.topic("bills", 1);
        commit(&rig, "orders", 7);
        commit(&rig, "bills", 8);
        rig.sync();
        rig.keep();
        rig.engine.delete_topic(topic.id()).unwrap();
        assert_eq!(committed(&rig, "orders").0, None);
        rig.topic("orders", 1);
        if keep_between {
            rig.keep();
        }
        rig.sync();
        let rig = rig.power_cut();
        assert_eq!(committed(&rig, "orders").0, None);
        assert_eq!(committed(&rig, "bills").0, Some(8));
    }
}

#[test]
fn a_deleted_group_stays_deleted_and_one_with_members_is_not_deleted() {
    let rig = Rig::new();
    rig.topic("orders", 1);
    commit(&rig, "orders", 7);
    rig.keep();
    let lsn = rig.engine.delete_group(&group()).unwrap();
    assert_eq!(committed(&rig, "orders"), (None, lsn), "not to be told before it is durable");
    assert_eq!(rig.engine.delete_group(&group()), Err(DeleteGroupError::NotFound));
    rig.sync();
    let rig = rig.power_cut();
    assert_eq!(committed(&rig, "orders").0, None);
    let joined = settled(&rig);
    assert_eq!(rig.engine.delete_group(&group()), Err(DeleteGroupError::NotEmpty));
    assert_eq!(beat(&rig, &joined.member, joined.generation), Ok(()));
}

#[test]
fn offsets_that_nobody_wants_expire_and_their_group_with_them() {
    let rig = Rig::new();
    rig.topic("orders", 1);
    commit(&rig, "orders", 7);
    rig.pass(6 * DAY_MS);
    assert_eq!(committed(&rig, "orders").0, Some(7));
    rig.pass(2 * DAY_MS);
    rig.pass(1);
    assert_eq!(committed(&rig, "orders").0, None);
    assert_eq!(rig.engine.list_groups().0, []);
    let rig = rig.power_cut();
    assert_eq!(rig.engine.list_groups().0, []);
}

fn consumer(rig: &Rig, member: &str, epoch: i32) -> Beaten {
    let first = epoch == 0;
    let beat = Beat {
        member: member.into(),
        epoch,
        instance: None,
        rack: None,
        client_id: "app".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: first.then_some(60_000),
        topics: first.then(|| vec!["orders".into()]),
        regex: None,
        assignor: None,
        owned: first.then(Default::default),
    };
    rig.engine.consumer(&group(), beat).unwrap().0.unwrap()
}

#[test]
fn a_member_of_the_consumer_protocol_keeps_its_share_over_a_restart() {
    let rig = Rig::new();
    rig.topic("orders", 6);
    let joined = consumer(&rig, "a", 0);
    assert_eq!(joined.assignment.map(|parts| parts.len()), Some(6));
    rig.sync();
    let rig = rig.power_cut();
    let next = consumer(&rig, "a", joined.epoch);
    assert_eq!((next.epoch, next.assignment), (joined.epoch, None), "nothing has changed");
    rig.keep();
    let rig = rig.power_cut();
    assert_eq!(consumer(&rig, "a", joined.epoch).epoch, joined.epoch);
    assert_eq!(rig.engine.list_groups().0.first().map(|group| group.kind), Some("consumer"));
    rig.pass(46_000);
    assert_eq!(
        rig.engine.list_groups().0.first().map(|group| group.state.clone()),
        Some("Empty".to_owned()),
        "a silent member is removed"
    );
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
