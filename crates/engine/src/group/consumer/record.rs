//! What a KIP-848 group remembers over a restart: the records and their replay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Wall;
use crate::group::assignor::{Assignor, Part, Parts, TopicId};
use crate::group::ids::{InstanceId, MemberId};

/// One fact of a KIP-848 group. Append-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsumerRecord {
    /// Who a member is and what it wants; a new one starts at epoch 0 with nothing.
    Member(Subscription),
    /// A static member is back under a new id and takes over what the old one had.
    Replaced {
        /// The id that is gone.
        old: MemberId,
        /// The member from now on.
        new: Subscription,
    },
    /// Members are gone: left, fenced or silent.
    Gone {
        /// Who.
        members: Vec<MemberId>,
        /// When.
        at: Wall,
    },
    /// Members, subscriptions or topics have changed.
    Epoch {
        /// The group's epoch from here on.
        epoch: i32,
        /// The topics that somebody wants, with the number of their partitions.
        topics: BTreeMap<TopicId, u32>,
    },
    /// What everybody is to have.
    Target {
        /// The group's epoch that it was computed for.
        epoch: i32,
        /// For each member.
        target: BTreeMap<MemberId, Parts>,
    },
    /// What a member was told.
    Current {
        /// The member.
        member: MemberId,
        /// How far it is.
        progress: Progress,
    },
    /// What these are to have; the others as before.
    Retargeted {
        /// The group's epoch that it was computed for.
        epoch: i32,
        /// For each member for whom it is something else.
        changed: BTreeMap<MemberId, Parts>,
    },
}

/// Who a member is and what it wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Its name.
    pub member: MemberId,
    /// A static member's name.
    pub instance: Option<InstanceId>,
    /// Where it stands in the rack, as it says.
    pub rack: Option<Arc<str>>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where the client connects from.
    pub client_host: Arc<str>,
    /// Milliseconds that it may take to give up partitions.
    pub rebalance_timeout_ms: u32,
    /// Topics by name.
    pub topics: BTreeSet<Arc<str>>,
    /// Topics by pattern; never empty.
    pub regex: Option<Arc<str>>,
    /// The assignor that it prefers.
    pub assignor: Option<Assignor>,
    /// What it said as a member of the classic protocol; `None`: it speaks the consumer protocol.
    pub classic: Option<ClassicPart>,
}

/// What a member of the classic protocol says in addition, while its group moves to the consumer
/// protocol or back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassicPart {
    /// Milliseconds without a heartbeat after which it is removed.
    pub session_timeout_ms: u32,
    /// Name and opaque metadata of each protocol, the preferred first; never empty.
    pub protocols: Vec<(Arc<str>, Bytes)>,
}

/// How far a member has come on the way to the target. Append-only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberState {
    /// It has what the target of its epoch says.
    #[default]
    Stable,
    /// It was asked to give up partitions.
    UnrevokedPartitions,
    /// It waits for partitions that others still have.
    UnreleasedPartitions,
}

/// What a member was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Its epoch; -2 while a static member is away.
    pub epoch: i32,
    /// The epoch before, in which it may still speak once.
    pub previous_epoch: i32,
    /// How far it is.
    pub state: MemberState,
    /// What it has.
    pub assigned: Parts,
    /// What it has been asked to give up and has not.
    pub revoking: Parts,
}

/// A member as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerMember {
    /// Who it is and what it wants.
    pub about: Subscription,
    /// What it was told.
    pub progress: Progress,
}

impl ConsumerMember {
    /// Whether another may take over its instance id: it has left for a while, or speaks the classic
    /// protocol, in which a static member goes without a word.
    pub(super) fn may_be_replaced(&self) -> bool {
        self.progress.epoch == AWAY || self.about.classic.is_some()
    }
}

/// The epoch of a static member that is away for a while.
pub(super) const AWAY: i32 = -2;

/// The fold of a group's records, also its part of a snapshot. Fields are only added at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedConsumers {
    /// Rises with every change of members, subscriptions or topics.
    pub epoch: i32,
    /// The epoch that `target` was computed for.
    pub target_epoch: i32,
    /// The members.
    pub members: BTreeMap<MemberId, ConsumerMember>,
    /// Which member has an instance id.
    pub statics: BTreeMap<InstanceId, MemberId>,
    /// What everybody is to have.
    pub target: BTreeMap<MemberId, Parts>,
    /// The topics that somebody wants, with the number of their partitions.
    pub topics: BTreeMap<TopicId, u32>,
    /// Who has a partition, or has not given it up yet.
    pub owners: BTreeMap<Part, MemberId>,
    /// When the last member went.
    pub empty_since: Option<Wall>,
}

impl RememberedConsumers {
    /// Adds the next record.
    pub fn replay(&mut self, record: ConsumerRecord) {
        match record {
            ConsumerRecord::Member(about) => self.put(about, Progress::default()),
            ConsumerRecord::Replaced { old, new } => {
                let before = self.take(&old).map(|member| member.progress).unwrap_or_default();
                if let Some(target) = self.target.remove(&old) {
                    self.target.insert(new.member.clone(), target);
                }
                self.own(&new.member, &before);
                self.put(new, before);
            }
            ConsumerRecord::Gone { members, at } => {
                for member in &members {
                    self.take(member);
                    self.target.remove(member);
                }
                self.empty_since = self.members.is_empty().then_some(at);
            }
            ConsumerRecord::Epoch { epoch, topics } => {
                self.epoch = epoch;
                self.topics = topics;
            }
            ConsumerRecord::Target { epoch, target } => {
                self.target_epoch = epoch;
                self.target = target;
            }
            ConsumerRecord::Retargeted { epoch, changed } => {
                self.target_epoch = epoch;
                self.target.extend(changed);
            }
            ConsumerRecord::Current { member, progress } => {
                if let Some(known) = self.members.get_mut(&member) {
                    let before = std::mem::replace(&mut known.progress, progress.clone());
                    self.disown(&before);
                    self.own(&member, &progress);
                }
            }
        }
    }

    fn put(&mut self, about: Subscription, progress: Progress) {
        self.empty_since = None;
        if let Some(instance) = &about.instance {
            self.statics.insert(instance.clone(), about.member.clone());
        }
        match self.members.get_mut(&about.member) {
            Some(known) => known.about = about,
            None => {
                let member = ConsumerMember { about, progress };
                self.members.insert(member.about.member.clone(), member);
            }
        }
    }

    fn take(&mut self, id: &MemberId) -> Option<ConsumerMember> {
        let member = self.members.remove(id)?;
        if let Some(instance) = &member.about.instance
            && self.statics.get(instance) == Some(id)
        {
            self.statics.remove(instance);
        }
        self.disown(&member.progress);
        Some(member)
    }

    fn own(&mut self, id: &MemberId, progress: &Progress) {
        for part in progress.assigned.iter().chain(&progress.revoking) {
            self.owners.insert(*part, id.clone());
        }
    }

    fn disown(&mut self, progress: &Progress) {
        for part in progress.assigned.iter().chain(&progress.revoking) {
            self.owners.remove(part);
        }
    }
}
