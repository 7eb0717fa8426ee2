//! What a classic group remembers over a restart (store.md rule 19): the records and their replay.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::Wall;
use crate::group::ids::{Generation, InstanceId, MemberId};

/// One fact of a classic group. Append-only: variants and fields are only added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClassicRecord {
    /// A join phase is complete (with no member: the group is empty). The generation is remembered
    /// before any member learns it, so that none is ever given out twice.
    Generation {
        /// The new generation.
        generation: Generation,
        /// The type that all members share; outlives them.
        protocol_type: Option<Arc<str>>,
        /// The protocol voted for; `None` if there is no member.
        protocol: Option<Arc<str>>,
        /// Who makes the assignment; `None` if there is no member.
        leader: Option<MemberId>,
        /// Every member, without assignments.
        members: Vec<MemberRecord>,
        /// When: an empty group's offsets expire counting from here.
        at: Wall,
    },
    /// The leader's assignment of the current generation. Members not named have none.
    Assigned {
        /// For each member, opaque.
        assignments: Vec<(MemberId, Bytes)>,
    },
    /// Members have left or were removed: those that remain have to join again.
    Left {
        /// Who.
        members: Vec<MemberId>,
    },
    /// A static member came back under a new id and the generation goes on (KIP-345).
    Replaced {
        /// The id that is fenced now.
        old: MemberId,
        /// The member with its new id; it keeps the assignment.
        member: MemberRecord,
    },
}

/// A member as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Its name.
    pub member: MemberId,
    /// A static member's name.
    pub instance: Option<InstanceId>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where the client connected from.
    pub client_host: Arc<str>,
    /// Milliseconds.
    pub session_timeout_ms: u32,
    /// Milliseconds.
    pub rebalance_timeout_ms: u32,
    /// Name and opaque metadata of each protocol, the preferred first.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// Opaque; empty until the leader has written it.
    pub assignment: Bytes,
}

/// How far the remembered generation got. Append-only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settled {
    /// Joined, the assignment is still to come.
    #[default]
    Joined,
    /// Joined and assigned.
    Assigned,
    /// A member has gone since: the others have to join again.
    Broken,
}

/// The fold of a group's records, also its part of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The last generation given out.
    pub generation: Generation,
    /// The type that all members share.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol of the generation.
    pub protocol: Option<Arc<str>>,
    /// The leader of the generation, if it has not left.
    pub leader: Option<MemberId>,
    /// The members of the generation that have not left.
    pub members: BTreeMap<MemberId, MemberRecord>,
    /// How far the generation got.
    pub settled: Settled,
    /// When the generation was complete.
    pub at: Wall,
}

impl Remembered {
    /// Adds the next record.
    pub fn replay(&mut self, record: ClassicRecord) {
        match record {
            ClassicRecord::Generation {
                generation,
                protocol_type,
                protocol,
                leader,
                members,
                at,
            } => {
                let members = members.into_iter().map(|m| (m.member.clone(), m)).collect();
                let settled = Settled::Joined;
                *self = Self { generation, protocol_type, protocol, leader, members, settled, at };
            }
            ClassicRecord::Assigned { assignments } => {
                for (member, assignment) in assignments {
                    if let Some(member) = self.members.get_mut(&member) {
                        member.assignment = assignment;
                    }
                }
                self.settled = Settled::Assigned;
            }
            ClassicRecord::Left { members } => {
                for member in &members {
                    self.members.remove(member);
                }
                self.leader = self.leader.take().filter(|leader| !members.contains(leader));
                self.settled = Settled::Broken;
            }
            ClassicRecord::Replaced { old, member } => {
                self.members.remove(&old);
                if self.leader.as_ref() == Some(&old) {
                    self.leader = Some(member.member.clone());
                }
                self.members.insert(member.member.clone(), member);
            }
        }
    }
}
