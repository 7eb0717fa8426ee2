//! One group by its name: classic, KIP-848 or simple, with its offsets.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::classic::{
    self, Answer, ClassicGroup, ClassicRecord, Command, CommitError, Committer, Phase, Remembered,
};
use super::consumer::{
    Beat, Beaten, ConsumerGroup, ConsumerRecord, ConsumerSettings, GroupState, RememberedConsumers,
    Topics,
};
use super::effect::Effect;
use super::ids::{GroupId, MemberId};
use super::offsets::{Offsets, OffsetsRecord, Use};
use super::share::{
    RememberedShares, ShareBeat, ShareBeatError, ShareBeaten, ShareGroup, ShareRecord,
    ShareSettings, ShareState,
};
use super::subscription;
use crate::clock::{Monotonic, Now, Wall};

/// One fact of a group. Append-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupRecord {
    /// Of its classic members.
    Classic(ClassicRecord),
    /// Of its KIP-848 members.
    Consumer(ConsumerRecord),
    /// Of its offsets.
    Offsets(OffsetsRecord),
    /// Empty as it was, it follows the other protocol from here on.
    Became(Protocol),
    /// It is gone with everything it knew.
    Deleted,
    /// Of its share members and the partitions they share.
    Share(ShareRecord),
}

/// Which protocol a group's members speak. Append-only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// JoinGroup and SyncGroup; also a group that has offsets only.
    #[default]
    Classic,
    /// ConsumerGroupHeartbeat.
    Consumer,
    /// ShareGroupHeartbeat.
    Share,
}

/// The fold of a group's records, also its part of a snapshot. Fields are only added at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedGroup {
    protocol: Protocol,
    classic: Remembered,
    consumer: RememberedConsumers,
    offsets: Offsets,
    share: RememberedShares,
}

impl RememberedGroup {
    /// Adds the next record; after `Deleted` nothing is left.
    pub fn replay(&mut self, record: GroupRecord) {
        match record {
            GroupRecord::Classic(record) => self.classic.replay(record),
            GroupRecord::Consumer(record) => self.consumer.replay(record),
            GroupRecord::Offsets(record) => self.offsets.replay(record),
            GroupRecord::Became(protocol) => {
                let offsets = std::mem::take(&mut self.offsets);
                *self = Self { protocol, offsets, ..Self::default() };
            }
            GroupRecord::Deleted => *self = Self::default(),
            GroupRecord::Share(record) => self.share.replay(record),
        }
    }
}

/// Settings of both kinds of groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupSettings {
    /// For classic groups.
    pub classic: classic::Settings,
    /// For KIP-848 groups.
    pub consumer: ConsumerSettings,
    /// For share groups.
    pub share: ShareSettings,
}

/// What a group asks its caller to do.
pub type GroupEffect = Effect<Answer, GroupRecord>;

/// One group.
///
/// Invariant: [`remembered`](Self::remembered) is the fold of every record it has asked to log.
#[derive(Debug)]
pub struct Group {
    id: GroupId,
    settings: GroupSettings,
    kind: Kind,
    offsets: Offsets,
}

#[derive(Debug)]
enum Kind {
    Classic(Box<ClassicGroup>),
    Consumer(Box<ConsumerGroup>),
    Share(Box<ShareGroup>),
}

/// The group's members speak the other protocol.
///
/// For JoinGroup: `INCONSISTENT_GROUP_PROTOCOL` (23); for SyncGroup, Heartbeat and LeaveGroup:
/// `UNKNOWN_MEMBER_ID` (25); for ConsumerGroupHeartbeat: `GROUP_ID_NOT_FOUND` (69).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the group's members use the other protocol")]
pub struct OtherProtocol;

/// Why a group or its offsets were not deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// `NON_EMPTY_GROUP` (68): it has members.
    #[error("the group is not empty")]
    NotEmpty,
    /// `GROUP_SUBSCRIBED_TO_TOPIC` (86): for OffsetDelete, of that topic alone.
    #[error("a member subscribes to the topic")]
    Subscribed,
}

