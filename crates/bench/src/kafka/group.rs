//! Groups: how soon a consumer has its first record, how long a rebalance takes.

use std::thread::park_timeout;
use std::time::Duration;

use bytes::Bytes;
use ottla_kafka_proto::messages::join_group::JoinGroupRequestProtocol;
use ottla_kafka_proto::messages::offset_fetch::OffsetFetchRequestTopic;
use ottla_kafka_proto::messages::sync_group::SyncGroupRequestAssignment;
use ottla_kafka_proto::messages::{
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, OffsetFetchRequest, SyncGroupRequest,
};
use ottla_kafka_proto::{ApiKey, ApiVersion, ErrorCode, Response, Str};

use super::batch::Template;
use super::produce;
use super::read::{Limits, Reader, pieces};
use super::wire::{Coordinated, Wire};
use crate::Failure;
use crate::args::Load;
use crate::clock::{Clock, nanos};
use crate::figures::Figures;
use crate::spread::Spread;

/// Starts consumers of new groups one after another, each until it has a record of partition 0.
pub(super) fn first_record(load: &Load, samples: u32) -> Result<Figures, Failure> {
    produce::one(load, &Template::new(load))?;
    first(load, "warm")?; // makes the topic of the groups
    let clock = Clock::start();
    let mut spans = Vec::new();
    for sample in 0..samples {
        let began = clock.now();
        first(load, &sample.to_string())?;
        spans.push(clock.now() - began);
    }
    Ok(Figures::of("first-record").with("first_record_ms", Spread::of(spans)))
}

fn first(load: &Load, name: &str) -> Result<(), Failure> {
    let group = Str::from(format!("{}-{name}-{}", load.topic, std::process::id()).as_str());
    let mut member = Member::open(load, group.clone())?;
    member.wire.find_coordinator(group.clone(), Coordinated::Group)?;
    member.join(0)?;
    let joined = member.joined()?.ok_or("no generation")?;
    member.sync(&joined)?;
    member.synced()?;
    let topic = OffsetFetchRequestTopic {
        name: Str::from(load.topic.as_str()),
        partition_indexes: vec![0],
    };
    let fetch =
        OffsetFetchRequest { group_id: group, topics: Some(vec![topic]), ..Default::default() };
    member.wire.ask(OFFSET_FETCH, fetch)?;
    let limits =
        Limits { bytes: 50 << 20, partition_bytes: 1 << 20, wait_ms: 500, committed: false };
    let mut reader = Reader::open(load, vec![0], limits)?;
    while pieces(reader.fetch()?)?.iter().all(|(_, _, records)| records.is_empty()) {}
    member.leave()
}

/// Lets all members of a group join again at once, time after time: from the first request to the
/// last assignment.
pub(super) fn rebalance(load: &Load, members: u32) -> Result<Figures, Failure> {
    let group = Str::from(format!("{}-{}", load.topic, std::process::id()).as_str());
    let clock = Clock::start();
    let mut all = (0..members).map(|_| Member::open(load, group.clone()));
    let mut all = all.by_ref().collect::<Result<Vec<_>, Failure>>()?;
    if let Some(member) = all.first_mut() {
        member.wire.find_coordinator(group, Coordinated::Group)?;
    }
    let began = clock.now();
    let mut round = form(&mut all, clock)?;
    let formed = clock.now() - began;
    let mut spans = Vec::new();
    let until = clock.now() + nanos(load.seconds);
    while clock.now() < until || spans.is_empty() {
        round += 1;
        let began = clock.now();
        for member in &mut all {
            member.join(round)?;
        }
        let mut joined = Vec::with_capacity(all.len());
        for member in &mut all {
            joined.push(member.joined()?.ok_or("a member was not let in again")?);
        }
        let counted = joined.iter().map(|joined| joined.members.len()).max().unwrap_or_default();
        if counted != all.len() {
            return Err(format!("a generation of {counted} members").into());
        }
        for (member, joined) in all.iter_mut().zip(&joined) {
            member.sync(joined)?;
        }
        for member in &mut all {
            member.synced()?;
        }
        spans.push(clock.now() - began);
    }
    for member in &mut all {
        member.leave()?;
    }
    let figures = Figures::of("rebalance").with("members", members);
    let formed = Spread::of(vec![formed]).map(|spread| spread.p50);
    Ok(figures.with("formed_ms", formed).with("rebalance_ms", Spread::of(spans)))
}

/// Brings new members together in one generation; returns the last round. Not measured as a
/// rebalance: which of them the first generations hold is chance.
fn form(all: &mut [Member], clock: Clock) -> Result<u32, Failure> {
    let until = clock.now() + nanos(FORMING_SECONDS);
    let count = all.len();
    for member in all.iter_mut() {
        member.wire.patience(GLANCE)?;
        member.join(0)?;
    }
    let mut round = 0;
    loop {
        if clock.now() > until {
            return Err(format!("{count} members did not come together").into());
        }
        for member in all.iter_mut().filter(|member| member.is_joining) {
            member.glance()?;
        }
        let largest = all.iter().filter_map(|member| member.joined.as_ref());
        let largest = largest.map(|joined| joined.members.len()).max().unwrap_or_default();
        if largest == count && all.iter().all(|member| !member.is_joining) {
            break;
        }
        round += 1; // new metadata: joining again is a rebalance
        for member in all.iter_mut().filter(|member| !member.is_joining) {
            member.join(round)?;
        }
    }
    for member in all.iter_mut() {
        member.wire.patience(PATIENCE)?;
        let joined = member.joined.take().ok_or("a member without a generation")?;
        member.sync(&joined)?;
    }
    all.iter_mut().try_for_each(Member::synced)?;
    Ok(round)
}

