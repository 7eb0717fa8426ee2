//! Members of the classic protocol in a KIP-848 group: a group moves from one protocol to the other
//! while it works. JoinGroup and SyncGroup are answered at once, the broker being everybody's leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::ConsumerGroup;
use super::api::Topics;
use super::record::{ClassicPart, ConsumerMember, ConsumerRecord, MemberState, Subscription};
use crate::clock::Now;
use crate::group::assignor::{Part, Parts, TopicId};
use crate::group::classic::{
    Answer, Command, Heartbeat, HeartbeatError, Join, JoinError, Joined, Leave, LeaveError, Leaver,
    Settings, Sync, SyncError, Synced,
};
use crate::group::ids::{Generation, InstanceId, MemberId};
use crate::group::subscription::{self, Named, Subscribed};

impl ConsumerGroup {
    /// Carries out a command of the classic protocol. The answer waits for the records.
    pub fn classic(
        &mut self,
        command: Command,
        limits: &Settings,
        topics: &dyn Topics,
        now: Now,
    ) -> (Answer, Vec<ConsumerRecord>) {
        let mut records = Vec::new();
        let answer = match command {
            Command::Join(join) => {
                Answer::Join(self.classic_join(join, limits, topics, now, &mut records))
            }
            Command::Sync(sync) => Answer::Sync(self.classic_sync(&sync, topics, now)),
            Command::Heartbeat(beat) => Answer::Heartbeat(self.classic_heartbeat(&beat, now)),
            Command::Leave(leave) => Answer::Leave(self.classic_leave(&leave, now, &mut records)),
        };
        (answer, records)
    }

    /// Whether there are members, and all speak the classic protocol.
    #[must_use]
    pub fn is_all_classic(&self) -> bool {
        let members = &self.remembered.members;
        !members.is_empty() && members.values().all(|member| member.about.classic.is_some())
    }

    fn classic_join(
        &mut self,
        join: Join,
        limits: &Settings,
        topics: &dyn Topics,
        now: Now,
        records: &mut Vec<ConsumerRecord>,
    ) -> Result<Joined, JoinError> {
        self.check_classic_join(&join, limits)?;
        let id = join.member.clone().unwrap_or_else(|| {
            let name = join.instance.as_ref().map_or(&*join.client_id, InstanceId::as_str);
            MemberId::generate(name, join.uuid)
        });
        if join.member.is_none() && join.instance.is_none() && join.id_required {
            return Err(JoinError::MemberIdRequired(id));
        }
        let metadata = join.protocols.first().map_or(&[][..], |(_, metadata)| metadata);
        let wanted = subscription::subscribed(metadata).ok_or(JoinError::NoSubscription)?;
        let before = self.classic_speaker(&join, &id)?.cloned();
        let owned = parts(&wanted.owned, topics);
        let patience = now.monotonic.after(unsigned(join.rebalance_timeout_ms).into());
        let changed = self.classic_subscribe(join, &id, before, wanted, records);
        let (_, progress) = self
            .reconcile(&id, changed, Some(&owned), topics, records)
            .ok_or(JoinError::UnknownMember)?;
        self.restart_timers(&id, false, now);
        self.calls.set(&id, patience);
        let protocol = self.known(&id).ok().and_then(protocol_of);
        Ok(Joined {
            generation: Generation(progress.epoch),
            protocol_type: CONSUMER.into(),
            protocol: protocol.unwrap_or_default(),
            leader: "".into(), // nobody of them
            member: id,
            skip_assignment: false,
            members: Vec::new(),
        })
    }

    fn check_classic_join(&self, join: &Join, limits: &Settings) -> Result<(), JoinError> {
        let bounds = limits.session_timeout_min_ms..=limits.session_timeout_max_ms;
        if !u32::try_from(join.session_timeout_ms).is_ok_and(|ms| bounds.contains(&ms)) {
            return Err(JoinError::InvalidSessionTimeout);
        }
        let members = &self.remembered.members;
        let inside = join.member.as_ref().is_some_and(|id| members.contains_key(id))
            || join.instance.as_ref().is_some_and(|i| self.remembered.statics.contains_key(i));
        if !inside && members.len() >= self.settings.members_max {
            return Err(JoinError::GroupFull);
        }
        if *join.protocol_type != *CONSUMER || !self.shares_a_protocol(&join.protocols) {
            return Err(JoinError::InconsistentProtocol);
        }
        let others = members.values().filter(|m| Some(&m.about.member) != join.member.as_ref());
        let bytes = |protocols: &[(Arc<str>, Bytes)]| {
            protocols.iter().map(|(name, metadata)| name.len() + metadata.len()).sum::<usize>()
        };
        let others = others.filter_map(|member| member.about.classic.as_ref());
        let total: usize = others.map(|classic| bytes(&classic.protocols)).sum();
        if total + bytes(&join.protocols) > limits.metadata_bytes_max {
            return Err(JoinError::MetadataTooLarge);
        }
        Ok(())
    }

