//! ShareGroupHeartbeat and ShareGroupDescribe, and the administration of share groups' offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_engine::group::assignor::{Part, Parts, TopicId};
use ottla_engine::group::share::{ShareBeat, ShareBeaten, ShareGroup};
use ottla_engine::group::{Group, GroupId};
use ottla_engine::topic::{PartitionId, Topic, TopicId as CatalogTopic};
use ottla_engine::{Lsn, part_of};
use ottla_kafka_proto::messages::{
    alter_share_group_offsets as alter_messages, delete_share_group_offsets as delete_messages,
    describe_share_group_offsets as describe_messages, share_group_describe as group_messages,
    share_group_heartbeat as beat_messages,
};
use ottla_kafka_proto::{ErrorCode, Str, Uuid};

use super::Answer;
use super::groups::host;
use super::groups_admin::OPERATIONS;
use crate::kafka::{Peer, codes};

/// A member says what it wants and is told what to fetch from.
pub(super) fn heartbeat(
    peer: &Peer,
    client_id: Option<&str>,
    request: beat_messages::ShareGroupHeartbeatRequest,
) -> Answer {
    if request.group_id.is_empty() {
        let message = "GroupId can't be empty.";
        return Answer::now(refused(ErrorCode::INVALID_REQUEST, message.into()));
    }
    let beat = ShareBeat {
        member: request.member_id.as_str().into(),
        epoch: request.member_epoch,
        rack: request.rack_id.as_deref().map(Into::into),
        client_id: client_id.unwrap_or_default().into(),
        client_host: host(peer),
        topics: request
            .subscribed_topic_names
            .as_ref()
            .map(|names| names.iter().map(|name| name.as_str().into()).collect()),
    };
    let group = GroupId::from(request.group_id.as_str());
    match peer.context.engine.share_heartbeat(&group, &beat) {
        Ok((Ok(beaten), lsn)) => Answer::at(lsn, told(beaten)),
        Ok((Err(error), lsn)) => {
            Answer::at(lsn, refused(codes::share_beat(&error), error.to_string().into()))
        }
        Err(error) => {
            let message = format!("Group {}: {error}.", request.group_id);
            Answer::now(refused(codes::consumer_refused(&error), message.into()))
        }
    }
}

fn told(beaten: ShareBeaten) -> beat_messages::ShareGroupHeartbeatResponse {
    let assignment = beaten.assignment.map(|parts| {
        let topics = by_topic(&parts).into_iter().map(|(topic, partitions)| {
            beat_messages::TopicPartitions { topic_id: Uuid(topic.0), partitions }
        });
        beat_messages::Assignment { topic_partitions: topics.collect() }
    });
    beat_messages::ShareGroupHeartbeatResponse {
        member_id: Some(beaten.member.as_str().into()),
        member_epoch: beaten.epoch,
        heartbeat_interval_ms: i32::try_from(beaten.heartbeat_interval_ms).unwrap_or(i32::MAX),
        assignment,
        ..Default::default()
    }
}

fn refused(error_code: ErrorCode, message: Str) -> beat_messages::ShareGroupHeartbeatResponse {
    beat_messages::ShareGroupHeartbeatResponse {
        error_code,
        error_message: Some(message),
        ..Default::default()
    }
}

fn by_topic(parts: &Parts) -> BTreeMap<TopicId, Vec<i32>> {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for part in parts {
        topics.entry(part.topic).or_default().push(part.partition);
    }
    topics
}

/// Each group with its members and what they fetch from.
pub(super) fn describe(peer: &Peer, request: group_messages::ShareGroupDescribeRequest) -> Answer {
    let engine = &peer.context.engine;
    let operations = if request.include_authorized_operations { OPERATIONS } else { i32::MIN };
    let (names, mut newest) = names(peer);
    let groups = request.group_ids.into_iter().map(|id| {
        let read = |group: &Group| {
            group.as_share().map(|share| described(id.clone(), group, share, &names))
        };
        let (found, lsn) = engine.read_group(&GroupId::from(id.as_str()), read);
        newest = newest.max(lsn);
        let absent = |message: String| group_messages::DescribedGroup {
            error_code: ErrorCode::GROUP_ID_NOT_FOUND,
            error_message: Some(message.into()),
            group_id: id.clone(),
            ..Default::default()
        };
        let mut group = match found {
            Some(Some(group)) => group,
            Some(None) => absent(format!("Group {id} is not a share group.")),
            None => absent(format!("Group {id} not found.")),
        };
        group.authorized_operations = operations;
        group
    });
    let groups = groups.collect();
    Answer::at(newest, group_messages::ShareGroupDescribeResponse { groups, ..Default::default() })
}