/// The group's state as Kafka prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Of a classic or simple group.
    Classic(Phase),
    /// Of a KIP-848 group.
    Consumer(GroupState),
    /// Of a share group.
    Share(ShareState),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Classic(phase) => phase.fmt(f),
            Self::Consumer(state) => state.fmt(f),
            Self::Share(state) => state.fmt(f),
        }
    }
}

impl Group {
    /// A group that nobody has used.
    #[must_use]
    pub fn new(id: GroupId, settings: GroupSettings) -> Self {
        Self::restore(id, settings, RememberedGroup::default(), Now::default())
    }

    /// The group after a restart; sessions start anew.
    #[must_use]
    pub fn restore(
        id: GroupId,
        settings: GroupSettings,
        remembered: RememberedGroup,
        now: Now,
    ) -> Self {
        let RememberedGroup { protocol, classic, consumer, offsets, share } = remembered;
        let kind = match protocol {
            Protocol::Classic => {
                Kind::Classic(Box::new(ClassicGroup::restore(settings.classic, classic, now)))
            }
            Protocol::Consumer => {
                Kind::Consumer(Box::new(ConsumerGroup::restore(settings.consumer, consumer, now)))
            }
            Protocol::Share => {
                Kind::Share(Box::new(ShareGroup::restore(settings.share, share, now)))
            }
        };
        Self { id, settings, kind, offsets }
    }

    /// The group's part of a snapshot.
    #[must_use]
    pub fn remembered(&self) -> RememberedGroup {
        let offsets = self.offsets.clone();
        let empty = RememberedGroup { offsets, ..RememberedGroup::default() };
        match &self.kind {
            Kind::Classic(group) => {
                RememberedGroup { classic: group.remembered().clone(), ..empty }
            }
            Kind::Consumer(group) => RememberedGroup {
                protocol: Protocol::Consumer,
                consumer: group.remembered().clone(),
                ..empty
            },
            Kind::Share(group) => RememberedGroup {
                protocol: Protocol::Share,
                share: group.remembered().clone(),
                ..empty
            },
        }
    }

    /// A classic member's request. An empty KIP-848 group becomes classic by a join; one with members
    /// has classic members among them until only such are left.
    pub fn classic(
        &mut self,
        command: Command,
        topics: &dyn Topics,
        now: Now,
    ) -> Result<Vec<GroupEffect>, OtherProtocol> {
        let mut effects = Vec::new();
        match &mut self.kind {
            Kind::Classic(_) => {}
            Kind::Share(_) => return Err(OtherProtocol),
            Kind::Consumer(group) if group.state() != GroupState::Empty => {
                let (ticket, beats) = (command.ticket(), matches!(command, Command::Heartbeat(_)));
                let (answer, own) = group.classic(command, &self.settings.classic, topics, now);
                effects.extend(persist(own, GroupRecord::Consumer));
                if !beats {
                    effects.extend(self.move_back(topics, now)); // a heartbeat changes nothing
                }
                effects.push(Effect::Reply { ticket, answer });
                return Ok(effects);
            }
            Kind::Consumer(_) if matches!(command, Command::Join(_)) => {
                self.kind = Kind::Classic(Box::new(ClassicGroup::new(self.settings.classic)));
                effects.push(Effect::Persist(GroupRecord::Became(Protocol::Classic)));
            }
            Kind::Consumer(_) => return Err(OtherProtocol),
        }
        if let Kind::Classic(group) = &mut self.kind {
            let own = group.apply(command, now).into_iter();
            effects.extend(own.map(|effect| effect.map(|answer| answer, GroupRecord::Classic)));
        }
        Ok(effects)
    }

    /// Other settings for KIP-848 members from here on.
    pub fn configure_consumer(&mut self, settings: ConsumerSettings) {
        self.settings.consumer = settings;
        if let Kind::Consumer(group) = &mut self.kind {
            group.configure(settings);
        }
    }

