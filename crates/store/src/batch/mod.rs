//! The record batch (Kafka v2): the one unit that the wire, the disk and the reader share verbatim.
//!
//! Layout and rules: `docs/format/batch.md`. A batch enters as a [`PreparedBatch`], through
//! [`PreparedBatch::check`] if a client made it or a [`BatchBuilder`] if we did. Its CRC does not
//! cover the base offset and the leader epoch, so both are stamped without touching the rest.

mod build;
mod check;
mod crc;
mod header;
mod split;
mod walk;

use bytes::{Bytes, BytesMut};

use crate::codec::{Codec, InflateError, compress, decompress};
use crate::{LeaderEpoch, Offset};

pub use build::{BatchBuilder, Marker, RecordDraft, control_marker};
pub use check::{BatchError, BatchRules, REPORTED_RECORDS_MAX, Validation};
pub use crc::{crc_combine, crc_shift};
pub(crate) use header::{BATCH_PREFIX_BYTES, CRC_COVERS_FROM};
pub use header::{BatchHeader, HEADER_BYTES, TimestampType};
pub use split::{Split, split};

/// A batch that was checked: its CRC holds and its header is sane. Only its base offset, which
/// Kafka's CRC does not cover, is still to be stamped.
///
/// Invariant: `header` parses, its length is that of `header` and `records`, its CRC is theirs.
#[derive(Clone, Debug)]
pub struct PreparedBatch {
    /// The 61 bytes of the header.
    pub(crate) header: [u8; HEADER_BYTES],
    /// Everything after the header, as received.
    pub(crate) records: Bytes,
}

impl PreparedBatch {
    /// Bytes of the whole batch.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// What its header says. The base offset is 0 until stamped.
    #[must_use]
    pub fn header(&self) -> BatchHeader {
        BatchHeader::decode(&self.header)
    }

    /// Sets the leader epoch (default 0). Must come before [`payload_crc`](Self::payload_crc).
    #[must_use]
    pub fn with_leader_epoch(mut self, epoch: LeaderEpoch) -> Self {
        self.header[12..16].copy_from_slice(&epoch.0.to_be_bytes());
        self
    }

    /// Header and records as they are stored and sent, from `base_offset` on.
    #[must_use]
    pub fn stamp(&self, base_offset: Offset) -> ([u8; HEADER_BYTES], Bytes) {
        let mut header = self.header;
        header[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
        (header, self.records.clone())
    }

    /// The whole batch in one piece, stamped. Copies; for tests, tools and small batches.
    #[must_use]
    pub fn to_bytes(&self, base_offset: Offset) -> Bytes {
        let (header, records) = self.stamp(base_offset);
        let mut whole = BytesMut::with_capacity(self.bytes_len());
        whole.extend_from_slice(&header);
        whole.extend_from_slice(&records);
        whole.freeze()
    }

    /// CRC-32C over the stamped batch from byte 8 on: everything but the base offset, so that it is
    /// known before the offset is. Derived from Kafka's own CRC, not from a second pass.
    #[must_use]
    pub fn payload_crc(&self) -> u32 {
        let uncovered = crc32c::crc32c(&self.header[8..CRC_COVERS_FROM]);
        crc_combine(uncovered, self.header().crc, self.covered_bytes())
    }

    /// The batch as a topic with `message.timestamp.type=LogAppendTime` stores it.
    #[must_use]
    pub fn with_log_append_time(self, now_ms: i64) -> Self {
        self.patched(|header| {
            header.attributes |= header::TIMESTAMP_TYPE_BIT;
            header.max_timestamp = now_ms;
        })
    }

    /// The batch with its largest timestamp corrected to what its records say.
    #[must_use]
    fn with_max_timestamp(self, max_timestamp: i64) -> Self {
        self.patched(|header| header.max_timestamp = max_timestamp)
    }

    /// The batch with its records compressed by `codec`, for a topic whose `compression.type` is
    /// not `producer`. Check its size again. An error only if the records are a bomb or damaged.
    pub fn recompressed(self, codec: Codec) -> Result<Self, InflateError> {
        let mut header = self.header();
        let from = header.codec().unwrap_or_default();
        if from == codec {
            return Ok(self);
        }
        let plain = decompress(from, &self.records, crate::codec::DECOMPRESSED_BYTES_MAX)?;
        header.attributes = (header.attributes & !header::CODEC_BITS) | codec.bits();
        Ok(Self::assemble(header, compress(codec, &plain).into()))
    }

    /// A batch of `header` and `records`, with length and CRC computed.
    fn assemble(mut header: BatchHeader, records: Bytes) -> Self {
        header.bytes = HEADER_BYTES + records.len();
        header.crc = 0;
        let covered = crc32c::crc32c(&header.encode()[CRC_COVERS_FROM..]);
        header.crc = crc32c::crc32c_append(covered, &records);
        Self { header: header.encode(), records }
    }

    /// Changes header fields below the CRC and corrects the CRC by what changed: it is linear.
    fn patched(mut self, change: impl FnOnce(&mut BatchHeader)) -> Self {
        let mut header = self.header();
        change(&mut header);
        let before = crc32c::crc32c(&self.header[CRC_COVERS_FROM..]);
        self.header = header.encode();
        let after = crc32c::crc32c(&self.header[CRC_COVERS_FROM..]);
        header.crc ^= crc_shift(before ^ after, self.records.len());
        self.header = header.encode();
        self
    }

    fn covered_bytes(&self) -> usize {
        self.bytes_len() - CRC_COVERS_FROM
    }
}

#[cfg(test)]
mod tests;
