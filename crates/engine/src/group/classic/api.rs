//! What is asked of a classic group and what it answers.

use std::sync::Arc;

use bytes::Bytes;

use crate::group::ids::{Generation, InstanceId, MemberId, Ticket};

/// A request to a classic group (research/kafka.md 2.5).
#[derive(Clone, Debug)]
pub enum Command {
    /// JoinGroup: waits until the join phase is complete.
    Join(Join),
    /// SyncGroup: waits until the leader has brought the assignment.
    Sync(Sync),
    /// Heartbeat.
    Heartbeat(Heartbeat),
    /// LeaveGroup, of one or several members.
    Leave(Leave),
}

impl Command {
    /// Where the answer goes.
    #[must_use]
    pub const fn ticket(&self) -> Ticket {
        match self {
            Self::Join(join) => join.ticket,
            Self::Sync(sync) => sync.ticket,
            Self::Heartbeat(beat) => beat.ticket,
            Self::Leave(leave) => leave.ticket,
        }
    }
}

/// JoinGroup.
#[derive(Clone, Debug)]
pub struct Join {
    /// Where the answer goes.
    pub ticket: Ticket,
    /// `None` for the empty member id of a newcomer.
    pub member: Option<MemberId>,
    /// A static member's name.
    pub instance: Option<InstanceId>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where the client connects from.
    pub client_host: Arc<str>,
    /// `consumer`, `connect`, …; not empty.
    pub protocol_type: Arc<str>,
    /// Name and opaque metadata of each protocol (assignor), the preferred first; not empty.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// Milliseconds without a heartbeat after which the member is removed.
    pub session_timeout_ms: i32,
    /// Milliseconds that the member may take to rejoin; v0 has the session timeout here.
    pub rebalance_timeout_ms: i32,
    /// v4+: a dynamic newcomer is first given its id and has to come again with it (KIP-394).
    pub id_required: bool,
    /// v9+: a static leader that returns can be told to keep the assignment (KIP-814).
    pub can_skip_assignment: bool,
    /// The chance that a new member id is made of.
    pub uuid: [u8; 16],
}

/// SyncGroup.
#[derive(Clone, Debug)]
pub struct Sync {
    /// Where the answer goes.
    pub ticket: Ticket,
    /// Who asks.
    pub member: MemberId,
    /// A static member's name.
    pub instance: Option<InstanceId>,
    /// The generation that the member was told in its join.
    pub generation: Generation,
    /// v5+: must be the group's if given.
    pub protocol_type: Option<Arc<str>>,
    /// v5+: must be the group's if given.
    pub protocol: Option<Arc<str>>,
    /// The leader's: what each member is to do. Names that are no members are ignored.
    pub assignments: Vec<(MemberId, Bytes)>,
}

/// Heartbeat.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// Where the answer goes.
    pub ticket: Ticket,
    /// Who asks.
    pub member: MemberId,
    /// A static member's name.
    pub instance: Option<InstanceId>,
    /// The generation that the member was told.
    pub generation: Generation,
}

/// LeaveGroup.
#[derive(Clone, Debug)]
pub struct Leave {
    /// Where the answer goes.
    pub ticket: Ticket,
    /// Who leaves, each judged on its own.
    pub members: Vec<Leaver>,
}

/// One member that leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaver {
    /// `None` if only the instance is named (an administrator removes a static member).
    pub member: Option<MemberId>,
    /// A static member's name.
    pub instance: Option<InstanceId>,
}

/// The answer to a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Command::Join`].
    Join(Result<Joined, JoinError>),
    /// To [`Command::Sync`].
    Sync(Result<Synced, SyncError>),
    /// To [`Command::Heartbeat`].
    Heartbeat(Result<(), HeartbeatError>),
    /// To [`Command::Leave`]: one result for each leaver, in order.
    Leave(Vec<Result<(), LeaveError>>),
}

/// A completed join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The generation that the member is now part of.
    pub generation: Generation,
    /// The type that all members share.
    pub protocol_type: Arc<str>,
    /// The protocol that was voted for.
    pub protocol: Arc<str>,
    /// Who makes the assignment.
    pub leader: MemberId,
    /// The asker's name.
    pub member: MemberId,
    /// The leader must not make a new assignment (KIP-814).
    pub skip_assignment: bool,
    /// For the leader alone: every member with its metadata for the chosen protocol.
    pub members: Vec<JoinedMember>,
}

/// A member as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// The member.
    pub member: MemberId,
    /// A static member's name.
    pub instance: Option<InstanceId>,
    /// Opaque: of the chosen protocol.
    pub metadata: Bytes,
}

/// A completed sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The group's protocol type.
    pub protocol_type: Arc<str>,
    /// The group's protocol.
    pub protocol: Arc<str>,
    /// Opaque: what the leader wrote for this member; empty if it wrote nothing.
    pub assignment: Bytes,
}

