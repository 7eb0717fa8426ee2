//! Stories of groups that move between the protocols with their members in them.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::tests::OneTopic;
use super::*;
use crate::group::assignor::{Part, Parts, TopicId};
use crate::group::classic::{
    Heartbeat, HeartbeatError, Join, JoinError, Joined, Leave, Leaver, Sync, SyncError,
};
use crate::group::consumer::{Beaten, MemberState};
use crate::group::ids::{Generation, InstanceId, Ticket};
use crate::group::subscription::{Named, assigned, assignment, metadata_owning};

struct World {
    group: Group,
    folded: RememberedGroup,
    now: Now,
    /// Answers by ticket.
    answers: BTreeMap<Ticket, Answer>,
    tickets: u64,
}

impl World {
    fn new() -> Self {
        let group = Group::new("billing".into(), GroupSettings::default());
        let (folded, answers) = (RememberedGroup::default(), BTreeMap::new());
        Self { group, folded, now: Now::default(), answers, tickets: 0 }
    }

    fn carry_out(&mut self, effects: Vec<GroupEffect>) {
        for effect in effects {
            match effect {
                Effect::Persist(record) => {
                    let bytes = postcard::to_stdvec(&record).unwrap();
                    self.folded.replay(postcard::from_bytes(&bytes).unwrap());
                }
                Effect::Reply { ticket, answer } => {
                    assert!(self.answers.insert(ticket, answer).is_none(), "answered twice");
                }
            }
        }
        assert_eq!(self.folded, self.group.remembered());
    }

