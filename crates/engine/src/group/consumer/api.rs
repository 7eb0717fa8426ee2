//! What is asked of a KIP-848 group, what it answers, and what it has to know of the topics.

use std::fmt;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use crate::group::assignor::{Parts, TopicId};
use crate::group::ids::{InstanceId, MemberId};

/// ConsumerGroupHeartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Made by the client (v1), or by the server for the empty id of a v0 join.
    pub member: MemberId,
    /// 0 joins, -1 leaves, -2 leaves for a while (static members), else the member's epoch.
    pub epoch: i32,
    /// A static member's name.
    pub instance: Option<InstanceId>,
    /// The member's rack, kept and shown.
    pub rack: Option<Arc<str>>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where the client connects from.
    pub client_host: Arc<str>,
    /// `None` (-1): as before. Milliseconds.
    pub rebalance_timeout_ms: Option<i32>,
    /// `None`: as before.
    pub topics: Option<Vec<Arc<str>>>,
    /// `None`: as before; empty: none (librdkafka sends it so).
    pub regex: Option<Arc<str>>,
    /// `None`: as before.
    pub assignor: Option<Arc<str>>,
    /// What the member has; `None`: as before.
    pub owned: Option<Parts>,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beaten {
    /// The member.
    pub member: MemberId,
    /// Its epoch from here on.
    pub epoch: i32,
    /// When it is to speak again, in milliseconds.
    pub heartbeat_interval_ms: u32,
    /// What it is to have; `None`: as before.
    pub assignment: Option<Parts>,
}

/// Why a heartbeat was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BeatError {
    /// `INVALID_REQUEST` (42), with the reason as Kafka words it.
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// `UNKNOWN_MEMBER_ID` (25).
    #[error("Member {0} is not a member of group.")]
    UnknownMember(MemberId),
    /// `GROUP_MAX_SIZE_REACHED` (81).
    #[error("The consumer group has reached its maximum capacity.")]
    GroupFull,
    /// `FENCED_INSTANCE_ID` (82): the instance id belongs to another member.
    #[error("The instance id belongs to another member.")]
    FencedInstance,
    /// `FENCED_MEMBER_EPOCH` (110): give up everything and join again.
    #[error("The member epoch is not the group coordinator's.")]
    FencedEpoch,
    /// `UNRELEASED_INSTANCE_ID` (111): the member that has the instance id has not left.
    #[error("The instance id is still used by another member.")]
    UnreleasedInstance,
    /// `UNSUPPORTED_ASSIGNOR` (112).
    #[error("ServerAssignor {0} is not supported. Supported assignors: uniform, range.")]
    UnsupportedAssignor(Arc<str>),
    /// `INVALID_REGULAR_EXPRESSION` (128).
    #[error("SubscribedTopicRegex `{0}` is not a valid regular expression.")]
    InvalidRegex(Arc<str>),
}

/// The topics that exist, as a group has to know them.
pub trait Topics {
    /// Another number whenever a topic or its number of partitions has changed.
    fn version(&self) -> u64;
    /// UUID and number of partitions of a topic.
    fn find(&self, name: &str) -> Option<(TopicId, u32)>;
    /// Shows every topic: name, UUID, number of partitions.
    fn each(&self, visit: &mut dyn FnMut(&str, TopicId, u32));
}

/// Settings and bounds of KIP-848 groups; Kafka's names in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerSettings {
    /// Milliseconds of silence after which a member is removed (`group.consumer.session.timeout.ms`).
    pub session_timeout_ms: u32,
    /// Told to the members (`group.consumer.heartbeat.interval.ms`).
    pub heartbeat_interval_ms: u32,
    /// Members of a group (`group.consumer.max.size`); more are told that the group is full.
    pub members_max: usize,
    /// Topics that a member may name; more are an invalid request.
    pub topics_max: usize,
}

impl Default for ConsumerSettings {
    fn default() -> Self {
        Self {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            members_max: 10_000,
            topics_max: 10_000,
        }
    }
}

/// Where a KIP-848 group stands; printed with Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// No member; offsets may exist.
    Empty,
    /// Something has changed, the next heartbeat makes a new target.
    Assigning,
    /// Members are on their way to the target.
    Reconciling,
    /// Every member has what the target says.
    Stable,
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        })
    }
}

/// The pattern as Kafka means it: it has to match a whole name. Linear in the name's length
/// whatever the pattern; too large a pattern is none.
pub(super) fn compile(pattern: &str) -> Option<Regex> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return None;
    }
    Regex::new(pattern).ok()?; // as it stands: `a)(b` must not become valid in brackets
    let whole = format!("^(?:{pattern})$");
    RegexBuilder::new(&whole)
        .size_limit(PROGRAM_BYTES_MAX)
        .dfa_size_limit(PROGRAM_BYTES_MAX)
        .build()
        .ok()
}

const PATTERN_BYTES_MAX: usize = 4_096;
const PROGRAM_BYTES_MAX: usize = 1 << 20;
