//! Who is in a share group and what each is to fetch from. A new assignment is told at the next
//! heartbeat; nobody has to give anything up first, because partitions are shared.

use std::collections::{BTreeMap, BTreeSet};

use super::ShareGroup;
use super::api::{ShareBeat, ShareBeatError, ShareBeaten};
use super::record::{ShareRecord, ShareSubscription};
use crate::group::assignor::{Part, Parts, TopicId};
use crate::group::consumer::Topics;
use crate::group::ids::MemberId;

impl ShareGroup {
    /// What can be judged without looking at the member (Kafka's own words).
    pub(super) fn check(&self, beat: &ShareBeat) -> Result<(), ShareBeatError> {
        let invalid = |why| Err(ShareBeatError::InvalidRequest(why));
        let id = beat.member.as_str();
        if id.trim().is_empty() {
            return invalid("MemberId can't be empty.");
        }
        if id.chars().count() > MEMBER_ID_CHARS_MAX {
            return invalid("MemberId is too long.");
        }
        if beat.epoch < -1 {
            return invalid("MemberEpoch is invalid.");
        }
        if beat.epoch == 0 && beat.topics.as_ref().is_none_or(Vec::is_empty) {
            return invalid("SubscribedTopicNames must be set in first request.");
        }
        if beat.topics.as_ref().is_some_and(|topics| topics.len() > self.settings.topics_max) {
            return invalid("Too many SubscribedTopicNames.");
        }
        Ok(())
    }

    pub(super) fn leave(
        &mut self,
        id: &MemberId,
        records: &mut Vec<ShareRecord>,
    ) -> Result<ShareBeaten, ShareBeatError> {
        if !self.remembered.members.contains_key(id) {
            return Err(ShareBeatError::UnknownMember(id.clone()));
        }
        self.remove(vec![id.clone()], records);
        let heartbeat_interval_ms = self.settings.heartbeat_interval_ms;
        Ok(ShareBeaten { member: id.clone(), epoch: -1, heartbeat_interval_ms, assignment: None })
    }

    pub(super) fn remove(&mut self, members: Vec<MemberId>, records: &mut Vec<ShareRecord>) {
        if members.is_empty() {
            return;
        }
        for member in &members {
            self.sessions.clear(member);
        }
        self.persist(ShareRecord::Gone { members }, records);
        self.seen = None; // the next heartbeat gives their share to others
    }

    /// A heartbeat with epoch 0 or above.
    pub(super) fn beat(
        &mut self,
        beat: &ShareBeat,
        topics: &dyn Topics,
        records: &mut Vec<ShareRecord>,
    ) -> Result<ShareBeaten, ShareBeatError> {
        let id = &beat.member;
        self.check_epoch(beat)?;
        self.subscribe(beat, records)?;
        self.retarget(topics, records);
        let unknown = || ShareBeatError::UnknownMember(id.clone());
        let member = self.remembered.members.get(id).ok_or_else(unknown)?;
        let behind = member.epoch != self.remembered.epoch;
        let before = member.assigned.clone();
        if behind {
            self.persist(ShareRecord::Current { member: id.clone() }, records);
        }
        let member = self.remembered.members.get(id).ok_or_else(unknown)?;
        let tell = beat.epoch == 0 || beat.topics.is_some() || member.assigned != before;
        Ok(ShareBeaten {
            member: id.clone(),
            epoch: member.epoch,
            heartbeat_interval_ms: self.settings.heartbeat_interval_ms,
            assignment: tell.then(|| member.assigned.clone()),
        })
    }

    /// An epoch behind is accepted once: the answer that raised it may have been lost.
    fn check_epoch(&self, beat: &ShareBeat) -> Result<(), ShareBeatError> {
        let known = self.remembered.members.get(&beat.member);
        match known {
            None if beat.epoch > 0 => Err(ShareBeatError::UnknownMember(beat.member.clone())),
            None if self.remembered.members.len() >= self.settings.members_max => {
                Err(ShareBeatError::GroupFull)
            }
            Some(member) if beat.epoch > 0 => {
                let fits = [member.epoch, member.previous_epoch].contains(&beat.epoch);
                if fits { Ok(()) } else { Err(ShareBeatError::FencedEpoch) }
            }
            _ => Ok(()),
        }
    }

    fn subscribe(
        &mut self,
        beat: &ShareBeat,
        records: &mut Vec<ShareRecord>,
    ) -> Result<(), ShareBeatError> {
        let before = self.remembered.members.get(&beat.member).map(|member| &member.about);
        let names = beat.topics.as_ref().map(|names| names.iter().cloned().collect());
        let kept = || before.map_or_else(BTreeSet::new, |before| before.topics.clone());
        let after = ShareSubscription {
            member: beat.member.clone(),
            rack: beat.rack.clone().or_else(|| before.and_then(|before| before.rack.clone())),
            client_id: beat.client_id.clone(),
            client_host: beat.client_host.clone(),
            topics: names.unwrap_or_else(kept),
        };
        if before == Some(&after) {
            return Ok(());
        }
        if before.is_none_or(|before| before.topics != after.topics) {
            self.seen = None;
        }
        self.persist(ShareRecord::Member(after), records);
        Ok(())
    }

    /// A new target if members, subscriptions or topics have changed.
    fn retarget(&mut self, topics: &dyn Topics, records: &mut Vec<ShareRecord>) {
        let version = topics.version();
        if self.seen == Some(version) {
            return;
        }
        self.seen = Some(version);
        let mut wanted = BTreeMap::new();
        let mut takers: BTreeMap<TopicId, Vec<MemberId>> = BTreeMap::new();
        for (id, member) in &self.remembered.members {
            for (topic, count) in member.about.topics.iter().filter_map(|name| topics.find(name)) {
                wanted.insert(topic, count);
                takers.entry(topic).or_default().push(id.clone());
            }
        }
        let mut target = assign(&wanted, &takers);
        for id in self.remembered.members.keys() {
            target.entry(id.clone()).or_default();
        }
        let same = target == self.remembered.target && wanted == self.remembered.topics;
        if !same || self.remembered.epoch == 0 {
            let epoch = self.remembered.epoch + 1;
            self.persist(ShareRecord::Target { epoch, topics: wanted, target }, records);
        }
    }
}

/// Kafka's `simple` assignor in its aim: every partition has a member, every member a partition of
/// each topic that it wants, as evenly as that allows.
fn assign(
    topics: &BTreeMap<TopicId, u32>,
    takers: &BTreeMap<TopicId, Vec<MemberId>>,
) -> BTreeMap<MemberId, Parts> {
    let mut given: BTreeMap<MemberId, Parts> = BTreeMap::new();
    for (topic, members) in takers {
        let Some(count) = topics.get(topic).and_then(|count| usize::try_from(*count).ok()) else {
            continue;
        };
        if count == 0 || members.is_empty() {
            continue;
        }
        let pairs = (0..count.max(members.len())).zip(members.iter().cycle());
        for (n, member) in pairs {
            let Ok(partition) = i32::try_from(n % count) else { continue };
            given.entry(member.clone()).or_default().insert(Part { topic: *topic, partition });
        }
    }
    given
}

/// Kafka's bound: a UUID as text.
const MEMBER_ID_CHARS_MAX: usize = 36;