    fn send(&mut self, command: impl FnOnce(Ticket) -> Command) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let effects = self.group.classic(command(ticket), &OneTopic, self.now).unwrap();
        self.carry_out(effects);
        ticket
    }

    fn ask(&mut self, command: impl FnOnce(Ticket) -> Command) -> Answer {
        let ticket = self.send(command);
        self.answers.remove(&ticket).expect("an answer at once")
    }

    fn start_join(&mut self, name: &str, owned: &[i32], instance: Option<&str>) -> Ticket {
        let owned: Named = match owned {
            [] => vec![],
            owned => vec![("orders".into(), owned.to_vec())],
        };
        let metadata = Bytes::from(metadata_owning(&["orders"], &owned));
        let (member, instance) =
            (Some(name).filter(|_| instance.is_none()), instance.map(Into::into));
        self.send(|ticket| {
            Command::Join(Join {
                ticket,
                member: member.map(Into::into),
                instance,
                client_id: name.into(),
                client_host: "/".into(),
                protocol_type: "consumer".into(),
                protocols: vec![("cooperative-sticky".into(), metadata)],
                session_timeout_ms: 10_000,
                rebalance_timeout_ms: 60_000,
                id_required: false,
                can_skip_assignment: true,
                uuid: [9; 16],
            })
        })
    }

    fn joined(&mut self, ticket: Ticket) -> Joined {
        let answer = self.answers.remove(&ticket);
        let Some(Answer::Join(Ok(joined))) = answer else { panic!("{answer:?}") };
        joined
    }

    /// A member of the empty or moving group joins and is answered at once.
    fn join(&mut self, name: &str, owned: &[i32]) -> Joined {
        let ticket = self.start_join(name, owned, None);
        self.joined(ticket)
    }

    fn sync(
        &mut self,
        joined: &Joined,
        plan: &[(&MemberId, &[i32])],
    ) -> Result<Vec<i32>, SyncError> {
        let write = |partitions: &[i32]| match partitions {
            [] => Bytes::new(),
            some => assignment(1, &vec![("orders".into(), some.to_vec())]),
        };
        let assignments = plan.iter().map(|(id, own)| ((*id).clone(), write(own))).collect();
        let answer = self.ask(|ticket| {
            Command::Sync(Sync {
                ticket,
                member: joined.member.clone(),
                instance: None,
                generation: joined.generation,
                protocol_type: Some("consumer".into()),
                protocol: Some(joined.protocol.clone()),
                assignments,
            })
        });
        let Answer::Sync(synced) = answer else { panic!("{answer:?}") };
        let own = assigned(&synced?.assignment).unwrap().partitions;
        Ok(own.into_iter().flat_map(|(_, partitions)| partitions).collect())
    }

    fn heartbeat(&mut self, joined: &Joined) -> Result<(), HeartbeatError> {
        let (member, generation) = (joined.member.clone(), joined.generation);
        let answer = self.ask(|ticket| {
            Command::Heartbeat(Heartbeat { ticket, member, instance: None, generation })
        });
        let Answer::Heartbeat(outcome) = answer else { panic!("{answer:?}") };
        outcome
    }

    fn leave(&mut self, joined: &Joined) {
        let members = vec![Leaver { member: Some(joined.member.clone()), instance: None }];
        let left = self.ask(|ticket| Command::Leave(Leave { ticket, members }));
        assert_eq!(left, Answer::Leave(vec![Ok(())]));
    }

    fn beat(
        &mut self,
        name: &str,
        epoch: i32,
        owned: Option<&[i32]>,
    ) -> Result<Beaten, OtherProtocol> {
        let beat = Beat {
            member: name.into(),
            epoch,
            instance: None,
            rack: None,
            client_id: name.into(),
            client_host: "/".into(),
            rebalance_timeout_ms: (epoch == 0).then_some(60_000),
            topics: (epoch == 0).then(|| vec!["orders".into()]),
            regex: None,
            assignor: None,
            owned: owned.map(parts),
        };
        let (answer, effects) = self.group.consumer(beat, &OneTopic, self.now)?;
        self.carry_out(effects);
        Ok(answer.unwrap())
    }

    fn commit(&mut self, name: &str, epoch: i32) -> Result<(), CommitError> {
        let (member, generation) = (Some(name.into()), Generation(epoch));
        let who = Committer { member, instance: None, generation, knows_epochs: false };
        self.group.check_commit(&who, false, self.now)
    }

    fn wait(&mut self, ms: u64) {
        self.now.monotonic = self.now.monotonic.after(ms);
        let effects = self.group.tick(&OneTopic, self.now);
        self.carry_out(effects);
    }

    /// Two classic members with a partition each, in generation 2.
    fn two_classic(&mut self) -> (Joined, Joined) {
        let a = self.start_join("", &[], Some("static-a"));
        let a = self.joined(a);
        self.sync(&a, &[]).unwrap();
        let b = self.start_join("b", &[], Some("static-b"));
        let again = self.rejoin_as(&a.member, &[]);
        let (a, b) = (self.joined(again), self.joined(b));
        let plan: [(&MemberId, &[i32]); 2] = [(&a.member, &[0]), (&b.member, &[1])];
        assert_eq!(self.sync(&a, &plan), Ok(vec![0]));
        assert_eq!(self.sync(&b, &[]), Ok(vec![1]));
        (a, b)
    }

    fn rejoin_as(&mut self, member: &MemberId, owned: &[i32]) -> Ticket {
        self.start_join(&member.clone().to_string(), owned, None)
    }
}

fn parts(partitions: &[i32]) -> Parts {
    let part = |partition: &i32| Part { topic: TopicId([1; 16]), partition: *partition };
    partitions.iter().map(part).collect()
}

fn told(beaten: &Beaten) -> (i32, Option<Parts>) {
    (beaten.epoch, beaten.assignment.clone())
}

#[test]
fn a_group_moves_to_the_consumer_protocol_member_by_member() {
    let mut world = World::new();
    let (a, b) = world.two_classic();
    let c = world.beat("c", 0, Some(&[])).unwrap();
    assert_eq!(world.group.protocol(), Protocol::Consumer);
    assert_eq!(told(&c), (3, Some(parts(&[]))), "nothing is free yet");
    assert_eq!(world.commit(a.member.as_str(), 2), Ok(()), "as before, and by an old request");
    assert_eq!(world.heartbeat(&a), Err(HeartbeatError::RebalanceInProgress));
    let behind = world.sync(&a, &[]);
    assert_eq!(behind, Err(SyncError::RebalanceInProgress));
    world.leave(&a); // stopped, to be started with the other protocol
    let beaten = world.beat("c", 3, Some(&[])).unwrap();
    assert_eq!(told(&beaten), (4, Some(parts(&[0]))));
    let b = world.rejoin_as(&b.member, &[1]);
    let b = world.joined(b);
    assert_eq!((b.generation, b.leader.as_str()), (Generation(4), ""));
    assert_eq!(world.sync(&b, &[]), Ok(vec![1]));
    assert_eq!(world.heartbeat(&b), Ok(()));
    assert_eq!(world.group.state().to_string(), "Stable");
    world.leave(&b);
    let alone = world.beat("c", 4, None).unwrap();
    assert_eq!(told(&alone), (5, Some(parts(&[0, 1]))));
    assert_eq!(world.commit("c", 5), Err(CommitError::UnsupportedVersion));
}

