//! The requests of a run, encoded before it begins.

use ottla_kafka_proto::messages::ProduceRequest;
use ottla_kafka_proto::messages::produce::{PartitionProduceData, TopicProduceData};
use ottla_kafka_proto::{
    ApiKey, ApiVersion, CorrelationId, Encoded, Request, RequestHeader, Str, encode_request,
};
use ottla_store::Offset;
use ottla_store::batch::{BatchBuilder, BatchHeader, HEADER_BYTES, RecordDraft};
use ottla_store::codec::Codec;

use crate::Failure;
use crate::args::Load;
use crate::noise::noise;

/// A batch as every request of a run carries it.
#[derive(Clone, Debug)]
pub(super) struct Template {
    bytes: bytes::Bytes,
    records: usize,
    /// Where the first record's value begins.
    value: usize,
}

impl Template {
    /// As many records of `load.record_bytes` as fit into `load.batch_bytes`, at least one.
    pub(super) fn new(load: &Load) -> Self {
        let value = noise(load.record_bytes.max(STAMP_BYTES));
        let mut builder = BatchBuilder::new(Codec::None);
        let draft =
            RecordDraft { timestamp_ms: now_ms(), value: Some(&value), ..Default::default() };
        builder.push(&draft);
        let record = builder.bytes_len() - HEADER_BYTES + 2; // later offsets are longer varints
        while builder.bytes_len() + record <= load.batch_bytes {
            builder.push(&draft);
        }
        let records = usize::try_from(builder.count()).unwrap_or_default();
        let bytes = builder.build().to_bytes(Offset::ZERO);
        let place = bytes.windows(value.len()).position(|window| window == value);
        Self { value: place.unwrap_or_default(), bytes, records }
    }

    pub(super) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) const fn records(&self) -> usize {
        self.records
    }

    /// The request that produces it.
    pub(super) fn request(&self, load: &Load, partition: i32) -> Result<Encoded, Failure> {
        let records = Some(self.bytes.clone());
        let partition_data = vec![PartitionProduceData { index: partition, records }];
        let name = Str::from(load.topic.as_str());
        let request = Request::from(ProduceRequest {
            acks: load.acks,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData { name, partition_data, ..Default::default() }],
            ..Default::default()
        });
        Ok(encode_request(&header(ApiKey::Produce, PRODUCE), &request)?)
    }

    /// The same in one piece, to be stamped.
    pub(super) fn stamped(&self, load: &Load, partition: i32) -> Result<Stamped, Failure> {
        let frame = self.request(load, partition)?.to_bytes().to_vec();
        let batch = frame.windows(self.bytes.len()).position(|window| window == self.bytes);
        let batch = batch.ok_or("the batch is not in its request")?;
        Ok(Stamped { frame, batch, bytes: self.bytes.len(), value: self.value })
    }

    /// A request with a batch for every partition, of a transactional producer.
    pub(super) fn transactional(&self, load: &Load, name: &Str) -> Result<Transactional, Failure> {
        let partitions = 0..i32::try_from(load.partitions)?;
        let partition_data = partitions
            .map(|index| PartitionProduceData { index, records: Some(self.bytes.clone()) });
        let topic = TopicProduceData {
            name: Str::from(load.topic.as_str()),
            partition_data: partition_data.collect(),
            ..Default::default()
        };
        let request = Request::from(ProduceRequest {
            transactional_id: Some(name.clone()),
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![topic],
        });
        let header = header(ApiKey::Produce, PRODUCE_IN_TRANSACTION);
        let frame = encode_request(&header, &request)?.to_bytes().to_vec();
        let places = frame.windows(self.bytes.len()).enumerate();
        let places = places.filter(|(_, window)| **window == self.bytes).map(|(place, _)| place);
        let places: Vec<usize> = places.collect();
        if places.len() != usize::try_from(load.partitions)? {
            return Err("the batches are not in their request".into());
        }
        Ok(Transactional { frame, places, bytes: self.bytes.len() })
    }

    /// Reads the stamps of fetched batches, and the offset after the last whole one.
    pub(super) fn stamps(&self, records: &[u8], mut each: impl FnMut(u64)) -> Option<Offset> {
        let mut next = None;
        for (header, batch) in batches(records) {
            let stamp = batch.get(self.value..).and_then(|value| value.first_chunk());
            each(stamp.map_or(0, |stamp| u64::from_be_bytes(*stamp)));
            next = Some(after(&header));
        }
        next
    }
}

/// A request whose batches carry who produces them.
#[derive(Debug)]
pub(super) struct Transactional {
    frame: Vec<u8>,
    /// Where the batches begin.
    places: Vec<usize>,
    bytes: usize,
}

impl Transactional {
    /// The request of this producer id and epoch: first sequence 0, as the epoch is new.
    pub(super) fn of(&mut self, (id, epoch): (i64, i16)) -> &[u8] {
        let producer = [&id.to_be_bytes()[..], &epoch.to_be_bytes(), &[0; 4]].concat();
        for place in &self.places {
            let Some(batch) = self.frame.get_mut(*place..place + self.bytes) else { continue };
            if let Some(attributes) = batch.get_mut(ATTRIBUTES_LOW) {
                *attributes |= TRANSACTIONAL;
            }
            if let Some(field) = batch.get_mut(PRODUCER..PRODUCER + producer.len()) {
                field.copy_from_slice(&producer);
            }
            seal(batch);
        }
        &self.frame
    }
}