    /// Some protocol has to be one of every classic member, so that the group can move back.
    fn shares_a_protocol(&self, protocols: &[(Arc<str>, Bytes)]) -> bool {
        let mut shared: BTreeSet<&Arc<str>> = protocols.iter().map(|(name, _)| name).collect();
        for member in self.remembered.members.values() {
            let Some(classic) = &member.about.classic else { continue };
            shared.retain(|name| classic.protocols.iter().any(|(own, _)| own == *name));
        }
        !shared.is_empty()
    }

    /// The member that joins, under whatever id; `None` if it is new.
    fn classic_speaker(
        &self,
        join: &Join,
        id: &MemberId,
    ) -> Result<Option<&ConsumerMember>, JoinError> {
        let Some(instance) = &join.instance else { return Ok(self.remembered.members.get(id)) };
        let holder = self.remembered.statics.get(instance);
        let holder = holder.and_then(|holder| self.remembered.members.get(holder));
        match (holder, &join.member) {
            (Some(holder), Some(given)) if holder.about.member == *given => Ok(Some(holder)),
            (Some(_), Some(_)) => Err(JoinError::FencedInstance),
            (Some(holder), None) if holder.may_be_replaced() => Ok(Some(holder)),
            (Some(_), None) => Err(JoinError::UnreleasedInstance),
            (None, Some(_)) => Err(JoinError::UnknownMember),
            (None, None) => Ok(None),
        }
    }

    /// What the member says is remembered; whether what the group wants has changed.
    fn classic_subscribe(
        &mut self,
        join: Join,
        id: &MemberId,
        before: Option<ConsumerMember>,
        wanted: Subscribed,
        records: &mut Vec<ConsumerRecord>,
    ) -> bool {
        let before = before.map(|member| member.about);
        let after = Subscription {
            member: id.clone(),
            instance: join.instance,
            rack: wanted.rack.or_else(|| before.as_ref().and_then(|before| before.rack.clone())),
            client_id: join.client_id,
            client_host: join.client_host,
            rebalance_timeout_ms: unsigned(join.rebalance_timeout_ms),
            topics: wanted.topics,
            regex: None,
            assignor: before.as_ref().and_then(|before| before.assignor),
            classic: Some(ClassicPart {
                session_timeout_ms: unsigned(join.session_timeout_ms),
                protocols: join.protocols,
            }),
        };
        let Some(before) = before else {
            self.persist(ConsumerRecord::Member(after), records);
            return true;
        };
        let changed = (&after.topics, &after.regex) != (&before.topics, &before.regex);
        if before.member != after.member {
            self.forget_timers(&before.member);
            self.persist(ConsumerRecord::Replaced { old: before.member, new: after }, records);
        } else if before != after {
            self.persist(ConsumerRecord::Member(after), records);
        }
        changed
    }

    fn classic_sync(
        &mut self,
        sync: &Sync,
        topics: &dyn Topics,
        now: Now,
    ) -> Result<Synced, SyncError> {
        let member =
            self.classic_member(&sync.member, sync.instance.as_ref()).map_err(|e| match e {
                Stranger::Unknown => SyncError::UnknownMember,
                Stranger::Fenced => SyncError::FencedInstance,
            })?;
        if sync.generation.0 != member.progress.epoch {
            return Err(SyncError::IllegalGeneration);
        }
        let protocol = protocol_of(member).unwrap_or_default();
        if sync.protocol_type.as_ref().is_some_and(|given| **given != *CONSUMER)
            || sync.protocol.as_ref().is_some_and(|given| *given != protocol)
        {
            return Err(SyncError::InconsistentProtocol);
        }
        let is_behind = self.remembered.epoch > member.progress.epoch;
        if is_behind && member.progress.state != MemberState::UnrevokedPartitions {
            self.call(&sync.member, now);
            return Err(SyncError::RebalanceInProgress);
        }
        let assignment = written(member, &member.progress.assigned, topics);
        self.calls.clear(&sync.member);
        self.restart_timers(&sync.member, false, now);
        Ok(Synced { protocol_type: CONSUMER.into(), protocol, assignment })
    }