#[test]
fn a_group_moves_back_when_its_last_consumer_leaves() {
    let mut world = World::new();
    let c = world.beat("c", 0, Some(&[])).unwrap();
    assert_eq!(told(&c), (1, Some(parts(&[0, 1]))));
    let d = world.join("d", &[]);
    assert_eq!((d.generation, &*d.protocol), (Generation(2), "cooperative-sticky"));
    assert_eq!(world.sync(&d, &[]), Ok(vec![]), "c still has both");
    assert_eq!(world.heartbeat(&d), Ok(()), "nothing to fetch yet");
    assert_eq!(world.beat("c", 1, None).unwrap().assignment, Some(parts(&[0])));
    world.beat("c", 1, Some(&[0])).unwrap();
    assert_eq!(world.heartbeat(&d), Err(HeartbeatError::RebalanceInProgress), "it is free");
    let d = world.join("d", &[]);
    assert_eq!(world.sync(&d, &[]), Ok(vec![1]));
    world.beat("c", -1, None).unwrap();
    assert_eq!(world.group.state().to_string(), "PreparingRebalance");
    assert_eq!(world.group.protocol(), Protocol::Classic);
    let again = world.heartbeat(&d);
    assert_eq!(again, Err(HeartbeatError::RebalanceInProgress), "and not that it is unknown");
    let d = world.join("d", &[1]);
    assert_eq!((d.generation, &d.leader, d.members.len()), (Generation(3), &d.member, 1));
    assert_eq!(world.sync(&d, &[(&d.member, &[0, 1])]), Ok(vec![0, 1]));
}

#[test]
fn a_group_moves_back_when_its_last_consumer_is_silent() {
    let mut world = World::new();
    world.beat("c", 0, Some(&[])).unwrap();
    let d = world.join("d", &[]);
    world.sync(&d, &[]).unwrap();
    for _ in 0..5 {
        world.wait(9_000);
        let _in_time = world.heartbeat(&d);
    }
    assert_eq!(world.group.protocol(), Protocol::Classic);
    let (settings, folded) = (GroupSettings::default(), world.folded.clone());
    let again = Group::restore("billing".into(), settings, folded, world.now);
    assert_eq!(again.state().to_string(), "PreparingRebalance", "also after a restart");
}

#[test]
fn a_classic_member_that_does_not_come_when_called_is_removed() {
    let mut world = World::new();
    let (a, b) = world.two_classic();
    world.beat("c", 0, Some(&[])).unwrap();
    for _ in 0..7 {
        assert_eq!(world.heartbeat(&a), Err(HeartbeatError::RebalanceInProgress));
        let ticket = world.rejoin_as(&b.member, &[1]);
        world.joined(ticket);
        world.beat("c", 3, Some(&[])).unwrap();
        world.wait(9_000);
    }
    assert_eq!(world.heartbeat(&a), Err(HeartbeatError::UnknownMember));
    let members = &world.group.as_consumer().unwrap().remembered().members;
    assert_eq!(members.len(), 2, "b and c");
}

#[test]
fn members_that_wait_in_a_rebalance_are_told_to_join_again_when_the_group_moves() {
    let mut world = World::new();
    let (a, _) = world.two_classic();
    let waits = world.rejoin_as(&a.member, &[]);
    assert!(world.answers.is_empty(), "the leader waits for the other");
    world.beat("c", 0, Some(&[])).unwrap();
    assert_eq!(world.answers.remove(&waits), Some(Answer::Join(Err(JoinError::Superseded))));
    let again = world.rejoin_as(&a.member, &[0]);
    assert_eq!(world.joined(again).generation, Generation(3), "it keeps what it has");
}

