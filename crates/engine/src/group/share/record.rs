//! What a share group remembers over a restart: the records and their replay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::window::{Change, Fate, Window};
use crate::clock::Wall;
use crate::group::assignor::{Part, Parts, TopicId};
use crate::group::ids::MemberId;

/// One fact of a share group. Append-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShareRecord {
    /// Who a member is and what it wants; a new one starts at epoch 0 with nothing.
    Member(ShareSubscription),
    /// Members are gone: left or silent.
    Gone {
        /// Who.
        members: Vec<MemberId>,
    },
    /// Members, subscriptions or topics have changed; what everybody is to have from here on.
    Target {
        /// The group's epoch.
        epoch: i32,
        /// The topics that somebody wants, with the number of their partitions.
        topics: BTreeMap<TopicId, u32>,
        /// For each member.
        target: BTreeMap<MemberId, Parts>,
    },
    /// A member was told what the target says.
    Current {
        /// The member.
        member: MemberId,
    },
    /// A partition is shared from this offset on; what was known of it is forgotten.
    Started {
        /// Which.
        part: Part,
        /// The first offset to deliver.
        start: i64,
        /// When.
        at: Wall,
    },
    /// The records of a partition below this offset are gone.
    Trimmed {
        /// Which.
        part: Part,
        /// The first that may be left.
        start: i64,
    },
    /// What became of records.
    Changed {
        /// In which partition.
        part: Part,
        /// In order.
        changes: Vec<Change>,
    },
    /// Topics are no longer shared: deleted, or their offsets were.
    Forgotten {
        /// Which.
        topics: BTreeSet<TopicId>,
    },
}

impl ShareRecord {
    /// Whether records wait for their dead letters from here on.
    #[must_use]
    pub fn gives_up(&self) -> bool {
        let waits = |change: &Change| matches!(change.fate, Fate::Dying { .. });
        matches!(self, Self::Changed { changes, .. } if changes.iter().any(waits))
    }
}

/// Who a member is and what it wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareSubscription {
    /// Its name.
    pub member: MemberId,
    /// Where it stands in the rack, as it says.
    pub rack: Option<Arc<str>>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where the client connects from.
    pub client_host: Arc<str>,
    /// Topics by name.
    pub topics: BTreeSet<Arc<str>>,
}

/// A member as it is remembered. Fields are only added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareMember {
    /// Who it is and what it wants.
    pub about: ShareSubscription,
    /// Its epoch.
    pub epoch: i32,
    /// The epoch before, in which it may still speak once.
    pub previous_epoch: i32,
    /// What it was told to fetch from.
    pub assigned: Parts,
}

/// The fold of a share group's records, also its part of a snapshot. Fields are only added at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedShares {
    /// Rises with every change of members, subscriptions or topics.
    pub epoch: i32,
    /// The members.
    pub members: BTreeMap<MemberId, ShareMember>,
    /// What everybody is to have.
    pub target: BTreeMap<MemberId, Parts>,
    /// The topics that somebody wants, with the number of their partitions.
    pub topics: BTreeMap<TopicId, u32>,
    /// The partitions that were ever shared.
    pub windows: BTreeMap<Part, Window>,
}

impl RememberedShares {
    /// Adds the next record.
    pub fn replay(&mut self, record: ShareRecord) {
        match record {
            ShareRecord::Member(about) => match self.members.get_mut(&about.member) {
                Some(known) => known.about = about,
                None => {
                    let (epoch, previous_epoch, assigned) = (0, 0, Parts::new());
                    let id = about.member.clone();
                    let member = ShareMember { about, epoch, previous_epoch, assigned };
                    self.members.insert(id, member);
                }
            },
            ShareRecord::Gone { members } => {
                for member in &members {
                    self.members.remove(member);
                    self.target.remove(member);
                }
            }
            ShareRecord::Target { epoch, topics, target } => {
                (self.epoch, self.topics, self.target) = (epoch, topics, target);
            }
            ShareRecord::Current { member } => {
                if let Some(known) = self.members.get_mut(&member) {
                    known.previous_epoch = known.epoch;
                    known.epoch = self.epoch;
                    known.assigned = self.target.get(&member).cloned().unwrap_or_default();
                }
            }
            ShareRecord::Started { part, start, .. } => {
                self.windows.insert(part, Window::new(start));
            }
            ShareRecord::Trimmed { part, start } => {
                if let Some(window) = self.windows.get_mut(&part) {
                    window.trim(start);
                }
            }
            ShareRecord::Changed { part, changes } => {
                if let Some(window) = self.windows.get_mut(&part) {
                    for change in changes {
                        window.change(change);
                    }
                }
            }
            ShareRecord::Forgotten { topics } => {
                self.windows.retain(|part, _| !topics.contains(&part.topic));
            }
        }
    }
}