/// A member of a classic group on a connection of its own.
#[derive(Debug)]
struct Member {
    wire: Wire,
    topic: Str,
    group: Str,
    id: Str,
    round: u32,
    is_joining: bool,
    joined: Option<JoinGroupResponse>,
}

impl Member {
    fn open(load: &Load, group: Str) -> Result<Self, Failure> {
        let wire = Wire::connect(&load.broker)?;
        let topic = Str::from(load.topic.as_str());
        let id = Str::default();
        Ok(Self { wire, topic, group, id, round: 0, is_joining: false, joined: None })
    }

    /// Asks to join; each round subscribes with other metadata, which makes it a rebalance.
    fn join(&mut self, round: u32) -> Result<(), Failure> {
        (self.round, self.is_joining) = (round, true);
        let metadata = subscription(&self.topic, round);
        let request = JoinGroupRequest {
            group_id: self.group.clone(),
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 60_000,
            member_id: self.id.clone(),
            protocol_type: Str::from_static("consumer"),
            protocols: vec![JoinGroupRequestProtocol { name: Str::from_static("range"), metadata }],
            ..Default::default()
        };
        self.wire.tell(JOIN, request)
    }

    /// The generation it is in, once all are.
    fn joined(&mut self) -> Result<Option<JoinGroupResponse>, Failure> {
        loop {
            let answer = self.wire.answer(ApiKey::JoinGroup, JOIN)?;
            self.take(answer)?;
            if !self.is_joining {
                return Ok(self.joined.take());
            }
        }
    }

    /// As `joined`, of what has come.
    fn glance(&mut self) -> Result<(), Failure> {
        while self.is_joining {
            match self.wire.ready(ApiKey::JoinGroup, JOIN)? {
                Some(answer) => self.take(answer)?,
                None if self.wire.glance()? => {}
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn take(&mut self, answer: Response) -> Result<(), Failure> {
        let Response::JoinGroup(answer) = answer else {
            return Err("an answer to another request".into());
        };
        match answer.error_code {
            ErrorCode::NONE => {
                self.is_joining = false;
                self.id = answer.member_id.clone();
                self.joined = Some(answer);
                Ok(())
            }
            ErrorCode::MEMBER_ID_REQUIRED => {
                self.id = answer.member_id;
                self.join(self.round)
            }
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::NOT_COORDINATOR
            | ErrorCode::REBALANCE_IN_PROGRESS => {
                park_timeout(LOOK_EVERY);
                self.join(self.round)
            }
            other => Err(format!("joining was refused: {other:?}").into()),
        }
    }

    /// Asks for its assignment; the leader gives every member partition 0.
    fn sync(&mut self, joined: &JoinGroupResponse) -> Result<(), Failure> {
        let is_leader = joined.leader == joined.member_id;
        let assignment = assignment(&self.topic);
        let assignments = joined.members.iter().filter(|_| is_leader);
        let assignments = assignments.map(|member| SyncGroupRequestAssignment {
            member_id: member.member_id.clone(),
            assignment: assignment.clone(),
        });
        let request = SyncGroupRequest {
            group_id: self.group.clone(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            assignments: assignments.collect(),
            ..Default::default()
        };
        self.wire.tell(SYNC, request)
    }

    fn synced(&mut self) -> Result<(), Failure> {
        match self.wire.answer(ApiKey::SyncGroup, SYNC)? {
            Response::SyncGroup(answer) if answer.error_code.is_ok() => Ok(()),
            other => Err(format!("syncing was refused: {other:?}").into()),
        }
    }

    fn leave(&mut self) -> Result<(), Failure> {
        let request = LeaveGroupRequest {
            group_id: self.group.clone(),
            member_id: self.id.clone(),
            ..Default::default()
        };
        self.wire.ask(LEAVE, request).map(|_| ())
    }
}

/// ConsumerProtocolSubscription, version 0: one topic, the round as user data.
fn subscription(topic: &Str, round: u32) -> Bytes {
    let topic = topic.as_bytes();
    let mut bytes = vec![0, 0, 0, 0, 0, 1];
    bytes.extend(u16::try_from(topic.len()).unwrap_or_default().to_be_bytes());
    bytes.extend_from_slice(topic);
    bytes.extend([0, 0, 0, 4]);
    bytes.extend(round.to_be_bytes());
    bytes.into()
}

/// ConsumerProtocolAssignment, version 0: partition 0 of one topic, no user data.
fn assignment(topic: &Str) -> Bytes {
    let topic = topic.as_bytes();
    let mut bytes = vec![0, 0, 0, 0, 0, 1];
    bytes.extend(u16::try_from(topic.len()).unwrap_or_default().to_be_bytes());
    bytes.extend_from_slice(topic);
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    bytes.into()
}

const JOIN: ApiVersion = ApiVersion(5);
const SYNC: ApiVersion = ApiVersion(3);
const LEAVE: ApiVersion = ApiVersion(2);
const OFFSET_FETCH: ApiVersion = ApiVersion(7);
const FORMING_SECONDS: f64 = 60.0;
const GLANCE: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);
