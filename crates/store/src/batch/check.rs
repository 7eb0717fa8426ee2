//! What a client's batch must be before it may enter a partition (kafka.md 2.2).

use bytes::Bytes;

use super::header::{CRC_COVERS_FROM, HEADER_BYTES};
use super::walk::{Walked, walk};
use super::{BatchHeader, PreparedBatch, TimestampType};
use crate::LeaderEpoch;
use crate::codec::{Codec, InflateError};

/// What a topic and a request demand of a batch. The defaults are Kafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRules {
    /// `max.message.bytes`: bytes of the whole batch, as it is sent.
    pub bytes_max: usize,
    /// Whether the request's version knows zstd (Produce 7 and above).
    pub zstd_allowed: bool,
    /// Whether every record needs a key: `cleanup.policy` contains `compact`.
    pub keys_required: bool,
    /// `message.timestamp.type`. With `LogAppendTime` the batch is stamped with `now`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far below `now` a timestamp may be.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far above `now`.
    pub timestamp_after_max_ms: i64,
    /// How closely compressed records are looked at.
    pub validation: Validation,
    /// What is stamped into the batch.
    pub leader_epoch: LeaderEpoch,
}

/// How closely compressed records are looked at (`records.validation`). Uncompressed ones are
/// always walked in full, and compressed ones too where keys are required.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validation {
    /// Decompress, and walk every record.
    #[default]
    Full,
    /// Trust the header and the CRC.
    Header,
}

/// Why a batch is refused; a variant is a reaction. The codes are those of Apache Kafka.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Not even a header, or cut off. CORRUPT_MESSAGE (2).
    #[error("{bytes} bytes where a batch needs {needed}")]
    TooShort {
        /// What is there.
        bytes: usize,
        /// What is missing at least.
        needed: usize,
    },
    /// Not record format 2. UNSUPPORTED_FOR_MESSAGE_FORMAT (43) for 0 and 1, else INVALID_RECORD (87).
    #[error("record format {found}; only 2 is taken")]
    Magic {
        /// The format.
        found: u8,
    },
    /// The length field is not that of the bytes. CORRUPT_MESSAGE (2).
    #[error("a batch with length {declared} in {present} bytes")]
    Length {
        /// What the field says.
        declared: i32,
        /// Bytes there are, with the 12 that the field does not count.
        present: usize,
    },
    /// The checksum does not hold. CORRUPT_MESSAGE (2).
    #[error("checksum {computed:#010x}, the batch says {stored:#010x}")]
    Crc {
        /// What the batch says.
        stored: u32,
        /// What its bytes say.
        computed: u32,
    },
    /// Larger than the topic takes. MESSAGE_TOO_LARGE (10).
    #[error("{bytes} bytes; the topic takes batches of {bytes_max}")]
    TooLarge {
        /// Of the batch.
        bytes: usize,
        /// `max.message.bytes`.
        bytes_max: usize,
    },
    /// A producer numbers from 0. INVALID_RECORD (87).
    #[error("base offset {found} where a producer sends 0")]
    BaseOffset {
        /// What it sent.
        found: i64,
    },
    /// No records, or not as many as the offsets say. INVALID_RECORD (87).
    #[error("{count} records up to offset delta {last_offset_delta}")]
    Count {
        /// The record count.
        count: i32,
        /// The last offset delta.
        last_offset_delta: i32,
    },
    /// Only the broker writes markers. INVALID_RECORD (87).
    #[error("control batch from a client")]
    Control,
    /// A producer id without a sequence number. INVALID_RECORD (87).
    #[error("producer id without a base sequence")]
    BaseSequence,
    /// No such codec. INVALID_RECORD (87).
    #[error("unknown compression {bits}")]
    UnknownCodec {
        /// Bits 0 to 2 of the attributes.
        bits: i16,
    },
    /// zstd in a request too old for it. UNSUPPORTED_COMPRESSION_TYPE (76).
    #[error("zstd needs Produce version 7")]
    ZstdNotAllowed,
    /// The batch claims that the broker set its timestamps. INVALID_TIMESTAMP (32).
    #[error("timestamp type LogAppendTime from a client")]
    TimestampType,
    /// Timestamps outside what the topic takes. INVALID_TIMESTAMP (32).
    #[error("{} records have timestamps outside the topic's bounds", records.len())]
    Timestamps {
        /// Their indexes, the first [`REPORTED_RECORDS_MAX`].
        records: Vec<i32>,
    },
    /// Records without a key for a compacted topic. INVALID_RECORD (87) with record errors.
    #[error("{} records without a key on a compacted topic", records.len())]
    Keyless {
        /// Their indexes, the first [`REPORTED_RECORDS_MAX`].
        records: Vec<i32>,
    },
    /// Offset deltas that are not 0, 1, 2… INVALID_RECORD (87).
    #[error("record {record} has offset delta {found}")]
    Offsets {
        /// Its index.
        record: i32,
        /// What it says.
        found: i64,
    },
    /// The records are not records. INVALID_RECORD (87).
    #[error("record {record}: {what}")]
    Record {
        /// Its index; the record count for what stands behind the last.
        record: i32,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The compressed records are damaged: CORRUPT_MESSAGE (2), or expand beyond all measure:
    /// MESSAGE_TOO_LARGE (10).
    #[error(transparent)]
    Compressed(#[from] InflateError),
}

impl PreparedBatch {
    /// Judges the one batch that `bytes` are, as a client sent it at `now_ms` (wall clock, ms since
    /// 1970). Corrects what Kafka corrects: the largest timestamp, and the leader epoch.
    pub fn check(bytes: Bytes, rules: &BatchRules, now_ms: i64) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        check_envelope(&header, &bytes, rules)?;
        check_header(&header, rules)?;
        let batch = Self::of_checked(bytes)?.with_leader_epoch(rules.leader_epoch);
        let codec = header.codec().unwrap_or_default();
        let max_timestamp = if codec == Codec::None
            || rules.keys_required
            || rules.validation == Validation::Full
        {
            let walked = walk(&header, &batch.records, rules, now_ms)?;
            check_walked(&walked)?;
            walked.max_timestamp
        } else {
            check_header_timestamps(&header, rules, now_ms)?;
            header.max_timestamp
        };
        Ok(match rules.timestamp_type {
            TimestampType::LogAppendTime => batch.with_log_append_time(now_ms),
            TimestampType::CreateTime if max_timestamp != header.max_timestamp => {
                batch.with_max_timestamp(max_timestamp)
            }
            TimestampType::CreateTime => batch,
        })
    }

    fn of_checked(mut bytes: Bytes) -> Result<Self, BatchError> {
        let present = bytes.len();
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>().copied() else {
            return Err(BatchError::TooShort { bytes: present, needed: HEADER_BYTES });
        };
        Ok(Self { header, records: bytes.split_off(HEADER_BYTES) })
    }
}