/// Why a join was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// `INVALID_SESSION_TIMEOUT` (26): outside the broker's bounds.
    #[error("the session timeout is outside the broker's bounds")]
    InvalidSessionTimeout,
    /// `INCONSISTENT_GROUP_PROTOCOL` (23): no type, no protocol, or none that all members share.
    #[error("the protocols do not fit the group's")]
    InconsistentProtocol,
    /// `UNKNOWN_MEMBER_ID` (25): the id is not, or no longer, a member's.
    #[error("no such member")]
    UnknownMember,
    /// `FENCED_INSTANCE_ID` (82): another member has the instance id now.
    #[error("the instance id belongs to a newer member")]
    FencedInstance,
    /// `MEMBER_ID_REQUIRED` (79): come again with this id.
    #[error("come again as {0}")]
    MemberIdRequired(MemberId),
    /// `GROUP_MAX_SIZE_REACHED` (81).
    #[error("the group is full")]
    GroupFull,
    /// `UNKNOWN_SERVER_ERROR` (-1), as Kafka answers when a group does not fit into its log.
    #[error("the protocol metadata is too large")]
    MetadataTooLarge,
    /// `REBALANCE_IN_PROGRESS` (27): the same member has asked again over another connection.
    #[error("a newer join of the same member replaces this one")]
    Superseded,
    /// `COORDINATOR_NOT_AVAILABLE` (15): the group is being deleted; try again.
    #[error("the group is gone")]
    Dead,
    /// `UNRELEASED_INSTANCE_ID` (111): a member of the consumer protocol has the instance id and has
    /// not left.
    #[error("the instance id is still used by another member")]
    UnreleasedInstance,
    /// `UNKNOWN_SERVER_ERROR` (-1), as Kafka answers in a group that moves between the protocols.
    #[error("the protocol metadata is no subscription")]
    NoSubscription,
}

/// Why a sync was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// `UNKNOWN_MEMBER_ID` (25).
    #[error("no such member")]
    UnknownMember,
    /// `FENCED_INSTANCE_ID` (82).
    #[error("the instance id belongs to a newer member")]
    FencedInstance,
    /// `ILLEGAL_GENERATION` (22).
    #[error("not the group's generation")]
    IllegalGeneration,
    /// `INCONSISTENT_GROUP_PROTOCOL` (23): type or protocol are not the group's.
    #[error("the protocol is not the group's")]
    InconsistentProtocol,
    /// `REBALANCE_IN_PROGRESS` (27): join again. Also if a newer sync replaces this one.
    #[error("join again")]
    RebalanceInProgress,
    /// `UNKNOWN_SERVER_ERROR` (-1), as Kafka answers when a group does not fit into its log.
    #[error("the assignment is too large")]
    AssignmentTooLarge,
    /// `COORDINATOR_NOT_AVAILABLE` (15).
    #[error("the group is gone")]
    Dead,
}

/// Why a heartbeat was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeartbeatError {
    /// `UNKNOWN_MEMBER_ID` (25).
    #[error("no such member")]
    UnknownMember,
    /// `FENCED_INSTANCE_ID` (82).
    #[error("the instance id belongs to a newer member")]
    FencedInstance,
    /// `ILLEGAL_GENERATION` (22).
    #[error("not the group's generation")]
    IllegalGeneration,
    /// `REBALANCE_IN_PROGRESS` (27): join again. The session was refreshed.
    #[error("join again")]
    RebalanceInProgress,
    /// `COORDINATOR_NOT_AVAILABLE` (15).
    #[error("the group is gone")]
    Dead,
}

/// Why one member could not leave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaveError {
    /// `UNKNOWN_MEMBER_ID` (25).
    #[error("no such member")]
    UnknownMember,
    /// `FENCED_INSTANCE_ID` (82).
    #[error("the instance id belongs to a newer member")]
    FencedInstance,
    /// `COORDINATOR_NOT_AVAILABLE` (15).
    #[error("the group is gone")]
    Dead,
}

/// Why an offset commit of a member was refused as a whole (research/kafka.md 2.5).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// `UNKNOWN_MEMBER_ID` (25).
    #[error("no such member")]
    UnknownMember,
    /// `FENCED_INSTANCE_ID` (82).
    #[error("the instance id belongs to a newer member")]
    FencedInstance,
    /// `ILLEGAL_GENERATION` (22).
    #[error("not the group's generation")]
    IllegalGeneration,
    /// `REBALANCE_IN_PROGRESS` (27): between join and sync nothing is committed.
    #[error("the generation has no assignment yet")]
    RebalanceInProgress,
    /// `GROUP_ID_NOT_FOUND` (69): OffsetCommit v9+ with a generation or epoch for an absent group.
    #[error("no such group")]
    GroupNotFound,
    /// `STALE_MEMBER_EPOCH` (113): the epoch is not the member's (KIP-848).
    #[error("not the member's epoch")]
    StaleMemberEpoch,
    /// `UNSUPPORTED_VERSION` (35): a KIP-848 member has to use OffsetCommit v9+.
    #[error("a member of the consumer protocol has to commit with version 9 or later")]
    UnsupportedVersion,
    /// `COORDINATOR_NOT_AVAILABLE` (15).
    #[error("the group is gone")]
    Dead,
}
