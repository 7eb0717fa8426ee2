//! A group moves between the protocols with its members in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::ConsumerGroup;
use super::api::{ConsumerSettings, Topics};
use super::classic::{parts, written};
use super::record::{
    ClassicPart, ConsumerMember, ConsumerRecord, MemberState, Progress, Subscription,
};
use crate::clock::Now;
use crate::group::assignor::Parts;
use crate::group::classic::{ClassicGroup, ClassicRecord, MemberRecord};
use crate::group::ids::{Generation, MemberId};
use crate::group::subscription;

impl ConsumerGroup {
    /// The group that a classic one becomes when a member of the consumer protocol joins it, and the
    /// records that make it. Its members have what they had; its epoch is their generation.
    ///
    /// `None` if it cannot be: they are no consumers, are too many, or an assignor of their own has
    /// written what only it understands.
    pub(in crate::group) fn of_classic(
        group: &ClassicGroup,
        settings: ConsumerSettings,
        topics: &dyn Topics,
        now: Now,
    ) -> Option<(Self, Vec<ConsumerRecord>)> {
        let mut fresh = Self::new(settings);
        if group.members_len() == 0 {
            return Some((fresh, Vec::new()));
        }
        let are_consumers = group.protocol_type().is_some_and(|kind| **kind == *"consumer");
        if !are_consumers || group.members_len() > settings.members_max {
            return None;
        }
        let mut records = Vec::new();
        let mut target: BTreeMap<MemberId, Parts> = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for about in group.records() {
            let given = subscription::assigned(&about.assignment).filter(|g| !g.has_user_data)?;
            let mut own = parts(&given.partitions, topics);
            own.retain(|part| taken.insert(*part)); // no two of them, whatever their leader wrote
            target.insert(about.member.clone(), own);
            let member = subscribed(about, group.metadata(about)?)?;
            fresh.persist(ConsumerRecord::Member(member), &mut records);
        }
        let epoch = group.generation().0;
        let (wanted, _) = fresh.resolve(topics);
        fresh.persist(ConsumerRecord::Epoch { epoch, topics: wanted }, &mut records);
        fresh.persist(ConsumerRecord::Target { epoch, target: target.clone() }, &mut records);
        for (member, assigned) in target {
            let (state, revoking) = (MemberState::Stable, Parts::new());
            let progress = Progress { epoch, previous_epoch: epoch, state, assigned, revoking };
            let id = member.clone();
            fresh.persist(ConsumerRecord::Current { member, progress }, &mut records);
            fresh.restart_timers(&id, false, now);
        }
        Some((fresh, records))
    }

    /// The records of the classic group that this one becomes: all its members speak that protocol.
    /// Its generation is the newest epoch that any of them can have, and they have to join again.
    pub(in crate::group) fn to_classic(&self, topics: &dyn Topics, now: Now) -> Vec<ClassicRecord> {
        let members = self.remembered.members.values();
        let assignment = |member: &ConsumerMember| {
            let id = member.about.member.clone();
            (id, written(member, &member.progress.assigned, topics))
        };
        vec![
            ClassicRecord::Generation {
                generation: Generation(self.remembered.target_epoch),
                protocol_type: Some("consumer".into()),
                protocol: self.shared_protocol(),
                leader: self.remembered.members.keys().next().cloned(),
                members: members.clone().filter_map(classic_record).collect(),
                at: now.wall,
            },
            ClassicRecord::Assigned { assignments: members.map(assignment).collect() },
            ClassicRecord::Left { members: Vec::new() }, // the others have
        ]
    }

    /// A protocol that all have; the first of the first member, as far as it can be.
    fn shared_protocol(&self) -> Option<Arc<str>> {
        let mut all = self.remembered.members.values().filter_map(|m| m.about.classic.as_ref());
        let first = all.next()?;
        let others: Vec<&ClassicPart> = all.collect();
        let is_shared = |name: &Arc<str>| {
            others.iter().all(|other| other.protocols.iter().any(|(own, _)| own == name))
        };
        let mut names = first.protocols.iter().map(|(name, _)| name);
        names.find(|name| is_shared(name)).cloned()
    }
}

fn subscribed(about: &MemberRecord, metadata: &Bytes) -> Option<Subscription> {
    let wanted = subscription::subscribed(metadata)?;
    Some(Subscription {
        member: about.member.clone(),
        instance: about.instance.clone(),
        rack: wanted.rack,
        client_id: Arc::clone(&about.client_id),
        client_host: Arc::clone(&about.client_host),
        rebalance_timeout_ms: about.rebalance_timeout_ms,
        topics: wanted.topics,
        regex: None,
        assignor: None,
        classic: Some(ClassicPart {
            session_timeout_ms: about.session_timeout_ms,
            protocols: about.protocols.clone(),
        }),
    })
}

fn classic_record(member: &ConsumerMember) -> Option<MemberRecord> {
    let about = &member.about;
    let classic = about.classic.as_ref()?;
    Some(MemberRecord {
        member: about.member.clone(),
        instance: about.instance.clone(),
        client_id: Arc::clone(&about.client_id),
        client_host: Arc::clone(&about.client_host),
        session_timeout_ms: classic.session_timeout_ms,
        rebalance_timeout_ms: about.rebalance_timeout_ms,
        protocols: classic.protocols.clone(),
        assignment: Bytes::new(),
    })
}