fn names(peer: &Peer) -> (BTreeMap<TopicId, String>, Lsn) {
    let catalog = peer.context.engine.catalog();
    let name = |topic: &Arc<Topic>| (TopicId(topic.id().0), topic.name().to_string());
    (catalog.topics().map(name).collect(), catalog.changed())
}

fn described(
    group_id: Str,
    group: &Group,
    share: &ShareGroup,
    names: &BTreeMap<TopicId, String>,
) -> group_messages::DescribedGroup {
    let remembered = share.remembered();
    let members = remembered.members.values().map(|member| {
        let topics = by_topic(&member.assigned).into_iter().filter_map(|(topic, partitions)| {
            let topic_name = names.get(&topic)?.as_str().into(); // a topic that is gone is left out
            Some(group_messages::TopicPartitions {
                topic_id: Uuid(topic.0),
                topic_name,
                partitions,
            })
        });
        let about = &member.about;
        group_messages::Member {
            member_id: about.member.as_str().into(),
            rack_id: about.rack.as_deref().map(Into::into),
            member_epoch: member.epoch,
            client_id: about.client_id.as_ref().into(),
            client_host: about.client_host.as_ref().into(),
            subscribed_topic_names: about.topics.iter().map(|name| name.as_ref().into()).collect(),
            assignment: group_messages::Assignment { topic_partitions: topics.collect() },
        }
    });
    group_messages::DescribedGroup {
        group_id,
        group_state: group.state().to_string().into(),
        group_epoch: remembered.epoch,
        assignment_epoch: remembered.epoch,
        assignor_name: "simple".into(),
        members: members.collect(),
        ..Default::default()
    }
}

/// Where groups are in partitions, and how much is left.
pub(super) fn offsets(
    peer: &Peer,
    request: describe_messages::DescribeShareGroupOffsetsRequest,
) -> Answer {
    let mut newest = Lsn::ZERO;
    let groups = request.groups.into_iter().map(|asked| {
        let id = GroupId::from(asked.group_id.as_str());
        let group_id = asked.group_id.clone();
        match group_offsets(peer, &id, asked, &mut newest) {
            Ok(topics) => describe_messages::DescribeShareGroupOffsetsResponseGroup {
                group_id,
                topics,
                ..Default::default()
            },
            Err(error_code) => describe_messages::DescribeShareGroupOffsetsResponseGroup {
                error_message: Some(format!("Group {group_id} not found.").into()),
                group_id,
                error_code,
                ..Default::default()
            },
        }
    });
    let groups = groups.collect();
    let response =
        describe_messages::DescribeShareGroupOffsetsResponse { groups, ..Default::default() };
    Answer::at(newest, response)
}

fn group_offsets(
    peer: &Peer,
    id: &GroupId,
    asked: describe_messages::DescribeShareGroupOffsetsRequestGroup,
    newest: &mut Lsn,
) -> Result<Vec<describe_messages::DescribeShareGroupOffsetsResponseTopic>, ErrorCode> {
    let engine = &peer.context.engine;
    let (shared, lsn) = engine.read_group(id, |group| {
        group
            .as_share()
            .map(|share| share.remembered().windows.keys().copied().collect::<BTreeSet<Part>>())
    });
    let shared = shared.flatten().ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?;
    *newest = (*newest).max(lsn);
    let topics: Vec<(Str, Vec<i32>)> = match asked.topics {
        Some(topics) => topics.into_iter().map(|t| (t.topic_name, t.partitions)).collect(),
        None => {
            let (names, changed) = names(peer);
            *newest = (*newest).max(changed);
            let topics = by_topic(&shared).into_iter();
            topics
                .filter_map(|(id, parts)| Some((names.get(&id)?.as_str().into(), parts)))
                .collect()
        }
    };
    let shown = topics.into_iter().map(|(topic_name, partitions)| {
        let topic = engine.catalog().topic(&topic_name).cloned();
        let topic_id = topic.as_ref().map_or(Uuid::default(), |topic| Uuid(topic.id().0));
        let partitions =
            partitions.into_iter().map(|index| place(peer, id, topic.as_deref(), index, newest));
        let partitions = partitions.collect();
        describe_messages::DescribeShareGroupOffsetsResponseTopic {
            topic_name,
            topic_id,
            partitions,
        }
    });
    Ok(shown.collect())
}

