//! OffsetDelete: an administrator makes a group forget where it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_engine::Lsn;
use ottla_engine::group::{DeleteError, Group, GroupId};
use ottla_engine::topic::PartitionId;
use ottla_kafka_proto::ErrorCode;
use ottla_kafka_proto::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};

use super::Answer;
use crate::kafka::{Peer, codes};

/// Deletes offsets of topics that no member of the group subscribes to.
pub(super) fn delete(peer: &Peer, request: OffsetDeleteRequest) -> Answer {
    let engine = &peer.context.engine;
    let id = GroupId::from(request.group_id.as_str());
    let (judged, seen) = engine.read_group(&id, |group| judge(group, &request));
    let judged = match judged {
        Some(Ok(judged)) => judged,
        Some(Err(code)) => return Answer::at(seen, failed(code)),
        None => return Answer::at(seen, failed(ErrorCode::GROUP_ID_NOT_FOUND)),
    };
    let mut deleted: Vec<(Arc<str>, i32)> = Vec::new();
    let topics = request.topics.iter().map(|topic| {
        let used = judged.get(topic.name.as_str()).copied().unwrap_or_default();
        let partitions = topic.partitions.iter().map(|asked| {
            let index = asked.partition_index;
            let error_code = if !used.is_ok() {
                used
            } else if !exists(peer, &topic.name, index) {
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            } else {
                deleted.push((topic.name.as_str().into(), index));
                ErrorCode::NONE
            };
            OffsetDeleteResponsePartition { partition_index: index, error_code }
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic { name: topic.name.clone(), partitions }
    });
    let topics = topics.collect();
    match engine.delete_offsets(&id, &deleted) {
        Ok((true, lsn)) => {
            Answer::at(lsn, OffsetDeleteResponse { topics, ..OffsetDeleteResponse::default() })
        }
        Ok((false, lsn)) => Answer::at(lsn, failed(ErrorCode::GROUP_ID_NOT_FOUND)),
        Err(refused) => Answer::at(Lsn::ZERO, failed(codes::group_refused(&refused))),
    }
}

/// What the group says to each topic; an error that concerns all of them is the group's.
fn judge<'a>(
    group: &Group,
    request: &'a OffsetDeleteRequest,
) -> Result<BTreeMap<&'a str, ErrorCode>, ErrorCode> {
    let mut judged = BTreeMap::new();
    for topic in &request.topics {
        let name = topic.name.as_str();
        match group.check_offset_delete(name) {
            Ok(()) => judged.insert(name, ErrorCode::NONE),
            Err(DeleteError::Subscribed) => {
                judged.insert(name, ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC)
            }
            Err(_) => return Err(ErrorCode::NON_EMPTY_GROUP),
        };
    }
    Ok(judged)
}

fn exists(peer: &Peer, topic: &str, index: i32) -> bool {
    let catalog = peer.context.engine.catalog();
    catalog.topic(topic).is_some_and(|topic| topic.partition(PartitionId(index)).is_some())
}

fn failed(error_code: ErrorCode) -> OffsetDeleteResponse {
    OffsetDeleteResponse { error_code, ..OffsetDeleteResponse::default() }
}