    /// A KIP-848 member's heartbeat. A classic group follows KIP-848 by a join: an empty one from its
    /// beginning, one of consumers with its members, who are told to join again.
    pub fn consumer(
        &mut self,
        beat: Beat,
        topics: &dyn Topics,
        now: Now,
    ) -> Result<(Result<Beaten, super::consumer::BeatError>, Vec<GroupEffect>), OtherProtocol> {
        let mut effects = Vec::new();
        match &mut self.kind {
            Kind::Classic(group) => {
                if beat.epoch != 0 {
                    return Err(OtherProtocol);
                }
                let (mut fresh, moved) =
                    ConsumerGroup::of_classic(group, self.settings.consumer, topics, now)
                        .ok_or(OtherProtocol)?;
                let decision = fresh.heartbeat(beat, topics, now);
                if decision.answer.is_ok() {
                    effects.push(Effect::Persist(GroupRecord::Became(Protocol::Consumer)));
                    effects.extend(persist(moved, GroupRecord::Consumer));
                    effects.extend(persist(decision.records, GroupRecord::Consumer));
                    let waiting = group.send_away().into_iter();
                    effects
                        .extend(waiting.map(|(ticket, answer)| Effect::Reply { ticket, answer }));
                    self.kind = Kind::Consumer(Box::new(fresh));
                }
                Ok((decision.answer, effects))
            }
            Kind::Consumer(group) => {
                let decision = group.heartbeat(beat, topics, now);
                effects.extend(persist(decision.records, GroupRecord::Consumer));
                effects.extend(self.move_back(topics, now));
                Ok((decision.answer, effects))
            }
            Kind::Share(_) => Err(OtherProtocol),
        }
    }

    /// A KIP-848 group whose last members all speak the classic protocol is a classic group again;
    /// they are told to join.
    fn move_back(&mut self, topics: &dyn Topics, now: Now) -> Vec<GroupEffect> {
        let Kind::Consumer(group) = &self.kind else { return Vec::new() };
        let fits = group.remembered().members.len() <= self.settings.classic.members_max;
        if !group.is_all_classic() || !fits {
            return Vec::new();
        }
        let records = group.to_classic(topics, now);
        let mut remembered = Remembered::default();
        for record in &records {
            remembered.replay(record.clone());
        }
        let moved = ClassicGroup::restore(self.settings.classic, remembered, now);
        self.kind = Kind::Classic(Box::new(moved));
        let mut effects = vec![Effect::Persist(GroupRecord::Became(Protocol::Classic))];
        effects.extend(persist(records, GroupRecord::Classic));
        effects
    }

    /// A share member's heartbeat. A group that nobody has used becomes a share group by a join, and
    /// stays one until it is deleted.
    pub fn share(
        &mut self,
        beat: &ShareBeat,
        topics: &dyn Topics,
        now: Now,
    ) -> Result<(Result<ShareBeaten, ShareBeatError>, Vec<GroupRecord>), OtherProtocol> {
        let mut records = Vec::new();
        if let Kind::Share(group) = &mut self.kind {
            let (answer, own) = group.heartbeat(beat, topics, now);
            records.extend(own.into_iter().map(GroupRecord::Share));
            return Ok((answer, records));
        }
        if beat.epoch != 0 || !self.is_empty() || !self.offsets.is_empty() {
            return Err(OtherProtocol);
        }
        let mut fresh = ShareGroup::new(self.settings.share);
        let (answer, own) = fresh.heartbeat(beat, topics, now);
        if answer.is_ok() {
            self.kind = Kind::Share(Box::new(fresh));
            records.push(GroupRecord::Became(Protocol::Share));
            records.extend(own.into_iter().map(GroupRecord::Share));
        }
        Ok((answer, records))
    }

