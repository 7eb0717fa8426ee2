//! What is asked of a share group and what it answers.

use std::fmt;
use std::sync::Arc;

use crate::group::assignor::Parts;
use crate::group::ids::MemberId;

/// ShareGroupHeartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareBeat {
    /// Made by the client; at most 36 characters.
    pub member: MemberId,
    /// 0 joins, -1 leaves, else the member's epoch.
    pub epoch: i32,
    /// The member's rack, kept and shown.
    pub rack: Option<Arc<str>>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where the client connects from.
    pub client_host: Arc<str>,
    /// `None`: as before.
    pub topics: Option<Vec<Arc<str>>>,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareBeaten {
    /// The member.
    pub member: MemberId,
    /// Its epoch from here on; -1 for one that has left.
    pub epoch: i32,
    /// When it is to speak again, in milliseconds.
    pub heartbeat_interval_ms: u32,
    /// What it is to fetch from; `None`: as before.
    pub assignment: Option<Parts>,
}

/// Why a heartbeat was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareBeatError {
    /// `INVALID_REQUEST` (42), with the reason as Kafka words it.
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// `UNKNOWN_MEMBER_ID` (25).
    #[error("Member {0} is not a member of group.")]
    UnknownMember(MemberId),
    /// `GROUP_MAX_SIZE_REACHED` (81).
    #[error("The share group has reached its maximum capacity.")]
    GroupFull,
    /// `FENCED_MEMBER_EPOCH` (110): join again.
    #[error("The member epoch is not the group coordinator's.")]
    FencedEpoch,
}

/// What a batch of the log holds, as far as sharing it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first offset.
    pub first: i64,
    /// Its last offset.
    pub last: i64,
    /// Nothing for consumers: a marker of a transaction, or records that were aborted.
    pub hidden: bool,
}

/// A member wants records of one partition.
#[derive(Clone, Debug)]
pub struct Take<'a> {
    /// Who.
    pub member: &'a MemberId,
    /// The offset that was read from, as [`ShareGroup::next`](super::ShareGroup::next) said.
    pub from: i64,
    /// The visible batches from there on, ascending; what lies between two does not exist.
    pub spans: &'a [Span],
    /// How many records; unless `strict`, the batch that reaches it is given whole.
    pub records_max: u32,
    /// Never more than `records_max` (KIP-1206).
    pub strict: bool,
    /// Records of one [`Acquired`], at most, unless one batch holds more.
    pub batch_size: u32,
    /// Records between the start and the end of the window, at most; the last batch may exceed it.
    pub locks_max: u32,
}

/// Neighbouring records that a member now holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// The first.
    pub first: i64,
    /// The last.
    pub last: i64,
    /// How often they have been delivered, with this time.
    pub count: u16,
}

/// What a member says of a record (KIP-932).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckType {
    /// 0: there is no such record.
    Gap,
    /// 1: done.
    Accept,
    /// 2: not done, deliver it again.
    Release,
    /// 3: cannot be done, never deliver it again.
    Reject,
    /// 4: not done yet, hold it longer (KIP-1222).
    Renew,
}

impl AckType {
    /// The type that Kafka gives this number.
    #[must_use]
    pub const fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Gap),
            1 => Some(Self::Accept),
            2 => Some(Self::Release),
            3 => Some(Self::Reject),
            4 => Some(Self::Renew),
            _ => None,
        }
    }
}

/// What a member says of neighbouring records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckBatch {
    /// The first.
    pub first: i64,
    /// The last.
    pub last: i64,
    /// One for all, or one for each.
    pub types: Vec<AckType>,
}

impl AckBatch {
    /// Runs of the same type.
    pub(super) fn pieces(&self) -> Vec<(i64, i64, AckType)> {
        if let [kind] = *self.types {
            return vec![(self.first, self.last, kind)];
        }
        let mut pieces: Vec<(i64, i64, AckType)> = Vec::new();
        for (at, kind) in (self.first..=self.last).zip(&self.types) {
            match pieces.last_mut() {
                Some(piece) if piece.2 == *kind => piece.1 = at,
                _ => pieces.push((at, at, *kind)),
            }
        }
        pieces
    }
}

/// Neighbouring records that a group gives up, though nobody accepted them (KIP-1191).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// The first.
    pub first: i64,
    /// The last.
    pub last: i64,
    /// How often they were delivered.
    pub count: u16,
    /// Why.
    pub cause: Cause,
}

/// Why a group gives records up; printed with Kafka's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A member rejected them.
    Rejected,
    /// They came back from their last delivery.
    Limit,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rejected => "Offset rejected by client.",
            Self::Limit => "Offset delivery count exceeded the threshold.",
        })
    }
}

/// Why acknowledgements of one partition were refused, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// `INVALID_REQUEST` (42).
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// `INVALID_RECORD_STATE` (121): not held by the member, or not any more.
    #[error("The record state is invalid. The acknowledgement of delivery could not be completed.")]
    InvalidState,
    /// `UNKNOWN_TOPIC_OR_PARTITION` (3): the group does not share it.
    #[error("the group does not share the partition")]
    UnknownPartition,
}

/// Whether batches of acknowledgements can be meant: ascending, with a type for all or for each.
pub fn check_batches(batches: &[AckBatch]) -> Result<(), AckError> {
    let mut before = None;
    for batch in batches {
        if batch.first > batch.last || batch.first < 0 {
            return Err(AckError::InvalidRequest("The first offset is behind the last."));
        }
        if before.is_some_and(|last| batch.first <= last) {
            return Err(AckError::InvalidRequest("The batches overlap or do not ascend."));
        }
        before = Some(batch.last);
        let each = batch.last.checked_sub(batch.first).and_then(|span| span.checked_add(1));
        let count = i64::try_from(batch.types.len()).unwrap_or(i64::MAX);
        if count == 0 || (count > 1 && Some(count) != each) {
            return Err(AckError::InvalidRequest("The number of types does not fit the offsets."));
        }
    }
    Ok(())
}

/// Where a share partition starts, and how much is left behind that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The share-partition start offset.
    pub start: i64,
    /// Offsets that are not done with.
    pub lag: i64,
}

/// Settings and bounds of share groups; Kafka's names in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareSettings {
    /// Milliseconds of silence after which a member is removed (`share.session.timeout.ms`).
    pub session_timeout_ms: u32,
    /// Told to the members (`share.heartbeat.interval.ms`).
    pub heartbeat_interval_ms: u32,
    /// Members of a group (`group.share.max.size`); more are told that the group is full.
    pub members_max: usize,
    /// Topics that a member may name; more are an invalid request.
    pub topics_max: usize,
    /// How long a member holds a record (`share.record.lock.duration.ms`).
    pub lock_ms: u32,
    /// Deliveries of a record; one that comes back from the last is archived
    /// (`share.delivery.count.limit`).
    pub delivery_limit: u16,
    /// Records of a partition in flight (`share.partition.max.record.locks`).
    pub locks_max: u32,
    /// What is given up waits for its dead letter: the group names a topic for them (KIP-1191).
    pub buries: bool,
}

impl Default for ShareSettings {
    fn default() -> Self {
        Self {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            members_max: 200,
            topics_max: 10_000,
            lock_ms: 30_000,
            delivery_limit: 5,
            locks_max: 2_000,
            buries: false,
        }
    }
}

/// Where a share group stands; printed with Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareState {
    /// No member.
    Empty,
    /// It has members.
    Stable,
}

impl fmt::Display for ShareState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Stable => "Stable",
        })
    }
}
