//! OffsetCommit, OffsetFetch, OffsetDelete: how far groups have come.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_engine::Lsn;
use ottla_engine::group::classic::Committer;
use ottla_engine::group::offsets::{Commit, Offsets};
use ottla_engine::group::{Generation, GroupId, MemberId};
use ottla_engine::topic::TopicId;
use ottla_kafka_proto::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_kafka_proto::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use ottla_kafka_proto::{ApiVersion, ErrorCode, Str, Uuid};

use super::Answer;
use crate::kafka::{Peer, codes};

/// Remembers where a group is to go on.
pub(super) fn commit(peer: &Peer, version: ApiVersion, request: OffsetCommitRequest) -> Answer {
    let names = names(peer, version, &request.topics);
    let who = Committer {
        member: (!request.member_id.is_empty()).then(|| request.member_id.as_str().into()),
        instance: request.group_instance_id.as_deref().map(Into::into),
        generation: Generation(request.generation_id_or_member_epoch),
        knows_epochs: version.0 >= 9,
    };
    let commits = request.topics.iter().zip(&names).filter_map(|(topic, name)| {
        let name = Arc::<str>::from(name.as_deref()?);
        Some(topic.partitions.iter().map(move |partition| Commit {
            topic: Arc::clone(&name),
            partition: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: epoch(partition.committed_leader_epoch),
            metadata: partition.committed_metadata.as_deref().unwrap_or_default().into(),
        }))
    });
    let retention = u64::try_from(request.retention_time_ms).ok();
    let outcome = peer.context.engine.commit_offsets(
        &GroupId::from(request.group_id.as_str()),
        &who,
        commits.flatten().collect(),
        retention.filter(|_| version.0 <= 4),
    );
    let (mut results, lsn, whole) = match outcome {
        Ok((results, lsn)) => (results.into_iter(), lsn, ErrorCode::NONE),
        Err(refused) => (Vec::new().into_iter(), Lsn::ZERO, codes::commit_refused(&refused)),
    };
    let mut answer = |known: bool| match (whole.is_ok(), known) {
        (false, _) => whole,
        (true, false) => ErrorCode::UNKNOWN_TOPIC_ID,
        (true, true) => match results.next() {
            Some(Err(failure)) => codes::commit_failure(failure),
            _ => ErrorCode::NONE,
        },
    };
    let topics = request.topics.iter().zip(&names).map(|(topic, name)| {
        let partitions = topic.partitions.iter().map(|partition| OffsetCommitResponsePartition {
            partition_index: partition.partition_index,
            error_code: answer(name.is_some()),
        });
        OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
        }
    });
    let topics = topics.collect();
    Answer::at(lsn, OffsetCommitResponse { topics, ..Default::default() })
}

/// The name of each topic, from version 10 on by its id; `None` for an id that nothing has.
fn names(
    peer: &Peer,
    version: ApiVersion,
    topics: &[OffsetCommitRequestTopic],
) -> Vec<Option<String>> {
    let name = |topic: &OffsetCommitRequestTopic| match version.0 {
        ..=9 => Some(topic.name.to_string()),
        _ => name_of(peer, topic.topic_id),
    };
    topics.iter().map(name).collect()
}

fn name_of(peer: &Peer, id: Uuid) -> Option<String> {
    let catalog = peer.context.engine.catalog();
    catalog.topic_by_id(TopicId(id.0)).map(|topic| topic.name().to_string())
}

/// Where groups are to go on.
pub(super) fn fetch(peer: &Peer, version: ApiVersion, request: OffsetFetchRequest) -> Answer {
    let stable = request.require_stable;
    if version.0 >= 8 {
        let mut newest = Lsn::ZERO;
        let groups = request.groups.into_iter().map(|group| {
            let (answer, lsn) = fetch_group(peer, version, stable, group);
            newest = newest.max(lsn);
            answer
        });
        let groups = groups.collect();
        return Answer::at(newest, OffsetFetchResponse { groups, ..Default::default() });
    }
    let topics = request.topics.map(|topics| {
        let wider = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..OffsetFetchRequestTopics::default()
        });
        wider.collect()
    });
    let group = OffsetFetchRequestGroup {
        group_id: request.group_id,
        member_id: None,
        member_epoch: -1,
        topics,
    };
    let (group, lsn) = fetch_group(peer, version, stable, group);
    let narrow = |partition: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    };
    let topics = group.topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(narrow).collect(),
    });
    let topics = topics.collect();
    let error_code = group.error_code;
    Answer::at(lsn, OffsetFetchResponse { topics, error_code, ..Default::default() })
}