    /// The earliest time at which [`tick`](Self::tick) has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Monotonic> {
        match &self.kind {
            Kind::Classic(group) => group.deadline(),
            Kind::Consumer(group) => group.deadline(),
            Kind::Share(group) => group.deadline(),
        }
    }

    /// Ends sessions and phases whose time is over.
    pub fn tick(&mut self, topics: &dyn Topics, now: Now) -> Vec<GroupEffect> {
        match &mut self.kind {
            Kind::Classic(group) => {
                let own = group.tick(now).into_iter();
                own.map(|effect| effect.map(|answer| answer, GroupRecord::Classic)).collect()
            }
            Kind::Consumer(group) => {
                let mut effects = persist(group.tick(now), GroupRecord::Consumer);
                effects.extend(self.move_back(topics, now));
                effects
            }
            Kind::Share(group) => persist(group.tick(now), GroupRecord::Share),
        }
    }

    /// Whether offsets may be committed by `who` (research/kafka.md 2.5); refreshes a classic
    /// member's session.
    pub fn check_commit(
        &mut self,
        who: &Committer,
        transactional: bool,
        now: Now,
    ) -> Result<(), CommitError> {
        match &mut self.kind {
            Kind::Classic(group) => group.check_commit(who, transactional, now),
            Kind::Consumer(group) => group.check_commit(who, transactional),
            Kind::Share(_) => Err(CommitError::GroupNotFound),
        }
    }

    /// Whether offsets may be told to a member with this epoch (OffsetFetch v9+).
    pub fn check_fetch(&self, member: Option<&MemberId>, epoch: i32) -> Result<(), CommitError> {
        match &self.kind {
            Kind::Classic(_) => Ok(()),
            Kind::Consumer(group) => group.check_fetch(member, epoch),
            Kind::Share(_) => Err(CommitError::GroupNotFound),
        }
    }

    /// The group's offsets.
    #[must_use]
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// The group's offsets, to commit; the caller has asked [`check_commit`](Self::check_commit) and
    /// logs what is returned as [`GroupRecord::Offsets`].
    pub fn offsets_mut(&mut self) -> &mut Offsets {
        &mut self.offsets
    }

    /// Whether offsets of this topic may be deleted (OffsetDelete).
    pub fn check_offset_delete(&self, topic: &str) -> Result<(), DeleteError> {
        if self.is_empty() {
            return Ok(());
        }
        match self.subscribed() {
            Some(topics) if topics.contains(topic) => Err(DeleteError::Subscribed),
            Some(_) => Ok(()),
            None => Err(DeleteError::NotEmpty),
        }
    }

    /// DeleteGroups: the caller logs the record and drops the group.
    pub fn delete(&mut self) -> Result<GroupRecord, DeleteError> {
        if !self.is_empty() {
            return Err(DeleteError::NotEmpty);
        }
        if let Kind::Classic(group) = &mut self.kind {
            group.kill();
        }
        self.offsets = Offsets::default();
        Ok(GroupRecord::Deleted)
    }

    /// Drops offsets that were kept long enough; asked for now and then. An empty group without any
    /// offset left is deleted: the last record then says so, and the caller drops the group.
    pub fn expire(&mut self, retention_ms: u64, now: Wall) -> Vec<GroupRecord> {
        let topics = self.subscribed();
        let used = match (self.is_empty(), self.empty_since()) {
            (true, Some(since)) => Use::EmptySince(since),
            (true, None) => Use::Simple,
            (false, _) => Use::Subscribed(topics.as_ref()),
        };
        let expired = self.offsets.expire(used, retention_ms, now);
        let mut records: Vec<GroupRecord> = expired.map(GroupRecord::Offsets).into_iter().collect();
        let shares = self.as_share().is_some_and(|group| !group.topics().is_empty());
        if self.is_empty() && self.offsets.is_empty() && !self.holds_newcomers() && !shares {
            records.push(GroupRecord::Deleted);
        }
        records
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &GroupId {
        &self.id
    }

    /// Whether it has no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::Classic(group) => matches!(group.phase(), Phase::Empty | Phase::Dead),
            Kind::Consumer(group) => group.state() == GroupState::Empty,
            Kind::Share(group) => group.state() == ShareState::Empty,
        }
    }

    /// Where it stands, printed as Kafka does.
    #[must_use]
    pub fn state(&self) -> State {
        match &self.kind {
            Kind::Classic(group) => State::Classic(group.phase()),
            Kind::Consumer(group) => State::Consumer(group.state()),
            Kind::Share(group) => State::Share(group.state()),
        }
    }

    /// `consumer`, `connect`, …; empty if nobody ever joined (ListGroups, DescribeGroups).
    #[must_use]
    pub fn protocol_type(&self) -> &str {
        match &self.kind {
            Kind::Classic(group) => group.protocol_type().map_or("", |kind| kind),
            Kind::Consumer(_) => "consumer",
            Kind::Share(_) => "share",
        }
    }

    /// The classic machine, for DescribeGroups; `None` for a KIP-848 group.
    #[must_use]
    pub fn as_classic(&self) -> Option<&ClassicGroup> {
        match &self.kind {
            Kind::Classic(group) => Some(group),
            Kind::Consumer(_) | Kind::Share(_) => None,
        }
    }

    /// The KIP-848 machine, for ConsumerGroupDescribe; `None` for a classic group.
    #[must_use]
    pub fn as_consumer(&self) -> Option<&ConsumerGroup> {
        match &self.kind {
            Kind::Classic(_) | Kind::Share(_) => None,
            Kind::Consumer(group) => Some(group),
        }
    }

    /// The share machine, for ShareGroupDescribe; `None` for other groups.
    #[must_use]
    pub fn as_share(&self) -> Option<&ShareGroup> {
        match &self.kind {
            Kind::Share(group) => Some(group),
            Kind::Classic(_) | Kind::Consumer(_) => None,
        }
    }

    /// The share machine, to fetch and acknowledge; the caller logs what it returns as
    /// [`GroupRecord::Share`].
    pub fn as_share_mut(&mut self) -> Option<&mut ShareGroup> {
        match &mut self.kind {
            Kind::Share(group) => Some(group),
            Kind::Classic(_) | Kind::Consumer(_) => None,
        }
    }

    /// Which protocol its members speak.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match self.kind {
            Kind::Classic(_) => Protocol::Classic,
            Kind::Consumer(_) => Protocol::Consumer,
            Kind::Share(_) => Protocol::Share,
        }
    }

    fn empty_since(&self) -> Option<Wall> {
        match &self.kind {
            Kind::Classic(group) => group.empty_since(),
            Kind::Consumer(group) => group.empty_since(),
            Kind::Share(_) => None,
        }
    }

    /// Ids were promised or joins wait: somebody is about to come.
    fn holds_newcomers(&self) -> bool {
        self.deadline().is_some()
    }

    /// The topics that members subscribe to; `None` if that cannot be known for all of them.
    fn subscribed(&self) -> Option<BTreeSet<Arc<str>>> {
        match &self.kind {
            Kind::Classic(group) if group.protocol_type().is_some_and(|t| &**t == "consumer") => {
                let mut topics = BTreeSet::new();
                for member in group.members() {
                    topics.extend(subscription::topics(&member.metadata)?);
                }
                Some(topics)
            }
            Kind::Classic(_) => None,
            Kind::Consumer(group) if group.has_patterns() => None,
            Kind::Consumer(group) => Some(group.topic_names()),
            Kind::Share(_) => None,
        }
    }
}

fn persist<R>(records: Vec<R>, wrap: impl Fn(R) -> GroupRecord) -> Vec<GroupEffect> {
    records.into_iter().map(|record| Effect::Persist(wrap(record))).collect()
}

#[cfg(test)]
mod moving;
#[cfg(test)]
mod tests;
