//! Produce: each partition's batch is checked, appended and answered on its own.

use bytes::Bytes;
use ottla_engine::batch::{BatchError, BatchRules, PreparedBatch, TimestampType};
use ottla_engine::clock::Now;
use ottla_engine::codec::Codec;
use ottla_engine::topic::{Partition, PartitionId, Produced, Topic, TopicId};
use ottla_engine::{Lsn, Writer};
use ottla_kafka_proto::messages::produce::{
    BatchIndexAndErrorMessage, PartitionProduceData, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use ottla_kafka_proto::{ApiVersion, ErrorCode};

use super::Answer;
use super::txns::identity;
use crate::kafka::{Peer, codes};

/// Handles a Produce request. With acks=0 there is no answer; an error then closes the connection,
/// the only way to tell.
pub(super) async fn produce(
    peer: &Peer,
    version: ApiVersion,
    request: ProduceRequest,
) -> Result<Option<Answer>, String> {
    let acks = request.acks;
    let call = Call {
        peer,
        version,
        transactional: request.transactional_id.as_deref(),
        acks_valid: (-1..=1).contains(&acks),
        now: peer.context.engine.now(),
    };
    let mut lsn = Lsn::ZERO;
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for data in &request.topic_data {
        responses.push(call.topic(data, &mut lsn).await);
    }
    if acks == 0 {
        let mut partitions = responses.iter().flat_map(|topic| &topic.partition_responses);
        return match partitions.find(|partition| !partition.error_code.is_ok()) {
            Some(failed) => Err(format!("produce with acks=0 failed: {:?}", failed.error_code)),
            None => Ok(None),
        };
    }
    Ok(Some(Answer::at(lsn, ProduceResponse { responses, ..ProduceResponse::default() })))
}

/// What the partitions of one request have in common.
struct Call<'a> {
    peer: &'a Peer,
    version: ApiVersion,
    transactional: Option<&'a str>,
    acks_valid: bool,
    now: Now,
}

impl Call<'_> {
    async fn topic(&self, data: &TopicProduceData, lsn: &mut Lsn) -> TopicProduceResponse {
        let by_id = self.version.0 >= 13;
        let topic = {
            let catalog = self.peer.context.engine.catalog();
            *lsn = (*lsn).max(catalog.changed());
            if by_id {
                catalog.topic_by_id(TopicId(data.topic_id.0)).cloned()
            } else {
                catalog.topic(&data.name).cloned()
            }
        };
        let unknown =
            if by_id { ErrorCode::UNKNOWN_TOPIC_ID } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION };
        let mut partition_responses = Vec::with_capacity(data.partition_data.len());
        for data in &data.partition_data {
            let outcome = match &topic {
                _ if !self.acks_valid => Err(Failure::of(ErrorCode::INVALID_REQUIRED_ACKS)),
                Some(topic) => self.partition(topic, data).await,
                None => Err(Failure::of(unknown)),
            };
            partition_responses.push(answer(data.index, outcome, lsn));
        }
        TopicProduceResponse {
            partition_responses,
            name: data.name.clone(),
            topic_id: data.topic_id,
        }
    }

    async fn partition(
        &self,
        topic: &Topic,
        data: &PartitionProduceData,
    ) -> Result<Produced, Failure> {
        let partition = topic
            .partition(PartitionId(data.index))
            .ok_or_else(|| Failure::of(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))?;
        let batch = self.prepare(topic, data.records.clone().unwrap_or_default())?;
        loop {
            match self.append(&partition, batch.clone()) {
                Err(failure) if failure.code == ErrorCode::THROTTLING_QUOTA_EXCEEDED => {
                    self.room().await;
                }
                outcome => return outcome,
            }
        }
    }

    /// The log has too much that is not synced: waits until what it has now is. Until then nothing
    /// more is read from this client, which is the back-pressure that Kafka's clients expect.
    async fn room(&self) {
        let staged = self.peer.context.engine.store().end().0.saturating_sub(1);
        self.peer.context.release.reached(Lsn(staged)).await;
        tokio::task::yield_now().await; // others may hold room for what they are about to stage
    }

    /// Checks the batch in full; compressed ones off the runtime's workers' time slice.
    fn prepare(&self, topic: &Topic, records: Bytes) -> Result<PreparedBatch, Failure> {
        let config = topic.config();
        let rules = BatchRules {
            // as it comes; what a topic compresses itself is measured once more as it is stored
            bytes_max: config.message_bytes_max,
            zstd_allowed: self.version.0 >= 7,
            keys_required: config.compact,
            timestamp_before_max_ms: config.timestamp_before_max_ms,
            timestamp_after_max_ms: config.timestamp_after_max_ms,
            timestamp_type: if config.log_append_time {
                TimestampType::LogAppendTime
            } else {
                TimestampType::CreateTime
            },
            ..BatchRules::default()
        };
        let large = records.len() > INLINE_BYTES_MAX;
        let check = || {
            let batch = PreparedBatch::check(records, &rules, self.now.wall.0)?;
            match config.compression {
                None => Ok(batch),
                Some(codec) => stored_as(batch, codec.codec(), config.message_bytes_max),
            }
        };
        let checked = if large { tokio::task::block_in_place(check) } else { check() };
        checked.map_err(|error| Failure::batch(&error))
    }

    fn append(&self, partition: &Partition, batch: PreparedBatch) -> Result<Produced, Failure> {
        let engine = &self.peer.context.engine;
        let header = batch.header();
        if !header.is_transactional() {
            return engine
                .produce(partition, batch, self.now)
                .map_err(|error| Failure::worded(codes::produce(&error), &error));
        }
        let id = self
            .transactional
            .ok_or_else(|| Failure::of(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED))?;
        let who = identity(header.producer_id, header.producer_epoch);
        let writer = Writer { id, who, implicit: self.version.0 >= 12 };
        engine
            .produce_in_transaction(writer, partition, batch, self.now)
            .map_err(|error| Failure::worded(codes::txn_produce(&error, self.version), &error))
    }
}

