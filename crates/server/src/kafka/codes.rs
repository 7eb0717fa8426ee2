//! The engine's errors in Kafka's words. The only file of this door that maps one to the other.

use ottla_engine::batch::BatchError;
use ottla_engine::topic::ProduceError;
use ottla_engine::txn::producers::ProducerError;
use ottla_engine::{
    ConfigureError, CreateError, DeleteRecordsError, PartitionsError, ReadError, Refused,
};
use ottla_kafka_proto::{ApiVersion, ErrorCode};

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

pub(super) const fn produce(error: &ProduceError, version: ApiVersion) -> ErrorCode {
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
        BatchError::TooShort { .. } | BatchError::Length { .. } | BatchError::Crc { .. } => {
            ErrorCode::CORRUPT_MESSAGE
        }
        BatchError::Magic { found: 0 | 1 } => ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT,
        BatchError::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
        BatchError::ZstdNotAllowed => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        BatchError::TimestampType | BatchError::Timestamps { .. } => ErrorCode::INVALID_TIMESTAMP,
        _ => ErrorCode::INVALID_RECORD,
    }
}
