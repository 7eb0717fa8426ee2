//! Stories of whole groups: protocols that follow one another, expiry, deletion.

use bytes::Bytes;

use super::*;
use crate::group::assignor::{Parts, TopicId};
use crate::group::classic::{Join, Joined, Leave, Leaver, Sync};
use crate::group::ids::{Generation, Ticket};
use crate::group::offsets::{Commit, RETENTION_MS};

pub(super) struct OneTopic;

impl Topics for OneTopic {
    fn version(&self) -> u64 {
        1
    }

    fn find(&self, name: &str) -> Option<(TopicId, u32)> {
        (name == "orders").then_some((TopicId([1; 16]), 2))
    }

    fn each(&self, visit: &mut dyn FnMut(&str, TopicId, u32)) {
        visit("orders", TopicId([1; 16]), 2);
    }
}

struct World {
    group: Group,
    folded: RememberedGroup,
    now: Now,
    tickets: u64,
}

impl World {
    fn new() -> Self {
        let group = Group::new("billing".into(), GroupSettings::default());
        Self { group, folded: RememberedGroup::default(), now: Now::default(), tickets: 0 }
    }

    fn log(&mut self, records: Vec<GroupRecord>) {
        for record in records {
            let bytes = postcard::to_stdvec(&record).unwrap();
            self.folded.replay(postcard::from_bytes(&bytes).unwrap());
        }
        assert_eq!(self.folded, self.group.remembered());
    }

    fn classic(&mut self, command: Command) -> Result<Option<Answer>, OtherProtocol> {
        let effects = self.group.classic(command, &OneTopic, self.now)?;
        let (mut records, mut last) = (Vec::new(), None);
        for effect in effects {
            match effect {
                Effect::Persist(record) => records.push(record),
                Effect::Reply { answer, .. } => last = Some(answer),
            }
        }
        self.log(records);
        Ok(last)
    }

    fn join(&mut self) -> Result<Joined, OtherProtocol> {
        self.tickets += 1;
        let metadata = Bytes::from(subscription::metadata(&["orders"]));
        let answer = self.classic(Command::Join(Join {
            ticket: Ticket(self.tickets),
            member: None,
            instance: None,
            client_id: "c".into(),
            client_host: "/".into(),
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), metadata)],
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            id_required: false,
            can_skip_assignment: false,
            uuid: [0; 16],
        }))?;
        let Some(Answer::Join(Ok(joined))) = answer else { panic!("{answer:?}") };
        self.classic(Command::Sync(Sync {
            ticket: Ticket(self.tickets),
            member: joined.member.clone(),
            instance: None,
            generation: joined.generation,
            protocol_type: None,
            protocol: None,
            assignments: vec![],
        }))?;
        Ok(joined)
    }

    fn leave(&mut self, joined: &Joined) {
        let members = vec![Leaver { member: Some(joined.member.clone()), instance: None }];
        self.classic(Command::Leave(Leave { ticket: Ticket(0), members })).unwrap();
    }

    fn beat(&mut self, epoch: i32) -> Result<i32, OtherProtocol> {
        let beat = Beat {
            member: "m".into(),
            epoch,
            instance: None,
            rack: None,
            client_id: "c".into(),
            client_host: "/".into(),
            rebalance_timeout_ms: Some(60_000),
            topics: Some(vec!["orders".into()]),
            regex: None,
            assignor: None,
            owned: Some(Parts::new()),
        };
        let (answer, effects) = self.group.consumer(beat, &OneTopic, self.now)?;
        let record = |effect| match effect {
            Effect::Persist(record) => record,
            Effect::Reply { .. } => panic!("nobody waits"),
        };
        self.log(effects.into_iter().map(record).collect());
        Ok(answer.unwrap().epoch)
    }

    fn commit(&mut self) {
        let (topic, metadata) = ("orders".into(), "".into());
        let commit = Commit { topic, partition: 0, offset: 7, leader_epoch: None, metadata };
        let (_, record) = self.group.offsets_mut().commit(vec![commit], None, self.now.wall);
        self.log(record.map(GroupRecord::Offsets).into_iter().collect());
    }

    fn expire_after(&mut self, ms: u64) -> Vec<GroupRecord> {
        let records = self.group.expire(RETENTION_MS, self.now.wall.after(ms));
        let kept = records.iter().filter(|r| **r != GroupRecord::Deleted).cloned().collect();
        self.log(kept);
        records
    }
}

#[test]
fn an_empty_group_changes_its_protocol_and_keeps_its_offsets() {
    let mut world = World::new();
    let joined = world.join().unwrap();
    assert_eq!(
        (world.group.state().to_string().as_str(), world.group.protocol_type()),
        ("Stable", "consumer")
    );
    world.commit();
    world.leave(&joined);
    assert_eq!(world.beat(3), Err(OtherProtocol), "nobody has epoch 3 here");
    assert_eq!(world.beat(0), Ok(1));
    assert!(world.group.as_consumer().is_some());
    assert_eq!(world.beat(-1), Ok(-1));
    assert_eq!(world.join().unwrap().generation, Generation(1));
    let kept = world.group.offsets().fetch("orders", 0, true).unwrap().unwrap();
    assert_eq!(kept.offset, 7);
}

#[test]
fn a_group_of_either_protocol_survives_a_restart() {
    let mut world = World::new();
    world.join().unwrap();
    world.commit();
    let again =
        Group::restore("billing".into(), GroupSettings::default(), world.folded.clone(), world.now);
    assert_eq!(again.state(), State::Classic(Phase::Stable));
    assert_eq!(again.remembered(), world.folded);
    let mut world = World::new();
    world.beat(0).unwrap();
    let again =
        Group::restore("billing".into(), GroupSettings::default(), world.folded.clone(), world.now);
    assert_eq!(again.state(), State::Consumer(GroupState::Stable));
    assert_eq!(again.remembered(), world.folded);
}

#[test]
fn only_an_empty_group_is_deleted() {
    let mut world = World::new();
    let joined = world.join().unwrap();
    world.commit();
    assert_eq!(world.group.delete(), Err(DeleteError::NotEmpty));
    world.leave(&joined);
    assert_eq!(world.group.delete(), Ok(GroupRecord::Deleted));
    assert_eq!(world.group.state().to_string(), "Dead");
    assert!(world.group.offsets().is_empty());
}

#[test]
fn offsets_of_subscribed_topics_are_not_deleted() {
    let mut world = World::new();
    assert_eq!(world.group.check_offset_delete("orders"), Ok(()));
    world.join().unwrap();
    assert_eq!(world.group.check_offset_delete("orders"), Err(DeleteError::Subscribed));
    assert_eq!(world.group.check_offset_delete("bills"), Ok(()));
    let mut world = World::new();
    world.beat(0).unwrap();
    assert_eq!(world.group.check_offset_delete("orders"), Err(DeleteError::Subscribed));
}

#[test]
fn a_group_goes_with_its_last_offset() {
    let mut world = World::new();
    let joined = world.join().unwrap();
    world.commit();
    assert_eq!(world.expire_after(10 * RETENTION_MS), vec![], "in use");
    world.leave(&joined);
    assert_eq!(world.expire_after(RETENTION_MS - 1), vec![]);
    let records = world.expire_after(RETENTION_MS);
    assert!(matches!(records.as_slice(), [GroupRecord::Offsets(_), GroupRecord::Deleted]));
    let mut simple = World::new();
    simple.commit();
    assert_eq!(simple.expire_after(RETENTION_MS).len(), 2, "counted from the commit");
}