/// The batch as the topic's `compression.type` says it is stored.
fn stored_as(
    batch: PreparedBatch,
    codec: Codec,
    bytes_max: usize,
) -> Result<PreparedBatch, BatchError> {
    let stored = batch.recompressed(codec).map_err(BatchError::Compressed)?;
    match stored.bytes_len() {
        bytes if bytes > bytes_max => Err(BatchError::TooLarge { bytes, bytes_max }),
        _ => Ok(stored),
    }
}

/// Why a partition's batch was refused, in the words of the protocol.
struct Failure {
    code: ErrorCode,
    message: Option<String>,
    records: Vec<BatchIndexAndErrorMessage>,
}

impl Failure {
    const fn of(code: ErrorCode) -> Self {
        Self { code, message: None, records: Vec::new() }
    }

    fn worded(code: ErrorCode, error: &impl std::fmt::Display) -> Self {
        Self { message: Some(error.to_string()), ..Self::of(code) }
    }

    fn batch(error: &BatchError) -> Self {
        let message = error.to_string();
        let records = refused_records(error).iter().map(|index| BatchIndexAndErrorMessage {
            batch_index: *index,
            batch_index_error_message: Some(message.as_str().into()),
        });
        let records = records.collect();
        Self { code: codes::batch(error), message: Some(message), records }
    }
}

/// The records that are named one by one (KIP-467).
fn refused_records(error: &BatchError) -> &[i32] {
    match error {
        BatchError::Timestamps { records } | BatchError::Keyless { records } => records,
        _ => &[],
    }
}

fn answer(
    index: i32,
    outcome: Result<Produced, Failure>,
    lsn: &mut Lsn,
) -> PartitionProduceResponse {
    match outcome {
        Ok(produced) => {
            *lsn = (*lsn).max(produced.lsn);
            PartitionProduceResponse {
                index,
                base_offset: produced.base_offset.0,
                log_append_time_ms: produced.log_append_time.map_or(-1, |time| time.0),
                log_start_offset: produced.log_start.0,
                ..PartitionProduceResponse::default()
            }
        }
        Err(failure) => PartitionProduceResponse {
            index,
            error_code: failure.code,
            base_offset: -1,
            record_errors: failure.records,
            error_message: failure.message.map(Into::into),
            ..PartitionProduceResponse::default()
        },
    }
}

/// Batches up to this size are checked where they arrive.
const INLINE_BYTES_MAX: usize = 64 << 10;