fn place(
    peer: &Peer,
    id: &GroupId,
    topic: Option<&Topic>,
    partition_index: i32,
    newest: &mut Lsn,
) -> describe_messages::DescribeShareGroupOffsetsResponsePartition {
    let base = describe_messages::DescribeShareGroupOffsetsResponsePartition {
        partition_index,
        start_offset: -1,
        lag: -1,
        ..Default::default()
    };
    let Some(partition) = topic.and_then(|topic| topic.partition(PartitionId(partition_index)))
    else {
        let error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        return describe_messages::DescribeShareGroupOffsetsResponsePartition {
            error_code,
            ..base
        };
    };
    match peer.context.engine.share_lag(id, &partition) {
        Ok((lag, lsn)) => {
            *newest = (*newest).max(lsn);
            let (start_offset, lag) = lag.map_or((-1, -1), |lag| (lag.start, lag.lag));
            describe_messages::DescribeShareGroupOffsetsResponsePartition {
                start_offset,
                lag,
                ..base
            }
        }
        Err(error) => describe_messages::DescribeShareGroupOffsetsResponsePartition {
            error_code: codes::consumer_refused(&error),
            ..base
        },
    }
}

/// Begins again elsewhere; the group must have no members.
pub(super) fn alter(peer: &Peer, request: alter_messages::AlterShareGroupOffsetsRequest) -> Answer {
    let mut starts = Vec::new();
    let responses = request.topics.iter().map(|asked| {
        let topic = peer.context.engine.catalog().topic(&asked.topic_name).cloned();
        let partitions = asked.partitions.iter().map(|place| {
            let index = place.partition_index;
            let found = topic.as_ref().and_then(|topic| topic.partition(PartitionId(index)));
            let error_code = match found {
                Some(partition) => {
                    starts.push((part_of(&partition), place.start_offset.max(0)));
                    ErrorCode::NONE
                }
                None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            };
            alter_messages::AlterShareGroupOffsetsResponsePartition {
                partition_index: index,
                error_code,
                error_message: None,
            }
        });
        let partitions = partitions.collect();
        alter_messages::AlterShareGroupOffsetsResponseTopic {
            topic_name: asked.topic_name.clone(),
            topic_id: topic.map_or(Uuid::default(), |topic| Uuid(topic.id().0)),
            partitions,
        }
    });
    let responses = responses.collect();
    let id = GroupId::from(request.group_id.as_str());
    let outcome = peer.context.engine.alter_share_offsets(&id, &starts);
    let (error_code, error_message, lsn) = match outcome {
        Ok(Some(lsn)) => (ErrorCode::NONE, None, lsn),
        Ok(None) => (ErrorCode::NON_EMPTY_GROUP, Some(not_empty(&request.group_id)), Lsn::ZERO),
        Err(error) => (codes::consumer_refused(&error), Some(error.to_string().into()), Lsn::ZERO),
    };
    let response = alter_messages::AlterShareGroupOffsetsResponse {
        error_code,
        error_message,
        responses: if error_code == ErrorCode::NONE { responses } else { Vec::new() },
        ..Default::default()
    };
    Answer::at(lsn, response)
}

/// Forgets topics; the group must have no members.
pub(super) fn delete(
    peer: &Peer,
    request: delete_messages::DeleteShareGroupOffsetsRequest,
) -> Answer {
    let mut topics = BTreeSet::new();
    let responses = request.topics.iter().map(|asked| {
        let topic = peer.context.engine.catalog().topic(&asked.topic_name).cloned();
        let id = topic.map(|topic| topic.id());
        topics.extend(id.map(|CatalogTopic(id)| TopicId(id)));
        delete_messages::DeleteShareGroupOffsetsResponseTopic {
            topic_name: asked.topic_name.clone(),
            topic_id: id.map_or(Uuid::default(), |id| Uuid(id.0)),
            error_code: match id {
                Some(_) => ErrorCode::NONE,
                None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            },
            error_message: None,
        }
    });
    let responses = responses.collect();
    let id = GroupId::from(request.group_id.as_str());
    let outcome = peer.context.engine.delete_share_offsets(&id, &topics);
    let (error_code, error_message, lsn) = match outcome {
        Ok(Some(lsn)) => (ErrorCode::NONE, None, lsn),
        Ok(None) => (ErrorCode::NON_EMPTY_GROUP, Some(not_empty(&request.group_id)), Lsn::ZERO),
        Err(error) => (codes::consumer_refused(&error), Some(error.to_string().into()), Lsn::ZERO),
    };
    let response = delete_messages::DeleteShareGroupOffsetsResponse {
        error_code,
        error_message,
        responses: if error_code == ErrorCode::NONE { responses } else { Vec::new() },
        ..Default::default()
    };
    Answer::at(lsn, response)
}

fn not_empty(group: &str) -> Str {
    format!("Group {group} is not empty.").into()
}
