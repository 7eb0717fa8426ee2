//! Metadata and DescribeTopicPartitions: what exists, and where (always here).

use std::sync::Arc;

use ottla_engine::catalog::Catalog;
use ottla_engine::topic::{Topic, TopicId};
use ottla_engine::{CreateError, Lsn, NewTopic, base64_id};
use ottla_kafka_proto::Uuid;
use ottla_kafka_proto::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use ottla_kafka_proto::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_kafka_proto::{ApiVersion, ErrorCode};

use super::Answer;
use crate::kafka::{NODE_ID, Peer, codes};

/// Answers what exists; a named topic that does not is made at once where both the broker and the
/// client allow it, so that the client need not ask again.
pub(super) fn metadata(peer: &Peer, version: ApiVersion, request: MetadataRequest) -> Answer {
    let engine = &peer.context.engine;
    let asked = asked(version, request.topics);
    let may_create =
        engine.options().auto_create_topics && (version.0 < 4 || request.allow_auto_topic_creation);
    let mut lsn = Lsn::ZERO;
    let topics = match asked {
        None => {
            let catalog = engine.catalog();
            lsn = catalog.changed();
            catalog.topics().map(|topic| shown(topic)).collect()
        }
        Some(asked) => {
            let one = |topic: MetadataRequestTopic| {
                let (answer, changed) = one_topic(peer, topic, may_create);
                lsn = lsn.max(changed);
                answer
            };
            asked.into_iter().map(one).collect()
        }
    };
    let advertised = peer.advertised();
    Answer::at(
        lsn,
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: NODE_ID,
                host: advertised.host.into(),
                port: i32::from(advertised.port),
                rack: None,
            }],
            cluster_id: Some(base64_id(engine.catalog().cluster()).into()),
            controller_id: NODE_ID,
            topics,
            ..MetadataResponse::default()
        },
    )
}

/// The named topics; `None` means all. Version 0 says "all" with an empty list.
fn asked(
    version: ApiVersion,
    topics: Option<Vec<MetadataRequestTopic>>,
) -> Option<Vec<MetadataRequestTopic>> {
    topics.filter(|topics| version.0 > 0 || !topics.is_empty())
}

fn one_topic(
    peer: &Peer,
    asked: MetadataRequestTopic,
    may_create: bool,
) -> (MetadataResponseTopic, Lsn) {
    let engine = &peer.context.engine;
    let (found, changed) = {
        let catalog = engine.catalog();
        (find(&catalog, &asked).cloned(), catalog.changed())
    };
    if let Some(topic) = found {
        return (shown(&topic), changed);
    }
    let missing = |error_code| MetadataResponseTopic {
        error_code,
        name: asked.name.clone(),
        topic_id: asked.topic_id,
        ..MetadataResponseTopic::default()
    };
    let Some(name) = &asked.name else { return (missing(ErrorCode::UNKNOWN_TOPIC_ID), changed) };
    if !may_create {
        let code = match ottla_engine::topic::name::check(name) {
            Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        };
        return (missing(code), changed);
    }
    let new = NewTopic { name: name.to_string(), partitions: None, overrides: Default::default() };
    match engine.create_topic(&new) {
        Ok((topic, lsn)) => (shown(&topic), lsn),
        Err(CreateError::Exists(_)) => one_topic(peer, asked, false), // another client was faster
        Err(error) => (missing(codes::create(&error)), changed),
    }
}

fn find<'a>(catalog: &'a Catalog, asked: &MetadataRequestTopic) -> Option<&'a Arc<Topic>> {
    match &asked.name {
        Some(name) => catalog.topic(name),
        None => catalog.topic_by_id(TopicId(asked.topic_id.0)),
    }
}

fn shown(topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic.partitions();
    let partitions = partitions.iter().map(|partition| MetadataResponsePartition {
        partition_index: partition.id().0,
        leader_id: NODE_ID,
        leader_epoch: 0,
        replica_nodes: vec![NODE_ID],
        isr_nodes: vec![NODE_ID],
        ..MetadataResponsePartition::default()
    });
    MetadataResponseTopic {
        name: Some(topic.name().as_ref().into()),
        topic_id: Uuid(topic.id().0),
        partitions: partitions.collect(),
        ..MetadataResponseTopic::default()
    }
}

/// Describes topics page by page: at most `response_partition_limit` partitions an answer, then a
/// cursor to go on from (KIP-966).
pub(super) fn describe(peer: &Peer, request: DescribeTopicPartitionsRequest) -> Answer {
    let catalog = peer.context.engine.catalog();
    let mut names: Vec<String> =
        request.topics.iter().map(|topic| topic.name.to_string()).collect();
    if names.is_empty() {
        names = catalog.topics().map(|topic| topic.name().to_string()).collect();
    }
    names.sort_unstable();
    names.dedup();
    let from = request.cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index));
    let limit = request.response_partition_limit.clamp(1, DESCRIBED_PARTITIONS_MAX);
    let mut room = usize::try_from(limit).unwrap_or(1);
    let mut topics = Vec::new();
    let mut next_cursor = None;
    for name in names {
        let first = match &from {
            Some((start, _)) if name < *start => continue,
            Some((start, index)) if name == *start => *index,
            _ => 0,
        };
        if room == 0 {
            next_cursor = Some(Cursor { topic_name: name.as_str().into(), partition_index: first });
            break;
        }
        let (described, stopped) = describe_one(&catalog, &name, first, &mut room);
        topics.push(described);
        if let Some(partition_index) = stopped {
            next_cursor = Some(Cursor { topic_name: name.as_str().into(), partition_index });
            break;
        }
    }
    let response = DescribeTopicPartitionsResponse { topics, next_cursor, ..Default::default() };
    Answer::at(catalog.changed(), response)
}

/// One topic from partition `first` on, and where it had to stop for want of room.
fn describe_one(
    catalog: &Catalog,
    name: &str,
    first: i32,
    room: &mut usize,
) -> (DescribeTopicPartitionsResponseTopic, Option<i32>) {
    let Some(topic) = catalog.topic(name) else {
        let unknown = DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            name: Some(name.into()),
            ..Default::default()
        };
        return (unknown, None);
    };
    let all = topic.partitions();
    let skipped = usize::try_from(first).unwrap_or(0);
    let partitions: Vec<_> = all
        .iter()
        .skip(skipped)
        .take(*room)
        .map(|partition| DescribeTopicPartitionsResponsePartition {
            partition_index: partition.id().0,
            leader_id: NODE_ID,
            leader_epoch: 0,
            replica_nodes: vec![NODE_ID],
            isr_nodes: vec![NODE_ID],
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            ..Default::default()
        })
        .collect();
    *room -= partitions.len();
    let shown = skipped + partitions.len();
    let stopped = (shown < all.len()).then(|| i32::try_from(shown).unwrap_or(i32::MAX));
    let described = DescribeTopicPartitionsResponseTopic {
        name: Some(name.into()),
        topic_id: Uuid(topic.id().0),
        partitions,
        ..Default::default()
    };
    (described, stopped)
}

/// Partitions described in one answer, as Kafka's `max.request.partition.size.limit`.
const DESCRIBED_PARTITIONS_MAX: i32 = 2000;
