//! ConsumerGroupHeartbeat and ConsumerGroupDescribe: the consumer protocol (KIP-848).

use std::collections::BTreeMap;

use ottla_engine::group::assignor::{Part, Parts, TopicId};
use ottla_engine::group::consumer::{Beat, Beaten, ConsumerGroup, ConsumerMember};
use ottla_engine::group::{Group, GroupId, MemberId};
use ottla_engine::{Lsn, topic};
use ottla_kafka_proto::messages::consumer_group_describe::{
    Assignment as DescribedAssignment, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse,
    DescribedGroup, Member, TopicPartitions as DescribedPartitions,
};
use ottla_kafka_proto::messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use ottla_kafka_proto::{ErrorCode, Str, Uuid};

use super::Answer;
use super::groups::host;
use super::groups_admin::OPERATIONS;
use crate::kafka::{Peer, codes};

/// A member says what it wants and has, and is told what it is to have.
pub(super) fn heartbeat(
    peer: &Peer,
    client_id: Option<&str>,
    request: ConsumerGroupHeartbeatRequest,
) -> Answer {
    if request.group_id.is_empty() {
        let message = "GroupId can't be empty.";
        return Answer::now(refused(ErrorCode::INVALID_REQUEST, message.into()));
    }
    let group = GroupId::from(request.group_id.as_str());
    let engine = &peer.context.engine;
    let member = match request.member_id.as_str() {
        "" if request.member_epoch == 0 => MemberId::from(uuid_text(engine.draw_uuid())),
        given => given.into(),
    };
    let beat = Beat {
        member,
        epoch: request.member_epoch,
        instance: request.instance_id.as_deref().map(Into::into),
        rack: request.rack_id.as_deref().map(Into::into),
        client_id: client_id.unwrap_or_default().into(),
        client_host: host(peer),
        rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|ms| *ms != -1),
        topics: request
            .subscribed_topic_names
            .as_ref()
            .map(|names| names.iter().map(|name| name.as_str().into()).collect()),
        regex: request.subscribed_topic_regex.as_deref().map(Into::into),
        assignor: request.server_assignor.as_deref().map(Into::into),
        owned: request.topic_partitions.as_deref().map(parts),
    };
    match engine.consumer(&group, beat) {
        Ok((Ok(beaten), lsn)) => Answer::at(lsn, told(beaten)),
        Ok((Err(error), lsn)) => {
            Answer::at(lsn, refused(codes::beat(&error), error.to_string().into()))
        }
        Err(error) => {
            let message = format!("Group {}: {error}.", request.group_id);
            Answer::now(refused(codes::consumer_refused(&error), message.into()))
        }
    }
}

fn told(beaten: Beaten) -> ConsumerGroupHeartbeatResponse {
    let assignment = beaten.assignment.map(|parts| {
        let topics = by_topic(&parts)
            .into_iter()
            .map(|(topic, partitions)| TopicPartitions { topic_id: Uuid(topic.0), partitions });
        Assignment { topic_partitions: topics.collect() }
    });
    ConsumerGroupHeartbeatResponse {
        member_id: Some(beaten.member.as_str().into()),
        member_epoch: beaten.epoch,
        heartbeat_interval_ms: i32::try_from(beaten.heartbeat_interval_ms).unwrap_or(i32::MAX),
        assignment,
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

fn refused(error_code: ErrorCode, message: Str) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code,
        error_message: Some(message),
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

fn parts(topics: &[TopicPartitions]) -> Parts {
    let parts = topics.iter().flat_map(|topic| {
        let id = TopicId(topic.topic_id.0);
        topic.partitions.iter().map(move |partition| Part { topic: id, partition: *partition })
    });
    parts.collect()
}

fn by_topic(parts: &Parts) -> BTreeMap<TopicId, Vec<i32>> {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for part in parts {
        topics.entry(part.topic).or_default().push(part.partition);
    }
    topics
}

/// Each group with its members and what they have.
pub(super) fn describe(peer: &Peer, request: ConsumerGroupDescribeRequest) -> Answer {
    let engine = &peer.context.engine;
    let operations = if request.include_authorized_operations { OPERATIONS } else { i32::MIN };
    let mut newest = Lsn::ZERO;
    let names: BTreeMap<TopicId, String> = {
        let catalog = engine.catalog();
        newest = newest.max(catalog.changed());
        let name = |topic: &std::sync::Arc<topic::Topic>| {
            (TopicId(topic.id().0), topic.name().to_string())
        };
        catalog.topics().map(name).collect()
    };
    let groups = request.group_ids.into_iter().map(|id| {
        let read = |group: &Group| {
            group.as_consumer().map(|consumers| described(id.clone(), group, consumers, &names))
        };
        let (found, lsn) = engine.read_group(&GroupId::from(id.as_str()), read);
        newest = newest.max(lsn);
        let mut group = match found {
            Some(Some(group)) => group,
            Some(None) => absent(&id, &format!("Group {id} is not a consumer group.")),
            None => absent(&id, &format!("Group {id} not found.")),
        };
        group.authorized_operations = operations;
        group
    });
    let groups = groups.collect();
    Answer::at(newest, ConsumerGroupDescribeResponse { groups, ..Default::default() })
}

fn absent(id: &Str, message: &str) -> DescribedGroup {
    DescribedGroup {
        error_code: ErrorCode::GROUP_ID_NOT_FOUND,
        error_message: Some(message.into()),
        group_id: id.clone(),
        ..DescribedGroup::default()
    }
}

fn described(
    group_id: Str,
    group: &Group,
    consumers: &ConsumerGroup,
    names: &BTreeMap<TopicId, String>,
) -> DescribedGroup {
    let remembered = consumers.remembered();
    let nothing = Parts::new();
    let members = remembered.members.values().map(|member| {
        let target = remembered.target.get(&member.about.member).unwrap_or(&nothing);
        described_member(member, target, names)
    });
    DescribedGroup {
        group_id,
        group_state: group.state().to_string().into(),
        group_epoch: remembered.epoch,
        assignment_epoch: remembered.target_epoch,
        assignor_name: consumers.assignor().to_string().into(),
        members: members.collect(),
        ..DescribedGroup::default()
    }
}

fn described_member(
    member: &ConsumerMember,
    target: &Parts,
    names: &BTreeMap<TopicId, String>,
) -> Member {
    let about = &member.about;
    Member {
        member_id: about.member.as_str().into(),
        instance_id: about.instance.as_ref().map(|instance| instance.as_str().into()),
        rack_id: about.rack.as_deref().map(Into::into),
        member_epoch: member.progress.epoch,
        client_id: about.client_id.as_ref().into(),
        client_host: about.client_host.as_ref().into(),
        subscribed_topic_names: about.topics.iter().map(|topic| topic.as_ref().into()).collect(),
        subscribed_topic_regex: about.regex.as_deref().map(Into::into),
        assignment: assignment(&member.progress.assigned, names),
        target_assignment: assignment(target, names),
        member_type: i8::from(about.classic.is_none()),
    }
}

fn assignment(parts: &Parts, names: &BTreeMap<TopicId, String>) -> DescribedAssignment {
    let topics = by_topic(parts).into_iter().filter_map(|(topic, partitions)| {
        let topic_name = names.get(&topic)?.as_str().into(); // a topic that is gone is left out
        Some(DescribedPartitions { topic_id: Uuid(topic.0), topic_name, partitions })
    });
    DescribedAssignment { topic_partitions: topics.collect() }
}

/// As Kafka prints a UUID: 22 characters of base64.
fn uuid_text(uuid: [u8; 16]) -> String {
    ottla_engine::base64_id(uuid)
}
