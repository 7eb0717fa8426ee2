//! Batches that we make: from records, and transaction markers.

use super::header::{CODEC_BITS, CONTROL_BIT, DELETE_HORIZON_BIT, TRANSACTIONAL_BIT};
use super::{BatchHeader, PreparedBatch};
use crate::codec::{Codec, compress, put_varint, put_varlong, varlong_bytes};
use crate::{LeaderEpoch, Offset};

/// A record to be put into a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordDraft<'a> {
    /// In ms since 1970, or -1.
    pub timestamp_ms: i64,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers, in this order; names may repeat.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

/// Collects records into one batch.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    codec: Codec,
    header: BatchHeader,
    records: Vec<u8>,
    base_timestamp: Option<i64>,
    last_offset_delta: Option<i32>,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// Its records are to be ignored.
    Abort,
    /// Its records count.
    Commit,
}

impl BatchBuilder {
    /// An empty batch whose records will be compressed by `codec`.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            bytes: 0,
            leader_epoch: LeaderEpoch(0),
            crc: 0,
            attributes: codec.bits(),
            last_offset_delta: -1,
            base_timestamp: -1,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: 0,
        };
        Self { codec, header, records: Vec::new(), base_timestamp: None, last_offset_delta: None }
    }

    /// Marks it as sent by an idempotent producer.
    #[must_use]
    pub const fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Marks it as part of a transaction.
    #[must_use]
    pub const fn transactional(mut self) -> Self {
        self.header.attributes |= TRANSACTIONAL_BIT;
        self
    }

    /// A batch in the place of another, with fewer of its records: offsets, producer and kind stay.
    /// With a horizon, its tombstones may be dropped after that time (ms since 1970).
    #[must_use]
    pub fn in_place_of(original: &BatchHeader, delete_horizon_ms: Option<i64>) -> Self {
        let codec = original.codec().unwrap_or_default();
        let mut header = *original;
        header.count = 0;
        header.max_timestamp = -1;
        let mut base_timestamp = Some(original.base_timestamp);
        if delete_horizon_ms.is_some() {
            header.attributes |= DELETE_HORIZON_BIT;
            base_timestamp = delete_horizon_ms;
        }
        let last_offset_delta = Some(original.last_offset_delta);
        Self { codec, header, records: Vec::new(), base_timestamp, last_offset_delta }
    }

    /// Adds a record after the last.
    ///
    /// # Panics
    /// At the 2³¹st record.
    pub fn push(&mut self, record: &RecordDraft<'_>) {
        self.push_at(self.header.count, record);
    }

    /// Adds a record at its own distance from the base offset, which must be above the last one's.
    ///
    /// # Panics
    /// At the 2³¹st record.
    #[expect(clippy::expect_used, reason = "a frame bounds a batch far below 2 GiB")]
    pub fn push_at(&mut self, offset_delta: i32, record: &RecordDraft<'_>) {
        let base = *self.base_timestamp.get_or_insert(record.timestamp_ms);
        let timestamp_delta = record.timestamp_ms.wrapping_sub(base);
        let bytes = 1
            + varlong_bytes(timestamp_delta)
            + varlong_bytes(i64::from(offset_delta))
            + field_bytes(record.key)
            + field_bytes(record.value)
            + varlong_bytes(length(record.headers.len()))
            + record
                .headers
                .iter()
                .map(|(name, value)| field_bytes(Some(name)) + field_bytes(*value))
                .sum::<usize>();
        put_varlong(&mut self.records, length(bytes));
        self.records.push(0);
        put_varlong(&mut self.records, timestamp_delta);
        put_varint(&mut self.records, offset_delta);
        put_field(&mut self.records, record.key);
        put_field(&mut self.records, record.value);
        put_varlong(&mut self.records, length(record.headers.len()));
        for (name, value) in record.headers {
            put_field(&mut self.records, Some(name));
            put_field(&mut self.records, *value);
        }
        self.header.count = self.header.count.checked_add(1).expect("fewer than 2^31 records");
        self.header.max_timestamp = self.header.max_timestamp.max(record.timestamp_ms);
    }

    /// How many records it has.
    #[must_use]
    pub const fn count(&self) -> i32 {
        self.header.count
    }

    /// Bytes of the batch if it were not compressed.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        super::HEADER_BYTES + self.records.len()
    }

    /// The batch.
    ///
    /// # Panics
    /// Without a record, unless it stands in the place of another.
    #[must_use]
    pub fn build(mut self) -> PreparedBatch {
        assert!(
            self.header.count > 0 || self.last_offset_delta.is_some(),
            "a batch without records"
        );
        self.header.last_offset_delta = self.last_offset_delta.unwrap_or(self.header.count - 1);
        if let Some(base) = self.base_timestamp {
            self.header.base_timestamp = base;
        }
        if self.header.count == 0 {
            self.codec = Codec::None; // nothing to compress; Kafka writes it so
            self.header.attributes &= !CODEC_BITS;
        }
        let records = match self.codec {
            Codec::None => self.records,
            codec => compress(codec, &self.records),
        };
        PreparedBatch::assemble(self.header, records.into())
    }
}

/// The batch that ends a transaction in one partition (KIP-98): one control record.
#[must_use]
pub fn control_marker(
    producer_id: i64,
    producer_epoch: i16,
    marker: Marker,
    coordinator_epoch: i32,
    now_ms: i64,
) -> PreparedBatch {
    let kind: i16 = match marker {
        Marker::Abort => 0,
        Marker::Commit => 1,
    };
    let mut key = [0; 4]; // version 0, kind
    key[2..4].copy_from_slice(&kind.to_be_bytes());
    let mut value = [0; 6]; // version 0, coordinator epoch
    value[2..6].copy_from_slice(&coordinator_epoch.to_be_bytes());
    let mut builder =
        BatchBuilder::new(Codec::None).producer(producer_id, producer_epoch, -1).transactional();
    builder.header.attributes |= CONTROL_BIT;
    builder.push(&RecordDraft {
        timestamp_ms: now_ms,
        key: Some(&key),
        value: Some(&value),
        headers: &[],
    });
    builder.build()
}

fn field_bytes(field: Option<&[u8]>) -> usize {
    field.map_or(1, |field| varlong_bytes(length(field.len())) + field.len())
}

fn put_field(into: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => put_varint(into, -1),
        Some(field) => {
            put_varlong(into, length(field.len()));
            into.extend_from_slice(field);
        }
    }
}

/// A length as a varint takes it; what would not fit is caught by the bound on frames.
fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
