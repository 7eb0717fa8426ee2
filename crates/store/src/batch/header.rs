//! The 61 bytes at the head of a batch. Big-endian, as Kafka sends it.

use super::BatchError;
use crate::codec::Codec;
use crate::{LeaderEpoch, Offset};

/// The fields of a batch's header, in their order on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Of the first record there ever was in the batch (compaction keeps it).
    pub base_offset: Offset,
    /// Bytes of the whole batch: the length field and the 12 bytes up to its end.
    pub bytes: usize,
    /// When its leader took it.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C of everything after this field.
    pub crc: u32,
    /// Codec, timestamp type, transactional, control, delete horizon: see the methods.
    pub attributes: i16,
    /// Offset of the last record there ever was, less the base offset.
    pub last_offset_delta: i32,
    /// What the timestamps of the records are relative to, in ms since 1970; the delete horizon if
    /// [`delete_horizon_ms`](Self::delete_horizon_ms) says so.
    pub base_timestamp: i64,
    /// The largest timestamp in ms since 1970, or -1.
    pub max_timestamp: i64,
    /// The idempotent producer, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// How many records there are.
    pub count: i32,
}

/// Who set the timestamps of a batch: the topic setting `message.timestamp.type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer.
    #[default]
    CreateTime,
    /// The broker: every record has the batch's largest timestamp.
    LogAppendTime,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`; the records need not be there.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        if let Some(&magic) = bytes.get(MAGIC_AT)
            && magic != MAGIC
        {
            return Err(BatchError::Magic { found: magic });
        }
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::TooShort { bytes: bytes.len(), needed: HEADER_BYTES });
        };
        let declared = i32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        if usize::try_from(declared).map_or(true, |body| body + BATCH_PREFIX_BYTES < HEADER_BYTES) {
            return Err(BatchError::Length { declared, present: bytes.len() });
        }
        Ok(Self::decode(header))
    }

    /// Reads fields without judging them.
    pub(crate) fn decode(header: &[u8; HEADER_BYTES]) -> Self {
        let mut rest = header.as_slice();
        let base_offset = Offset(i64::from_be_bytes(take(&mut rest)));
        let length = i32::from_be_bytes(take(&mut rest));
        let leader_epoch = LeaderEpoch(i32::from_be_bytes(take(&mut rest)));
        let _magic: [u8; 1] = take(&mut rest);
        Self {
            base_offset,
            bytes: usize::try_from(length).unwrap_or(0) + BATCH_PREFIX_BYTES,
            leader_epoch,
            crc: u32::from_be_bytes(take(&mut rest)),
            attributes: i16::from_be_bytes(take(&mut rest)),
            last_offset_delta: i32::from_be_bytes(take(&mut rest)),
            base_timestamp: i64::from_be_bytes(take(&mut rest)),
            max_timestamp: i64::from_be_bytes(take(&mut rest)),
            producer_id: i64::from_be_bytes(take(&mut rest)),
            producer_epoch: i16::from_be_bytes(take(&mut rest)),
            base_sequence: i32::from_be_bytes(take(&mut rest)),
            count: i32::from_be_bytes(take(&mut rest)),
        }
    }

    /// The 61 bytes.
    ///
    /// # Panics
    /// If `bytes` is beyond 2 GiB, which no batch of ours is.
    #[expect(clippy::expect_used, reason = "no frame is near 2 GiB")]
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let length =
            i32::try_from(self.bytes - BATCH_PREFIX_BYTES).expect("a batch is below 2 GiB");
        let mut header = [0; HEADER_BYTES];
        header[0..8].copy_from_slice(&self.base_offset.0.to_be_bytes());
        header[8..12].copy_from_slice(&length.to_be_bytes());
        header[12..16].copy_from_slice(&self.leader_epoch.0.to_be_bytes());
        header[MAGIC_AT] = MAGIC;
        header[17..21].copy_from_slice(&self.crc.to_be_bytes());
        header[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        header[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        header[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        header[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        header[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        header[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        header[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        header[57..61].copy_from_slice(&self.count.to_be_bytes());
        header
    }

    /// How the records are compressed; `None` if Kafka never assigned the number.
    #[must_use]
    pub const fn codec(&self) -> Option<Codec> {
        Codec::of_attributes(self.attributes)
    }

    /// Who set the timestamps.
    #[must_use]
    pub const fn timestamp_type(&self) -> TimestampType {
        if self.attributes & TIMESTAMP_TYPE_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether it belongs to a transaction.
    #[must_use]
    pub const fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether it is a marker of the broker and not data.
    #[must_use]
    pub const fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Whether an idempotent producer made it.
    #[must_use]
    pub const fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    /// When compaction may drop the tombstones in it, in ms since 1970, once compaction decided.
    #[must_use]
    pub const fn delete_horizon_ms(&self) -> Option<i64> {
        if self.attributes & DELETE_HORIZON_BIT == 0 { None } else { Some(self.base_timestamp) }
    }

    /// The offset of its last record (there ever was).
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.last_offset_delta)))
    }

    /// The offset after its last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// Sequence number of the last record, which wraps from `i32::MAX` to 0; -1 without a producer.
    #[must_use]
    pub const fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        match self.base_sequence.checked_add(self.last_offset_delta) {
            Some(last) => last,
            None => self.last_offset_delta - (i32::MAX - self.base_sequence) - 1,
        }
    }
}

/// The next `N` bytes. Callers take no more than the header has.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let Some((head, tail)) = rest.split_first_chunk() else { return [0; N] };
    *rest = tail;
    *head
}

/// Bytes of a batch's header, up to and including the record count.
pub const HEADER_BYTES: usize = 61;
/// Bytes before what the length field counts.
pub(crate) const BATCH_PREFIX_BYTES: usize = 12;
/// The CRC covers everything from here on.
pub(crate) const CRC_COVERS_FROM: usize = 21;
/// Where the format number stands, in this and every older format.
pub(super) const MAGIC_AT: usize = 16;
/// The format number.
const MAGIC: u8 = 2;

pub(super) const CODEC_BITS: i16 = 0b111;
pub(super) const TIMESTAMP_TYPE_BIT: i16 = 1 << 3;
pub(super) const TRANSACTIONAL_BIT: i16 = 1 << 4;
pub(super) const CONTROL_BIT: i16 = 1 << 5;
pub(super) const DELETE_HORIZON_BIT: i16 = 1 << 6;
