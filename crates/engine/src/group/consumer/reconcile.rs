//! From what is wanted to what each member has: group epoch, target, and each member's way to it.
//!
//! A partition is given to a member only after its former owner has dropped it.

use super::ConsumerGroup;
use super::api::{Beat, BeatError, Beaten, Topics};
use super::record::{AWAY, ConsumerMember, ConsumerRecord, MemberState, Progress};
use crate::clock::Now;
use crate::group::assignor::Parts;
use crate::group::ids::MemberId;

impl ConsumerGroup {
    /// A heartbeat with epoch 0 or above.
    pub(super) fn beat(
        &mut self,
        beat: Beat,
        topics: &dyn Topics,
        now: Now,
        records: &mut Vec<ConsumerRecord>,
    ) -> Result<Beaten, BeatError> {
        let changed = self.subscribe(&beat, records)?;
        let id = beat.member;
        let Some((before, after)) =
            self.reconcile(&id, changed, beat.owned.as_ref(), topics, records)
        else {
            return Err(BeatError::UnknownMember(id));
        };
        self.restart_timers(&id, after.revoking != before.revoking, now);
        let subscribes = beat.topics.is_some() || beat.regex.is_some();
        let full = beat.epoch == 0
            || (beat.rebalance_timeout_ms.is_some() && subscribes && beat.owned.is_some());
        let tell = full || after.assigned != before.assigned;
        Ok(Beaten {
            member: id,
            epoch: after.epoch,
            heartbeat_interval_ms: self.settings.heartbeat_interval_ms,
            assignment: tell.then_some(after.assigned),
        })
    }

    /// The group's epoch and target as they have to be, and the member's next step: where it was and
    /// where it is. `None` if there is no such member.
    pub(super) fn reconcile(
        &mut self,
        id: &MemberId,
        changed: bool,
        owned: Option<&Parts>,
        topics: &dyn Topics,
        records: &mut Vec<ConsumerRecord>,
    ) -> Option<(Progress, Progress)> {
        self.raise_epoch(changed, topics, records);
        self.retarget(topics, records);
        let member = self.remembered.members.get(id)?;
        let before = member.progress.clone();
        let after = self.advance(member, owned);
        if after != before {
            let (member, progress) = (id.clone(), after.clone());
            self.persist(ConsumerRecord::Current { member, progress }, records);
        }
        Some((before, after))
    }

    /// A new group epoch if members, subscriptions or topics have changed.
    fn raise_epoch(
        &mut self,
        changed: bool,
        topics: &dyn Topics,
        records: &mut Vec<ConsumerRecord>,
    ) {
        let version = topics.version();
        if !changed && self.seen == Some(version) {
            return;
        }
        let (wanted, _) = self.resolve(topics);
        self.seen = Some(version);
        if changed || wanted != self.remembered.topics {
            let epoch = self.remembered.epoch + 1;
            self.persist(ConsumerRecord::Epoch { epoch, topics: wanted }, records);
        }
    }

    /// A new target if the group's epoch is ahead of it.
    fn retarget(&mut self, topics: &dyn Topics, records: &mut Vec<ConsumerRecord>) {
        if self.remembered.target_epoch == self.remembered.epoch {
            return;
        }
        let (wanted, applicants) = self.resolve(topics);
        let mut changed = self.assignor().assign(&wanted, &applicants);
        changed.retain(|member, parts| self.remembered.target.get(member) != Some(parts));
        let epoch = self.remembered.epoch;
        self.persist(ConsumerRecord::Retargeted { epoch, changed }, records);
    }

    /// The member's next step, given what it says it owns.
    fn advance(&self, member: &ConsumerMember, owned: Option<&Parts>) -> Progress {
        let mut now = member.progress.clone();
        if now.epoch == AWAY {
            now.epoch = 0; // back under the same id
        }
        let still_has = |parts: &Parts| owned.is_none_or(|owned| !owned.is_disjoint(parts));
        match now.state {
            MemberState::Stable if now.epoch == self.remembered.target_epoch => return now,
            MemberState::UnrevokedPartitions if still_has(&now.revoking) => return now,
            _ => {}
        }
        let id = &member.about.member;
        let nothing = Parts::new();
        let target = self.remembered.target.get(id).unwrap_or(&nothing);
        let kept: Parts = now.assigned.intersection(target).copied().collect();
        let revoking: Parts = now.assigned.difference(target).copied().collect();
        if !revoking.is_empty() && still_has(&revoking) {
            let state = MemberState::UnrevokedPartitions;
            return Progress { state, assigned: kept, revoking, ..now };
        }
        self.take_over(id, now, kept, target)
    }

    /// Everything to be given up is: the member gets what is free and moves to the target's epoch.
    fn take_over(&self, id: &MemberId, now: Progress, kept: Parts, target: &Parts) -> Progress {
        let is_free = |part: &&crate::group::assignor::Part| {
            self.remembered.owners.get(part).is_none_or(|owner| owner == id)
        };
        let missing = target.len() - kept.len();
        let mut assigned = kept;
        let before = assigned.len();
        let wanted: Vec<_> = target.iter().filter(is_free).copied().collect();
        assigned.extend(wanted);
        let state = if assigned.len() - before == missing {
            MemberState::Stable
        } else {
            MemberState::UnreleasedPartitions
        };
        let epoch = self.remembered.target_epoch;
        let previous_epoch = if epoch == now.epoch { now.previous_epoch } else { now.epoch };
        Progress { epoch, previous_epoch, state, assigned, revoking: Parts::new() }
    }
}
