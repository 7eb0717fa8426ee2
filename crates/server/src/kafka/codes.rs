//! The engine's errors in Kafka's words. The only file of this door that maps one to the other.

use ottla_engine::batch::BatchError;
use ottla_engine::codec::InflateError;
use ottla_engine::group::classic::{CommitError, HeartbeatError, JoinError, LeaveError, SyncError};
use ottla_engine::group::consumer::BeatError;
use ottla_engine::group::offsets::{FetchError, OffsetError};
use ottla_engine::group::share::{AckError, ShareBeatError};
use ottla_engine::topic::ProduceError;
use ottla_engine::txn::coordinator::{AddError, EndError, InitError};
use ottla_engine::txn::producers::ProducerError;
use ottla_engine::{
    CommitFailure, CommitRefused, ConfigureError, ConsumerRefused, CreateError, DeleteGroupError,
    DeleteRecordsError, GroupRefused, PartitionsError, ReadError, Refused, ShareFetchError,
    TxnCommitRefused, TxnProduceError,
};
use ottla_kafka_proto::{ApiVersion, ErrorCode};

/// What the length field of a batch without records says.
const SHORTEST_BATCH: i32 = 49;

/// The only leader epoch there is while every acknowledgement is synced.
pub(super) const LEADER_EPOCH: i32 = 0;

/// Judges the leader epoch a client believes in; -1 is no belief.
pub(super) const fn check_epoch(believed: i32) -> Result<(), ErrorCode> {
    if believed > LEADER_EPOCH {
        return Err(ErrorCode::UNKNOWN_LEADER_EPOCH);
    }
    Ok(())
}