    fn classic_heartbeat(&mut self, beat: &Heartbeat, now: Now) -> Result<(), HeartbeatError> {
        let member =
            self.classic_member(&beat.member, beat.instance.as_ref()).map_err(|e| match e {
                Stranger::Unknown => HeartbeatError::UnknownMember,
                Stranger::Fenced => HeartbeatError::FencedInstance,
            })?;
        if beat.generation.0 != member.progress.epoch {
            return Err(HeartbeatError::IllegalGeneration);
        }
        let has_to_join = member.progress.epoch < self.remembered.epoch
            || match member.progress.state {
                MemberState::Stable => false,
                MemberState::UnrevokedPartitions => true,
                MemberState::UnreleasedPartitions => !self.waits_for_others(member),
            };
        self.restart_timers(&beat.member, false, now);
        if has_to_join {
            self.call(&beat.member, now);
            return Err(HeartbeatError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Whether somebody else still has something that the member is to get.
    fn waits_for_others(&self, member: &ConsumerMember) -> bool {
        let id = &member.about.member;
        let target = self.remembered.target.get(id).into_iter().flatten();
        let mut missing = target.filter(|part| !member.progress.assigned.contains(part));
        missing.any(|part| self.remembered.owners.get(part).is_some_and(|owner| owner != id))
    }

    fn classic_leave(
        &mut self,
        leave: &Leave,
        now: Now,
        records: &mut Vec<ConsumerRecord>,
    ) -> Vec<Result<(), LeaveError>> {
        let mut gone = BTreeSet::new();
        let mut leaver = |leaver: &Leaver| {
            let id = self.find_leaver(leaver)?;
            if gone.insert(id) { Ok(()) } else { Err(LeaveError::UnknownMember) }
        };
        let results = leave.members.iter().map(&mut leaver).collect();
        self.remove(gone.into_iter().collect(), now, records);
        results
    }

    /// An administrator removes a static member of either protocol by its instance id.
    fn find_leaver(&self, leaver: &Leaver) -> Result<MemberId, LeaveError> {
        if let (Some(instance), None) = (&leaver.instance, &leaver.member) {
            return self.remembered.statics.get(instance).cloned().ok_or(LeaveError::UnknownMember);
        }
        let id = leaver.member.as_ref().ok_or(LeaveError::UnknownMember)?;
        match self.classic_member(id, leaver.instance.as_ref()) {
            Ok(_) => Ok(id.clone()),
            Err(Stranger::Unknown) => Err(LeaveError::UnknownMember),
            Err(Stranger::Fenced) => Err(LeaveError::FencedInstance),
        }
    }

    fn classic_member(
        &self,
        id: &MemberId,
        instance: Option<&InstanceId>,
    ) -> Result<&ConsumerMember, Stranger> {
        if let Some(instance) = instance {
            let holder = self.remembered.statics.get(instance).ok_or(Stranger::Unknown)?;
            if holder != id {
                return Err(Stranger::Fenced);
            }
        }
        let member = self.remembered.members.get(id).ok_or(Stranger::Unknown)?;
        member.about.classic.as_ref().map(|_| member).ok_or(Stranger::Unknown)
    }

    /// The member was told to join: it has its rebalance timeout for it, counted from the first time.
    fn call(&mut self, id: &MemberId, now: Now) {
        if let Ok(member) = self.known(id)
            && !self.calls.holds(id)
        {
            let patience = member.about.rebalance_timeout_ms;
            self.calls.set(id, now.monotonic.after(patience.into()));
        }
    }

    pub(super) fn forget_timers(&mut self, id: &MemberId) {
        for timers in [&mut self.sessions, &mut self.revocations, &mut self.calls] {
            timers.clear(id);
        }
    }
}

/// Why names are not those of one classic member.
enum Stranger {
    Unknown,
    Fenced,
}

fn protocol_of(member: &ConsumerMember) -> Option<Arc<str>> {
    let classic = member.about.classic.as_ref()?;
    classic.protocols.first().map(|(name, _)| Arc::clone(name))
}

/// The partitions of topics that exist.
pub(in crate::group) fn parts(named: &Named, topics: &dyn Topics) -> Parts {
    let mut parts = Parts::new();
    for (name, partitions) in named {
        if let Some((topic, _)) = topics.find(name) {
            parts.extend(partitions.iter().map(|partition| Part { topic, partition: *partition }));
        }
    }
    parts
}

/// An assignment as the member reads it.
pub(in crate::group) fn written(
    member: &ConsumerMember,
    parts: &Parts,
    topics: &dyn Topics,
) -> Bytes {
    let mut by_topic: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for part in parts {
        by_topic.entry(part.topic).or_default().push(part.partition);
    }
    let name = |name: &Arc<str>| {
        let (topic, _) = topics.find(name)?;
        Some((Arc::clone(name), by_topic.remove(&topic)?))
    };
    let named: Named = member.about.topics.iter().filter_map(name).collect();
    let classic = member.about.classic.as_ref();
    let metadata = classic.and_then(|c| c.protocols.first()).map(|(_, metadata)| metadata);
    let version = metadata.and_then(|m| subscription::subscribed(m)).map_or(0, |s| s.version);
    subscription::assignment(version, &named)
}

fn unsigned(ms: i32) -> u32 {
    u32::try_from(ms).unwrap_or(0)
}

/// The type of every group of consumers.
const CONSUMER: &str = "consumer";
