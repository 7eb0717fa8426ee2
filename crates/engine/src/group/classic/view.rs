//! What DescribeGroups and ListGroups show of a classic group.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::join::metadata_of;
use super::{ClassicGroup, Member};
use crate::clock::Wall;
use crate::group::ids::{Generation, InstanceId, MemberId};

/// Where a classic group stands; printed with Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No member; offsets may exist.
    Empty,
    /// Members are asked to join again.
    PreparingRebalance,
    /// All have joined, the leader's assignment is still to come.
    CompletingRebalance,
    /// All have an assignment.
    Stable,
    /// Deleted.
    Dead,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        })
    }
}

/// A member as DescribeGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Its name.
    pub member: MemberId,
    /// A static member's name.
    pub instance: Option<InstanceId>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where it connects from.
    pub client_host: Arc<str>,
    /// Opaque metadata of the group's protocol; empty unless the group is stable.
    pub metadata: Bytes,
    /// Opaque assignment; empty unless the group is stable.
    pub assignment: Bytes,
}

impl ClassicGroup {
    /// Where the group stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The last generation.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// `consumer`, `connect`, …; `None` if nobody ever joined.
    #[must_use]
    pub fn protocol_type(&self) -> Option<&Arc<str>> {
        self.protocol_type.as_ref()
    }

    /// The protocol in force, if the group is stable (as Kafka shows it).
    #[must_use]
    pub fn protocol(&self) -> Option<&Arc<str>> {
        self.protocol.as_ref().filter(|_| self.phase == Phase::Stable)
    }

    /// Members; newcomers that only hold an id are none.
    #[must_use]
    pub fn members_len(&self) -> usize {
        self.members.len()
    }

    /// Every member, in the order of their ids.
    #[must_use]
    pub fn members(&self) -> Vec<MemberView> {
        let protocol = self.protocol();
        let view = |member: &Member| MemberView {
            member: member.about.member.clone(),
            instance: member.about.instance.clone(),
            client_id: member.about.client_id.clone(),
            client_host: member.about.client_host.clone(),
            metadata: protocol.map(|p| metadata_of(&member.about, p)).unwrap_or_default(),
            assignment: protocol.map(|_| member.about.assignment.clone()).unwrap_or_default(),
        };
        self.members.values().map(view).collect()
    }

    /// Since when the group has no member; `None` if it has one or never had.
    #[must_use]
    pub fn empty_since(&self) -> Option<Wall> {
        let was_used = self.phase == Phase::Empty && self.protocol_type.is_some();
        was_used.then_some(self.remembered.at)
    }
}
