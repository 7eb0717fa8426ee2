//! Who speaks: joining, leaving, fencing, and what a heartbeat changes of the subscription.

use std::collections::BTreeSet;

use super::ConsumerGroup;
use super::api::{Beat, BeatError, Beaten, compile};
use super::record::{AWAY, ConsumerMember, ConsumerRecord, Progress, Subscription};
use crate::clock::Now;
use crate::group::assignor::Assignor;
use crate::group::ids::{InstanceId, MemberId};

impl ConsumerGroup {
    /// What can be judged without looking at the member (Kafka's own words).
    pub(super) fn check(&self, beat: &Beat) -> Result<(), BeatError> {
        let invalid = |why| Err(BeatError::InvalidRequest(why));
        if beat.member.as_str().is_empty() {
            return invalid("MemberId can't be empty.");
        }
        if beat.instance.as_ref().is_some_and(|instance| instance.as_str().is_empty()) {
            return invalid("InstanceId can't be empty.");
        }
        if beat.epoch < AWAY {
            return invalid("MemberEpoch is invalid.");
        }
        if beat.epoch == AWAY && beat.instance.is_none() {
            return invalid("InstanceId can't be null.");
        }
        if beat.epoch < 0 {
            return Ok(());
        }
        if beat.epoch == 0 {
            if beat.rebalance_timeout_ms.is_none_or(|ms| ms <= 0) {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            if beat.owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            }
            if beat.topics.is_none() && beat.regex.is_none() {
                return invalid(
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
                );
            }
        }
        if beat.topics.as_ref().is_some_and(|topics| topics.len() > self.settings.topics_max) {
            return invalid("Too many SubscribedTopicNames.");
        }
        if let Some(name) = beat.assignor.as_ref().filter(|name| Assignor::named(name).is_none()) {
            return Err(BeatError::UnsupportedAssignor(name.clone()));
        }
        if let Some(regex) = beat.regex.as_ref().filter(|regex| !regex.is_empty())
            && !self.patterns.contains_key(regex)
            && compile(regex).is_none()
        {
            return Err(BeatError::InvalidRegex(regex.clone()));
        }
        Ok(())
    }

    /// Epochs -1 and -2.
    pub(super) fn leave(
        &mut self,
        beat: &Beat,
        now: Now,
        records: &mut Vec<ConsumerRecord>,
    ) -> Result<Beaten, BeatError> {
        let member = match &beat.instance {
            Some(instance) => self.static_member(instance, &beat.member)?,
            None => self.known(&beat.member)?,
        };
        let id = member.about.member.clone();
        if beat.epoch == AWAY {
            let progress = Progress { epoch: AWAY, ..member.progress.clone() };
            self.persist(ConsumerRecord::Current { member: id, progress }, records);
        } else {
            self.remove(vec![id], now, records);
        }
        let heartbeat_interval_ms = self.settings.heartbeat_interval_ms;
        let (member, epoch) = (beat.member.clone(), beat.epoch);
        Ok(Beaten { member, epoch, heartbeat_interval_ms, assignment: None })
    }

    /// Finds or makes the member; says whether what the group wants has changed.
    pub(super) fn subscribe(
        &mut self,
        beat: &Beat,
        records: &mut Vec<ConsumerRecord>,
    ) -> Result<bool, BeatError> {
        let before = self.speaker(beat)?.cloned();
        let Some(before) = before else {
            if self.remembered.members.len() >= self.settings.members_max {
                return Err(BeatError::GroupFull);
            }
            let fresh = updated(None, beat);
            self.persist(ConsumerRecord::Member(fresh), records);
            return Ok(true);
        };
        let after = updated(Some(&before.about), beat);
        let wants_other =
            (&after.topics, &after.regex) != (&before.about.topics, &before.about.regex);
        if before.about.member != after.member {
            let old = before.about.member;
            self.forget_timers(&old);
            self.persist(ConsumerRecord::Replaced { old, new: after }, records);
        } else if before.about != after {
            self.persist(ConsumerRecord::Member(after), records);
        }
        Ok(wants_other)
    }

    /// The member that speaks, under whatever id; `None` if it is new.
    fn speaker(&self, beat: &Beat) -> Result<Option<&ConsumerMember>, BeatError> {
        if beat.epoch > 0 {
            let member = match &beat.instance {
                Some(instance) => self.static_member(instance, &beat.member)?,
                None => self.known(&beat.member)?,
            };
            check_epoch(member, beat)?;
            return Ok(Some(member));
        }
        let holder = beat.instance.as_ref().and_then(|i| self.remembered.statics.get(i));
        match holder.and_then(|holder| self.remembered.members.get(holder)) {
            Some(holder) if holder.about.member == beat.member => Ok(Some(holder)),
            Some(holder) if holder.may_be_replaced() => Ok(Some(holder)),
            Some(_) => Err(BeatError::UnreleasedInstance),
            None => Ok(self.remembered.members.get(&beat.member)),
        }
    }

    pub(super) fn known(&self, id: &MemberId) -> Result<&ConsumerMember, BeatError> {
        self.remembered.members.get(id).ok_or_else(|| BeatError::UnknownMember(id.clone()))
    }

    fn static_member(
        &self,
        instance: &InstanceId,
        id: &MemberId,
    ) -> Result<&ConsumerMember, BeatError> {
        let unknown = || BeatError::UnknownMember(id.clone());
        let holder = self.remembered.statics.get(instance).ok_or_else(unknown)?;
        if holder != id {
            return Err(BeatError::FencedInstance);
        }
        self.known(id)
    }
}

/// An epoch behind is accepted once: the answer that raised it may have been lost. The member must
/// not have more than it was given since.
fn check_epoch(member: &ConsumerMember, beat: &Beat) -> Result<(), BeatError> {
    let progress = &member.progress;
    if beat.epoch == progress.epoch {
        return Ok(());
    }
    let lost_answer = beat.epoch < progress.epoch
        && beat.epoch == progress.previous_epoch
        && beat.owned.as_ref().is_some_and(|owned| owned.is_subset(&progress.assigned));
    if lost_answer { Ok(()) } else { Err(BeatError::FencedEpoch) }
}

fn updated(before: Option<&Subscription>, beat: &Beat) -> Subscription {
    let timeout = beat.rebalance_timeout_ms.and_then(|ms| u32::try_from(ms).ok());
    let topics = beat.topics.as_ref().map(|names| names.iter().cloned().collect());
    let assignor = beat.assignor.as_ref().and_then(|name| Assignor::named(name));
    let regex = match &beat.regex {
        Some(regex) => Some(regex.clone()).filter(|regex| !regex.is_empty()),
        None => before.and_then(|before| before.regex.clone()),
    };
    Subscription {
        member: beat.member.clone(),
        instance: beat.instance.clone().or_else(|| before.and_then(|b| b.instance.clone())),
        rack: beat.rack.clone().or_else(|| before.and_then(|b| b.rack.clone())),
        client_id: beat.client_id.clone(),
        client_host: beat.client_host.clone(),
        rebalance_timeout_ms: timeout
            .unwrap_or_else(|| before.map_or(0, |before| before.rebalance_timeout_ms)),
        topics: topics.unwrap_or_else(|| before.map_or_else(BTreeSet::new, |b| b.topics.clone())),
        regex,
        assignor: assignor.or_else(|| before.and_then(|before| before.assignor)),
        classic: None,
    }
}
