//! DeleteRecords and OffsetForLeaderEpoch.

use std::sync::Arc;

use ottla_engine::topic::{Partition, PartitionId};
use ottla_engine::{Lsn, Offset};
use ottla_kafka_proto::ErrorCode;
use ottla_kafka_proto::messages::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};
use ottla_kafka_proto::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};

use super::Answer;
use crate::kafka::{Peer, codes};

/// Moves log starts forward.
pub(super) fn delete(peer: &Peer, request: DeleteRecordsRequest) -> Answer {
    let mut lsn = Lsn::ZERO;
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let outcome = find(peer, &topic.name, asked.partition_index)
                .and_then(|partition| delete_below(peer, &partition, asked.offset));
            let (low_watermark, error_code) = match outcome {
                Ok((start, moved)) => {
                    lsn = lsn.max(moved);
                    (start.0, ErrorCode::NONE)
                }
                Err(code) => (-1, code),
            };
            let partition_index = asked.partition_index;
            DeleteRecordsPartitionResult { partition_index, low_watermark, error_code }
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult { name: topic.name, partitions }
    });
    let topics = topics.collect();
    Answer::at(lsn, DeleteRecordsResponse { topics, ..Default::default() })
}

fn delete_below(
    peer: &Peer,
    partition: &Partition,
    offset: i64,
) -> Result<(Offset, Lsn), ErrorCode> {
    let before = (offset != HIGH_WATERMARK).then_some(Offset(offset));
    let deleted = peer.context.engine.delete_records(partition, before);
    deleted.map_err(|error| codes::delete_records(&error))
}

/// Where an epoch ended. With one writer there is one epoch, and it has not ended.
pub(super) fn epochs(peer: &Peer, request: OffsetForLeaderEpochRequest) -> Answer {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let outcome = find(peer, &topic.topic, asked.partition)
                .and_then(|partition| epoch_end(peer, &partition, asked));
            let (error_code, leader_epoch, end_offset) = match outcome {
                Ok((epoch, end)) => (ErrorCode::NONE, epoch, end),
                Err(code) => (code, -1, -1),
            };
            EpochEndOffset { error_code, partition: asked.partition, leader_epoch, end_offset }
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult { topic: topic.topic, partitions }
    });
    let topics = topics.collect();
    Answer::now(OffsetForLeaderEpochResponse { topics, ..Default::default() })
}

fn epoch_end(
    peer: &Peer,
    partition: &Partition,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ErrorCode> {
    codes::check_epoch(asked.current_leader_epoch)?;
    let extent = peer.context.engine.store().extent(partition.stream());
    let extent = extent.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    Ok(match asked.leader_epoch {
        codes::LEADER_EPOCH => (codes::LEADER_EPOCH, extent.durable_end.0),
        _ => (-1, -1), // an epoch that never was
    })
}

fn find(peer: &Peer, topic: &str, index: i32) -> Result<Arc<Partition>, ErrorCode> {
    let catalog = peer.context.engine.catalog();
    let found = catalog.topic(topic).and_then(|topic| topic.partition(PartitionId(index)));
    found.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

/// DeleteRecords: everything that is durable.
const HIGH_WATERMARK: i64 = -1;