#[test]
fn groups_that_the_other_protocol_cannot_carry_stay_as_they_are() {
    let mut world = World::new();
    let a = world.join_nobody("consumer", vec![0, 3, 0]);
    assert_eq!(world.beat("c", 0, Some(&[])), Err(OtherProtocol), "no subscription");
    world.leave(&a);
    let metadata = metadata_owning(&["orders"], &vec![]);
    let a = world.join_nobody("connect", metadata.clone());
    assert_eq!(world.beat("c", 0, Some(&[])), Err(OtherProtocol), "no consumers");
    world.leave(&a);
    let a = world.join_nobody("consumer", metadata);
    let member = a.member.clone();
    let custom = Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 42]);
    let answer = world.ask(|ticket| {
        Command::Sync(Sync {
            ticket,
            member: member.clone(),
            instance: None,
            generation: a.generation,
            protocol_type: None,
            protocol: None,
            assignments: vec![(member, custom)],
        })
    });
    assert!(matches!(answer, Answer::Sync(Ok(_))));
    assert_eq!(world.beat("c", 0, Some(&[])), Err(OtherProtocol), "an assignor of their own");
    assert_eq!(world.group.protocol(), Protocol::Classic);
}

impl World {
    fn join_nobody(&mut self, kind: &str, metadata: Vec<u8>) -> Joined {
        let ticket = self.send(|ticket| {
            Command::Join(Join {
                ticket,
                member: None,
                instance: None,
                client_id: "c".into(),
                client_host: "/".into(),
                protocol_type: kind.into(),
                protocols: vec![("range".into(), metadata.into())],
                session_timeout_ms: 10_000,
                rebalance_timeout_ms: 60_000,
                id_required: false,
                can_skip_assignment: false,
                uuid: [3; 16],
            })
        });
        self.joined(ticket)
    }
}

#[test]
fn joins_that_do_not_fit_a_moving_group_are_refused() {
    let mut world = World::new();
    world.beat("c", 0, Some(&[])).unwrap();
    let mut refused = |kind: &str, metadata: Vec<u8>, instance: Option<InstanceId>, ms| {
        let answer = world.ask(|ticket| {
            Command::Join(Join {
                ticket,
                member: None,
                instance,
                client_id: "x".into(),
                client_host: "/".into(),
                protocol_type: kind.into(),
                protocols: vec![("range".into(), metadata.into())],
                session_timeout_ms: ms,
                rebalance_timeout_ms: 60_000,
                id_required: true,
                can_skip_assignment: false,
                uuid: [3; 16],
            })
        });
        let Answer::Join(Err(error)) = answer else { panic!("{answer:?}") };
        error
    };
    let good = metadata_owning(&["orders"], &vec![]);
    assert_eq!(refused("connect", good.clone(), None, 10_000), JoinError::InconsistentProtocol);
    assert_eq!(refused("consumer", good.clone(), None, 1), JoinError::InvalidSessionTimeout);
    let id = MemberId::generate("x", [3; 16]);
    assert_eq!(refused("consumer", good, None, 10_000), JoinError::MemberIdRequired(id));
    let instance = Some("i".into());
    assert_eq!(refused("consumer", vec![0, 1], instance, 10_000), JoinError::NoSubscription);
    let consumers = world.group.as_consumer().unwrap().remembered();
    assert_eq!(consumers.members.len(), 1, "nobody came in");
    assert!(consumers.members.values().all(|m| m.progress.state == MemberState::Stable));
}

#[test]
fn a_group_in_the_middle_of_its_move_survives_a_restart() {
    let mut world = World::new();
    let (a, _) = world.two_classic();
    world.beat("c", 0, Some(&[])).unwrap();
    let (settings, folded) = (GroupSettings::default(), world.folded.clone());
    world.group = Group::restore("billing".into(), settings, folded, world.now);
    assert_eq!(world.heartbeat(&a), Err(HeartbeatError::RebalanceInProgress));
    world.wait(10_000);
    assert_eq!(world.heartbeat(&a), Err(HeartbeatError::UnknownMember), "its own session timeout");
}
