//! ListOffsets: the first, the last, the newest, and the first at or after a moment.

use ottla_engine::topic::{Isolation, Partition, PartitionId};
use ottla_engine::{Found, Lsn};
use ottla_kafka_proto::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use ottla_kafka_proto::{ApiVersion, ErrorCode};

use super::Answer;
use crate::kafka::{Peer, codes};

/// Answers each partition on its own.
pub(super) fn list_offsets(
    peer: &Peer,
    version: ApiVersion,
    request: ListOffsetsRequest,
) -> Answer {
    let isolation = super::fetch::isolation(request.isolation_level);
    let mut lsn = Lsn::ZERO;
    let topics = request.topics.into_iter().map(|asked| {
        let topic = {
            let catalog = peer.context.engine.catalog();
            lsn = lsn.max(catalog.changed());
            catalog.topic(&asked.name).cloned()
        };
        let partitions = asked.partitions.iter().map(|wanted| {
            let partition = topic
                .as_ref()
                .and_then(|topic| topic.partition(PartitionId(wanted.partition_index)));
            let outcome = match partition {
                Some(partition) => find(peer, version, &partition, wanted, isolation),
                None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            };
            shown(wanted.partition_index, outcome)
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse { name: asked.name, partitions }
    });
    let topics = topics.collect();
    Answer::at(lsn, ListOffsetsResponse { topics, ..Default::default() })
}

fn find(
    peer: &Peer,
    version: ApiVersion,
    partition: &Partition,
    wanted: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<Option<Found>, ErrorCode> {
    codes::check_epoch(wanted.current_leader_epoch)?;
    let engine = &peer.context.engine;
    let found = match wanted.timestamp {
        LATEST => engine.latest(partition, isolation).map(Some),
        EARLIEST => engine.earliest(partition).map(Some),
        MAX_TIMESTAMP if version.0 >= 7 => engine.newest(partition),
        EARLIEST_LOCAL if version.0 >= 8 => engine.earliest(partition).map(Some),
        // nothing was ever moved to a tier (KIP-405, KIP-1005, KIP-1023)
        LATEST_TIERED if version.0 >= 9 => return Ok(None),
        EARLIEST_PENDING_UPLOAD if version.0 >= 11 => return Ok(None),
        ..0 => return Err(ErrorCode::UNSUPPORTED_VERSION),
        moment => tokio::task::block_in_place(|| engine.at_or_after(partition, moment, isolation)),
    };
    found.map_err(|error| codes::read(&error))
}

fn shown(
    partition_index: i32,
    outcome: Result<Option<Found>, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    match outcome {
        Ok(Some(found)) => ListOffsetsPartitionResponse {
            partition_index,
            timestamp: found.timestamp.unwrap_or(-1),
            offset: found.offset.0,
            leader_epoch: 0,
            ..Default::default()
        },
        Ok(None) => ListOffsetsPartitionResponse {
            partition_index,
            timestamp: -1,
            offset: -1,
            leader_epoch: -1,
            ..Default::default()
        },
        Err(error_code) => ListOffsetsPartitionResponse {
            partition_index,
            error_code,
            timestamp: -1,
            offset: -1,
            leader_epoch: -1,
        },
    }
}

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;