fn fetch_group(
    peer: &Peer,
    version: ApiVersion,
    stable: bool,
    asked: OffsetFetchRequestGroup,
) -> (OffsetFetchResponseGroup, Lsn) {
    let member = asked.member_id.as_deref().filter(|name| !name.is_empty()).map(MemberId::from);
    let by_id = version.0 >= 10;
    // the catalogue is asked before and after, never under the group's lock
    let name = |topic: &OffsetFetchRequestTopics| match by_id {
        true => name_of(peer, topic.topic_id),
        false => Some(topic.name.to_string()),
    };
    let names: Option<Vec<_>> = asked.topics.as_ref().map(|t| t.iter().map(name).collect());
    let read = |offsets: &Offsets| match (&asked.topics, &names) {
        (Some(topics), Some(names)) => {
            let pairs = topics.iter().zip(names);
            pairs.map(|(topic, name)| some(offsets, topic, name.as_deref(), stable)).collect()
        }
        _ => all(offsets, stable),
    };
    let id = GroupId::from(asked.group_id.as_str());
    let (outcome, lsn) = peer.context.engine.read_group(&id, |group| {
        let (member, epoch) = (member.as_ref(), asked.member_epoch);
        group.check_fetch(member, epoch).map(|()| read(group.offsets()))
    });
    let unknown_member = member.is_some() && asked.member_epoch >= 0;
    let (mut topics, error_code) = match outcome {
        Some(Ok(topics)) => (topics, ErrorCode::NONE),
        Some(Err(error)) => (Vec::new(), codes::commit(&error)),
        None if unknown_member => (Vec::new(), ErrorCode::GROUP_ID_NOT_FOUND),
        None => (read(&Offsets::default()), ErrorCode::NONE),
    };
    if by_id && names.is_none() {
        let catalog = peer.context.engine.catalog();
        for answer in &mut topics {
            let known = catalog.topic(&answer.name);
            answer.topic_id = known.map(|topic| Uuid(topic.id().0)).unwrap_or_default();
        }
    }
    let group_id = asked.group_id.clone();
    (OffsetFetchResponseGroup { group_id, topics, error_code }, lsn)
}

fn some(
    offsets: &Offsets,
    asked: &OffsetFetchRequestTopics,
    name: Option<&str>,
    stable: bool,
) -> OffsetFetchResponseTopics {
    let partitions = asked.partition_indexes.iter().map(|index| match name {
        Some(name) => one(offsets, name, *index, stable),
        None => nothing(*index, ErrorCode::UNKNOWN_TOPIC_ID),
    });
    OffsetFetchResponseTopics {
        name: asked.name.clone(),
        topic_id: asked.topic_id,
        partitions: partitions.collect(),
    }
}

fn all(offsets: &Offsets, stable: bool) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: BTreeMap<&Arc<str>, Vec<OffsetFetchResponsePartitions>> = BTreeMap::new();
    for (topic, index, _) in offsets.iter() {
        topics.entry(topic).or_default().push(one(offsets, topic, index, stable));
    }
    let answer = |(name, partitions): (&Arc<str>, Vec<_>)| OffsetFetchResponseTopics {
        name: Str::from(name.as_ref()),
        partitions,
        ..OffsetFetchResponseTopics::default()
    };
    topics.into_iter().map(answer).collect()
}

fn one(offsets: &Offsets, topic: &str, index: i32, stable: bool) -> OffsetFetchResponsePartitions {
    match offsets.fetch(topic, index, stable) {
        Ok(Some(committed)) => OffsetFetchResponsePartitions {
            partition_index: index,
            committed_offset: committed.offset,
            committed_leader_epoch: committed.leader_epoch.unwrap_or(-1),
            metadata: Some(committed.metadata.as_ref().into()),
            error_code: ErrorCode::NONE,
        },
        Ok(None) => nothing(index, ErrorCode::NONE),
        Err(error) => nothing(index, codes::offset_fetch(error)),
    }
}

fn nothing(partition_index: i32, error_code: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some("".into()),
        error_code,
    }
}

/// -1 is no epoch.
pub(super) fn epoch(wire: i32) -> Option<i32> {
    (wire >= 0).then_some(wire)
}
