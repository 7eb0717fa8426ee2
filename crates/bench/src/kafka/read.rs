//! Reads a topic from its start to the end it had when the reader came there.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_kafka_proto::messages::fetch::{FetchPartition, FetchTopic, FetchableTopicResponse};
use ottla_kafka_proto::messages::{FetchRequest, FetchResponse};
use ottla_kafka_proto::{ApiKey, Request, Response, Str, encode_request};
use ottla_store::Offset;

use super::batch::{FETCH, after, batches, header};
use super::wire::Wire;
use super::{Tally, on_every_connection, share};
use crate::Failure;
use crate::args::Load;
use crate::clock::{Clock, seconds};
use crate::report::Row;
use crate::spread::Spread;

pub(super) fn run(load: &Load, limits: Limits) -> Result<Row, Failure> {
    let clock = Clock::start();
    let (tally, used) = on_every_connection(load, clock, 0, |connection| {
        let mut reader = Reader::open(load, share(load, connection), limits)?;
        let mut tally = Tally::default();
        while !reader.places.is_empty() {
            let sent = clock.now();
            let response = reader.fetch()?;
            tally.last = clock.now();
            tally.answers.push(tally.last - sent);
            for (index, high_watermark, records) in pieces(response)? {
                let mut next = None;
                for (header, batch) in batches(&records) {
                    tally.batches += 1;
                    tally.records += u64::try_from(header.count).unwrap_or_default();
                    tally.bytes += u64::try_from(batch.len()).unwrap_or_default();
                    next = Some(after(&header));
                }
                reader.advance(index, next, high_watermark);
            }
        }
        Ok(tally)
    })?;
    let span = seconds(tally.last).max(f64::EPSILON);
    let mut row = Row::new("read", load, (load.batch_bytes, 0));
    row = row.counted(span, tally.records, tally.bytes);
    row.server = used.map(|(before, now)| now.since(&before, span, tally.records, tally.bytes));
    row.answer_ms = Spread::of(tally.answers);
    Ok(row)
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: i32,
    pub(super) partition_bytes: i32,
    pub(super) wait_ms: i32,
    /// read_committed.
    pub(super) committed: bool,
}

/// A consumer of some partitions without a group or a session.
#[derive(Debug)]
pub(super) struct Reader {
    wire: Wire,
    topic: Str,
    places: BTreeMap<i32, Offset>,
    limits: Limits,
}

impl Reader {
    pub(super) fn open(load: &Load, partitions: Vec<i32>, limits: Limits) -> Result<Self, Failure> {
        let places = partitions.into_iter().map(|partition| (partition, Offset::ZERO)).collect();
        let topic = Str::from(load.topic.as_str());
        Ok(Self { wire: Wire::connect(&load.broker)?, topic, places, limits })
    }

    /// Asks for all its partitions once.
    pub(super) fn fetch(&mut self) -> Result<FetchResponse, Failure> {
        let partitions = self.places.iter().map(|(partition, offset)| FetchPartition {
            partition: *partition,
            fetch_offset: offset.0,
            partition_max_bytes: self.limits.partition_bytes,
            ..Default::default()
        });
        let partitions = partitions.collect();
        let topic = FetchTopic { topic: self.topic.clone(), partitions, ..Default::default() };
        let request = Request::from(FetchRequest {
            max_wait_ms: self.limits.wait_ms,
            min_bytes: 1,
            max_bytes: self.limits.bytes,
            isolation_level: i8::from(self.limits.committed),
            topics: vec![topic],
            ..Default::default()
        });
        let frame = encode_request(&header(ApiKey::Fetch, FETCH), &request)?;
        self.wire.send(frame.pieces().iter().map(|piece| &**piece))?;
        match self.wire.answer(ApiKey::Fetch, FETCH)? {
            Response::Fetch(response) => Ok(response),
            _ => Err("an answer to another request".into()),
        }
    }

    /// Goes on at `next`; a partition that is read to its end is done.
    fn advance(&mut self, index: i32, next: Option<Offset>, high_watermark: i64) {
        self.go_on(index, next);
        if self.places.get(&index).is_some_and(|place| place.0 >= high_watermark) {
            self.places.remove(&index);
        }
    }

    /// Goes on at `next`.
    pub(super) fn go_on(&mut self, index: i32, next: Option<Offset>) {
        if let (Some(place), Some(next)) = (self.places.get_mut(&index), next) {
            *place = next;
        }
    }
}

/// Partition, high watermark and records.
type Piece = (i32, i64, Bytes);

/// The parts of an answer.
pub(super) fn pieces(response: FetchResponse) -> Result<Vec<Piece>, Failure> {
    let FetchResponse { error_code, responses, .. } = response;
    let partitions = |topic: &'_ FetchableTopicResponse| topic.partitions.len();
    let mut found = Vec::with_capacity(responses.iter().map(partitions).sum());
    for partition in responses.into_iter().flat_map(|topic| topic.partitions) {
        if !error_code.is_ok() || !partition.error_code.is_ok() {
            let code = (error_code, partition.error_code);
            return Err(format!("fetch was refused: {code:?}").into());
        }
        let records = partition.records.unwrap_or_default().into_bytes();
        found.push((partition.partition_index, partition.high_watermark, records));
    }
    Ok(found)
}