/// Retriable, so that clients wait for the disk instead of giving up.
pub(super) const fn refused(refused: Refused) -> ErrorCode {
    match refused {
        Refused::Busy => ErrorCode::THROTTLING_QUOTA_EXCEEDED,
        Refused::TooLarge => ErrorCode::MESSAGE_TOO_LARGE,
        _ => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

pub(super) const fn read(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::UnknownStream(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ReadError::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        ReadError::Corrupt { .. } => ErrorCode::CORRUPT_MESSAGE,
        _ => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

pub(super) const fn create(error: &CreateError) -> ErrorCode {
    match error {
        CreateError::Exists(_) => ErrorCode::TOPIC_ALREADY_EXISTS,
        CreateError::Name(_) | CreateError::Collides { .. } => ErrorCode::INVALID_TOPIC_EXCEPTION,
        CreateError::Partitions(_) => ErrorCode::INVALID_PARTITIONS,
        CreateError::Config(_) => ErrorCode::INVALID_CONFIG,
        CreateError::Refused(cause) => refused(*cause),
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn partitions(error: &PartitionsError) -> ErrorCode {
    match error {
        PartitionsError::UnknownTopic(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        PartitionsError::Count(_) => ErrorCode::INVALID_PARTITIONS,
        PartitionsError::Refused(cause) => refused(*cause),
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn configure(error: &ConfigureError) -> ErrorCode {
    match error {
        ConfigureError::UnknownTopic(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ConfigureError::Config(_) => ErrorCode::INVALID_CONFIG,
        ConfigureError::Refused(cause) => refused(*cause),
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn delete_records(error: &DeleteRecordsError) -> ErrorCode {
    match error {
        DeleteRecordsError::Gone => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        DeleteRecordsError::OutOfRange => ErrorCode::OFFSET_OUT_OF_RANGE,
        DeleteRecordsError::Refused(cause) => refused(*cause),
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn produce(error: &ProduceError) -> ErrorCode {
    match error {
        ProduceError::Gone => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ProduceError::Producer(ProducerError::InvalidEpoch) => ErrorCode::INVALID_PRODUCER_EPOCH,
        ProduceError::Producer(ProducerError::OutOfOrder) => {
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
        }
        ProduceError::Producer(ProducerError::InvalidTransactionState) => {
            ErrorCode::INVALID_TXN_STATE
        }
        ProduceError::Refused(cause) => refused(*cause),
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn batch(error: &BatchError) -> ErrorCode {
    match error {
        BatchError::Crc { .. } => ErrorCode::CORRUPT_MESSAGE,
        // no batch can be that short; a longer one is cut off, or another follows it
        BatchError::Length { declared, .. } if *declared < SHORTEST_BATCH => {
            ErrorCode::CORRUPT_MESSAGE
        }
        BatchError::Magic { found: 3.. } => ErrorCode::CORRUPT_MESSAGE,
        BatchError::TooLarge { .. } | BatchError::Compressed(InflateError::TooLarge { .. }) => {
            ErrorCode::MESSAGE_TOO_LARGE
        }
        BatchError::ZstdNotAllowed => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        BatchError::TimestampType | BatchError::Timestamps { .. } => ErrorCode::INVALID_TIMESTAMP,
        _ => ErrorCode::INVALID_RECORD,
    }
}

pub(super) const fn join(error: &JoinError) -> ErrorCode {
    match error {
        JoinError::InvalidSessionTimeout => ErrorCode::INVALID_SESSION_TIMEOUT,
        JoinError::InconsistentProtocol => ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        JoinError::UnknownMember => ErrorCode::UNKNOWN_MEMBER_ID,
        JoinError::FencedInstance => ErrorCode::FENCED_INSTANCE_ID,
        JoinError::MemberIdRequired(_) => ErrorCode::MEMBER_ID_REQUIRED,
        JoinError::GroupFull => ErrorCode::GROUP_MAX_SIZE_REACHED,
        JoinError::Superseded => ErrorCode::REBALANCE_IN_PROGRESS,
        JoinError::UnreleasedInstance => ErrorCode::UNRELEASED_INSTANCE_ID,
        JoinError::Dead => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn sync(error: &SyncError) -> ErrorCode {
    match error {
        SyncError::UnknownMember => ErrorCode::UNKNOWN_MEMBER_ID,
        SyncError::FencedInstance => ErrorCode::FENCED_INSTANCE_ID,
        SyncError::IllegalGeneration => ErrorCode::ILLEGAL_GENERATION,
        SyncError::InconsistentProtocol => ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        SyncError::RebalanceInProgress => ErrorCode::REBALANCE_IN_PROGRESS,
        SyncError::Dead => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn heartbeat(error: &HeartbeatError) -> ErrorCode {
    match error {
        HeartbeatError::UnknownMember => ErrorCode::UNKNOWN_MEMBER_ID,
        HeartbeatError::FencedInstance => ErrorCode::FENCED_INSTANCE_ID,
        HeartbeatError::IllegalGeneration => ErrorCode::ILLEGAL_GENERATION,
        HeartbeatError::RebalanceInProgress => ErrorCode::REBALANCE_IN_PROGRESS,
        HeartbeatError::Dead => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn leave(error: &LeaveError) -> ErrorCode {
    match error {
        LeaveError::UnknownMember => ErrorCode::UNKNOWN_MEMBER_ID,
        LeaveError::FencedInstance => ErrorCode::FENCED_INSTANCE_ID,
        LeaveError::Dead => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn commit(error: &CommitError) -> ErrorCode {
    match error {
        CommitError::UnknownMember => ErrorCode::UNKNOWN_MEMBER_ID,
        CommitError::FencedInstance => ErrorCode::FENCED_INSTANCE_ID,
        CommitError::IllegalGeneration => ErrorCode::ILLEGAL_GENERATION,
        CommitError::RebalanceInProgress => ErrorCode::REBALANCE_IN_PROGRESS,
        CommitError::GroupNotFound => ErrorCode::GROUP_ID_NOT_FOUND,
        CommitError::StaleMemberEpoch => ErrorCode::STALE_MEMBER_EPOCH,
        CommitError::UnsupportedVersion => ErrorCode::UNSUPPORTED_VERSION,
        CommitError::Dead => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn commit_refused(error: &CommitRefused) -> ErrorCode {
    match error {
        CommitRefused::Commit(cause) => commit(cause),
        CommitRefused::Group(cause) => group_refused(cause),
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn commit_failure(error: CommitFailure) -> ErrorCode {
    match error {
        CommitFailure::UnknownPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        CommitFailure::Offset(OffsetError::MetadataTooLarge) => {
            ErrorCode::OFFSET_METADATA_TOO_LARGE
        }
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn offset_fetch(error: FetchError) -> ErrorCode {
    match error {
        FetchError::Unstable => ErrorCode::UNSTABLE_OFFSET_COMMIT,
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

/// Retriable for every client of a coordinator.
pub(super) const fn group_refused(error: &GroupRefused) -> ErrorCode {
    match error {
        GroupRefused::Refused(Refused::Busy) => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        _ => ErrorCode::COORDINATOR_NOT_AVAILABLE,
    }
}

pub(super) const fn delete_group(error: &DeleteGroupError) -> ErrorCode {
    match error {
        DeleteGroupError::NotFound => ErrorCode::GROUP_ID_NOT_FOUND,
        DeleteGroupError::NotEmpty => ErrorCode::NON_EMPTY_GROUP,
        _ => ErrorCode::COORDINATOR_NOT_AVAILABLE,
    }
}

pub(super) const fn beat(error: &BeatError) -> ErrorCode {
    match error {
        BeatError::InvalidRequest(_) => ErrorCode::INVALID_REQUEST,
        BeatError::UnknownMember(_) => ErrorCode::UNKNOWN_MEMBER_ID,
        BeatError::GroupFull => ErrorCode::GROUP_MAX_SIZE_REACHED,
        BeatError::FencedInstance => ErrorCode::FENCED_INSTANCE_ID,
        BeatError::FencedEpoch => ErrorCode::FENCED_MEMBER_EPOCH,
        BeatError::UnreleasedInstance => ErrorCode::UNRELEASED_INSTANCE_ID,
        BeatError::UnsupportedAssignor(_) => ErrorCode::UNSUPPORTED_ASSIGNOR,
        BeatError::InvalidRegex(_) => ErrorCode::INVALID_REGULAR_EXPRESSION,
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn consumer_refused(error: &ConsumerRefused) -> ErrorCode {
    match error {
        ConsumerRefused::NotFound | ConsumerRefused::OtherProtocol(_) => {
            ErrorCode::GROUP_ID_NOT_FOUND
        }
        ConsumerRefused::Group(cause) => group_refused(cause),
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn share_beat(error: &ShareBeatError) -> ErrorCode {
    match error {
        ShareBeatError::InvalidRequest(_) => ErrorCode::INVALID_REQUEST,
        ShareBeatError::UnknownMember(_) => ErrorCode::UNKNOWN_MEMBER_ID,
        ShareBeatError::GroupFull => ErrorCode::GROUP_MAX_SIZE_REACHED,
        ShareBeatError::FencedEpoch => ErrorCode::FENCED_MEMBER_EPOCH,
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn share_ack(error: AckError) -> ErrorCode {
    match error {
        AckError::InvalidRequest(_) => ErrorCode::INVALID_REQUEST,
        AckError::InvalidState => ErrorCode::INVALID_RECORD_STATE,
        AckError::UnknownPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn share_fetch(error: &ShareFetchError) -> ErrorCode {
    match error {
        ShareFetchError::Group(cause) => consumer_refused(cause),
        ShareFetchError::Read(cause) => read(cause),
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

/// Retriable for every producer.
pub(super) const fn txn_refused(refused: Refused) -> ErrorCode {
    match refused {
        Refused::Busy => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        _ => ErrorCode::COORDINATOR_NOT_AVAILABLE,
    }
}

/// A producer that is older than another of its name; the name of that came late (KIP-588).
const fn fenced(named: bool) -> ErrorCode {
    if named { ErrorCode::PRODUCER_FENCED } else { ErrorCode::INVALID_PRODUCER_EPOCH }
}

pub(super) const fn txn_init(error: InitError, version: ApiVersion) -> ErrorCode {
    match error {
        InitError::EmptyId => ErrorCode::INVALID_REQUEST,
        InitError::InvalidTimeout => ErrorCode::INVALID_TRANSACTION_TIMEOUT,
        InitError::Fenced => fenced(version.0 >= 4),
        InitError::TooManyIds => ErrorCode::POLICY_VIOLATION,
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

/// AddPartitionsToTxn and AddOffsetsToTxn.
pub(super) const fn txn_add(error: AddError, version: ApiVersion) -> ErrorCode {
    match error {
        AddError::Fenced => fenced(version.0 >= 2),
        other => txn_write(other, false),
    }
}

/// Writing in a transaction; newer clients know an error after which they may abort and go on.
pub(super) const fn txn_write(error: AddError, abortable_known: bool) -> ErrorCode {
    match error {
        AddError::EmptyId => ErrorCode::INVALID_REQUEST,
        AddError::WrongProducer => ErrorCode::INVALID_PRODUCER_ID_MAPPING,
        AddError::Fenced => ErrorCode::INVALID_PRODUCER_EPOCH,
        AddError::NotInTransaction if abortable_known => ErrorCode::TRANSACTION_ABORTABLE,
        AddError::NotInTransaction => ErrorCode::INVALID_TXN_STATE,
        AddError::TooMany => ErrorCode::POLICY_VIOLATION,
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn txn_produce(error: &TxnProduceError, version: ApiVersion) -> ErrorCode {
    match error {
        TxnProduceError::Add(cause) => txn_write(*cause, version.0 >= 11),
        TxnProduceError::Produce(cause) => produce(cause),
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn txn_commit(error: &TxnCommitRefused, version: ApiVersion) -> ErrorCode {
    match error {
        TxnCommitRefused::Add(cause) => txn_write(*cause, version.0 >= 4),
        TxnCommitRefused::Commit(cause) => match commit_refused(cause) {
            // Kafka knows these by other names here
            ErrorCode::GROUP_ID_NOT_FOUND | ErrorCode::STALE_MEMBER_EPOCH => {
                ErrorCode::ILLEGAL_GENERATION
            }
            code => code,
        },
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

pub(super) const fn txn_end(error: EndError, version: ApiVersion) -> ErrorCode {
    match error {
        EndError::EmptyId => ErrorCode::INVALID_REQUEST,
        EndError::WrongProducer => ErrorCode::INVALID_PRODUCER_ID_MAPPING,
        EndError::Fenced => fenced(version.0 >= 2),
        EndError::InvalidState => ErrorCode::INVALID_TXN_STATE,
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}