impl BatchRules {
    /// Whether `timestamp` is one the topic takes. -1, no timestamp, always is.
    pub(super) fn takes_timestamp(&self, timestamp: i64, now_ms: i64) -> bool {
        self.timestamp_type == TimestampType::LogAppendTime
            || timestamp == NO_TIMESTAMP
            || (now_ms.saturating_sub(timestamp) <= self.timestamp_before_max_ms
                && timestamp.saturating_sub(now_ms) <= self.timestamp_after_max_ms)
    }

    /// Bytes that compressed records may expand to (reliability.md 4.2).
    pub(super) fn decompressed_bytes_max(&self) -> usize {
        self.bytes_max.max(DECOMPRESSED_BYTES_MIN)
    }
}

impl Default for BatchRules {
    fn default() -> Self {
        Self {
            bytes_max: 1_048_588,
            zstd_allowed: true,
            keys_required: false,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            validation: Validation::Full,
            leader_epoch: LeaderEpoch(0),
        }
    }
}

/// Length, origin, size and checksum, in Kafka's order.
fn check_envelope(
    header: &BatchHeader,
    bytes: &[u8],
    rules: &BatchRules,
) -> Result<(), BatchError> {
    if header.bytes != bytes.len() {
        let declared = i32::try_from(header.bytes - super::BATCH_PREFIX_BYTES).unwrap_or(i32::MAX);
        return Err(BatchError::Length { declared, present: bytes.len() });
    }
    if header.codec() == Some(Codec::Zstd) && !rules.zstd_allowed {
        return Err(BatchError::ZstdNotAllowed);
    }
    if header.base_offset.0 != 0 {
        return Err(BatchError::BaseOffset { found: header.base_offset.0 });
    }
    if bytes.len() > rules.bytes_max {
        return Err(BatchError::TooLarge { bytes: bytes.len(), bytes_max: rules.bytes_max });
    }
    let computed = crc32c::crc32c(bytes.get(CRC_COVERS_FROM..).unwrap_or_default());
    if computed != header.crc {
        return Err(BatchError::Crc { stored: header.crc, computed });
    }
    Ok(())
}

fn check_header(header: &BatchHeader, rules: &BatchRules) -> Result<(), BatchError> {
    let BatchHeader { count, last_offset_delta, .. } = *header;
    if count <= 0 || last_offset_delta != count - 1 {
        return Err(BatchError::Count { count, last_offset_delta });
    }
    if header.is_control() {
        return Err(BatchError::Control);
    }
    if header.has_producer() && header.base_sequence < 0 {
        return Err(BatchError::BaseSequence);
    }
    if header.codec().is_none() {
        return Err(BatchError::UnknownCodec { bits: header.attributes & 0b111 });
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(BatchError::TimestampType);
    }
    debug_assert!(rules.bytes_max > 0, "a topic that takes nothing");
    Ok(())
}

/// Without a look at the records, the header's own bounds stand for theirs.
fn check_header_timestamps(
    header: &BatchHeader,
    rules: &BatchRules,
    now_ms: i64,
) -> Result<(), BatchError> {
    let taken = |timestamp| rules.takes_timestamp(timestamp, now_ms);
    if taken(header.base_timestamp) && taken(header.max_timestamp) {
        return Ok(());
    }
    Err(BatchError::Timestamps { records: vec![0] })
}

fn check_walked(walked: &Walked) -> Result<(), BatchError> {
    if !walked.keyless.is_empty() {
        return Err(BatchError::Keyless { records: walked.keyless.clone() });
    }
    if !walked.untimely.is_empty() {
        return Err(BatchError::Timestamps { records: walked.untimely.clone() });
    }
    Ok(())
}

/// Indexes of refused records that an error carries at most.
pub const REPORTED_RECORDS_MAX: usize = 1000;
/// Compressed records may expand to this much under any `max.message.bytes`.
const DECOMPRESSED_BYTES_MIN: usize = 16 << 20;
/// A record without a timestamp.
const NO_TIMESTAMP: i64 = -1;