/// Puts the CRC into a batch.
fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(batch.get(CRC_COVERS_FROM..).unwrap_or_default());
    if let Some(field) = batch.get_mut(CRC_COVERS_FROM - 4..CRC_COVERS_FROM) {
        field.copy_from_slice(&crc.to_be_bytes());
    }
}

/// A request whose batch carries when it was due.
#[derive(Debug)]
pub(super) struct Stamped {
    frame: Vec<u8>,
    batch: usize,
    bytes: usize,
    value: usize,
}

impl Stamped {
    /// The request with this stamp.
    pub(super) fn at(&mut self, stamp: u64) -> &[u8] {
        if let Some(batch) = self.frame.get_mut(self.batch..self.batch + self.bytes) {
            if let Some(value) = batch.get_mut(self.value..self.value + STAMP_BYTES) {
                value.copy_from_slice(&stamp.to_be_bytes());
            }
            seal(batch);
        }
        &self.frame
    }
}

/// Whole batches one after another; a cut one at the end is left out.
pub(super) fn batches(mut records: &[u8]) -> impl Iterator<Item = (BatchHeader, &[u8])> {
    std::iter::from_fn(move || {
        let header = BatchHeader::parse(records).ok()?;
        let (batch, rest) = records.split_at_checked(header.bytes)?;
        records = rest;
        Some((header, batch))
    })
}

/// The offset after a batch.
pub(super) fn after(header: &BatchHeader) -> Offset {
    Offset(header.base_offset.0 + i64::from(header.last_offset_delta) + 1)
}

pub(super) const fn header(api: ApiKey, version: ApiVersion) -> RequestHeader {
    RequestHeader {
        api,
        version,
        correlation_id: CorrelationId(0), // answers come in the order of their requests
        client_id: Some(Str::from_static("ottla-bench")),
    }
}

#[expect(clippy::disallowed_methods, reason = "a load generator is the outermost layer")]
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or_default())
}

/// The versions spoken: the newest that name topics instead of numbering them.
pub(super) const PRODUCE: ApiVersion = ApiVersion(11);
/// The first version that adds partitions to a transaction by itself (KIP-890).
pub(super) const PRODUCE_IN_TRANSACTION: ApiVersion = ApiVersion(12);
pub(super) const FETCH: ApiVersion = ApiVersion(12);
const STAMP_BYTES: usize = 8;
/// Kafka's CRC covers a batch from its attributes on.
const CRC_COVERS_FROM: usize = 21;
/// The lower octet of a batch's attributes, and its bit for transactional.
const ATTRIBUTES_LOW: usize = 22;
const TRANSACTIONAL: u8 = 0x10;
/// Producer id, producer epoch and first sequence.
const PRODUCER: usize = 43;

#[cfg(test)]
mod tests {
    use clap::Parser;
    use ottla_store::batch::{BatchRules, PreparedBatch};

    use super::*;
    use crate::args::{Bench, Kafka, Mode, Protocol};

    fn load() -> Load {
        let line = ["b", "kafka", "latency", "--record-bytes", "100", "--batch-bytes", "1000"];
        let Protocol::Kafka(Kafka { mode: Mode::Latency { load, .. } }) =
            Bench::parse_from(line).protocol
        else {
            panic!("not a load on Kafka")
        };
        load
    }

    #[test]
    fn a_batch_has_as_many_records_as_fit() {
        let template = Template::new(&load());
        assert_eq!(template.records(), 8);
        assert!(template.bytes_len() <= 1000 && template.bytes_len() + 110 > 1000);
    }

    #[test]
    fn a_transactional_request_has_a_valid_batch_for_each_partition() {
        let load = Load { partitions: 3, ..load() };
        let template = Template::new(&load);
        let mut request = template.transactional(&load, &Str::from_static("t")).unwrap();
        let (places, bytes) = (request.places.clone(), request.bytes);
        let frame = request.of((7, 3)).to_vec();
        for place in places {
            let batch = bytes::Bytes::copy_from_slice(&frame[place..place + bytes]);
            let header = BatchHeader::parse(&batch).unwrap();
            assert!(header.is_transactional());
            assert_eq!((header.producer_id, header.producer_epoch), (7, 3));
            PreparedBatch::check(batch, &BatchRules::default(), now_ms()).unwrap();
        }
    }

    #[test]
    fn a_stamped_batch_is_valid_and_gives_its_stamp_back() {
        let template = Template::new(&load());
        let mut stamped = template.stamped(&load(), 0).unwrap();
        let (from, bytes) = (stamped.batch, stamped.bytes);
        let batch = stamped.at(123_456_789)[from..from + bytes].to_vec();
        let mut fetched = batch.clone();
        fetched.extend_from_slice(&batch[..200]); // cut, as a fetch may
        let mut stamps = Vec::new();
        assert_eq!(template.stamps(&fetched, |stamp| stamps.push(stamp)), Some(Offset(8)));
        assert_eq!(stamps, [123_456_789]);
        PreparedBatch::check(batch.into(), &BatchRules::default(), now_ms()).unwrap();
    }
}
