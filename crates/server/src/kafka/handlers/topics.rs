//! CreateTopics, DeleteTopics, CreatePartitions.

use std::collections::HashSet;

use ottla_engine::topic::TopicId;
use ottla_engine::topic::config::{DEFINITIONS, Overrides};
use ottla_engine::{Lsn, NewTopic};
use ottla_kafka_proto::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use ottla_kafka_proto::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use ottla_kafka_proto::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use ottla_kafka_proto::{ApiVersion, ErrorCode};
use ottla_kafka_proto::{Str, Uuid};

use super::Answer;
use crate::config::ReplicationFactor;
use crate::kafka::{NODE_ID, Peer, codes};

/// An error of the protocol with its text.
type Failure = (ErrorCode, String);

/// Makes topics, each on its own.
pub(super) fn create(peer: &Peer, request: CreateTopicsRequest) -> Answer {
    let twice = named_twice(request.topics.iter().map(|topic| &topic.name));
    let mut lsn = Lsn::ZERO;
    let topics = request.topics.iter().map(|asked| {
        if twice.contains(&asked.name) {
            let text = "Duplicate topic name.".to_owned();
            return created(asked, Err((ErrorCode::INVALID_REQUEST, text)));
        }
        let outcome = create_one(peer, asked, request.validate_only);
        if let Ok(done) = &outcome {
            lsn = lsn.max(done.lsn);
        }
        created(asked, outcome)
    });
    let topics = topics.collect();
    Answer::at(lsn, CreateTopicsResponse { topics, ..Default::default() })
}

/// A topic that was made, or would be.
struct Done {
    id: Uuid,
    partitions: i32,
    overrides: Overrides,
    lsn: Lsn,
}

fn create_one(peer: &Peer, asked: &CreatableTopic, validate_only: bool) -> Result<Done, Failure> {
    let engine = &peer.context.engine;
    let partitions = partitions_of(asked)?;
    check_replication(peer, asked.replication_factor, asked.assignments.is_empty())?;
    let mut overrides = Overrides::new();
    for config in &asked.configs {
        let value = config.value.as_ref().ok_or_else(|| {
            let text = format!("Null value not supported for topic configs: {}", config.name);
            (ErrorCode::INVALID_CONFIG, text)
        })?;
        overrides.insert(config.name.to_string(), value.to_string());
    }
    let new = NewTopic { name: asked.name.to_string(), partitions, overrides };
    let refused = |error: ottla_engine::CreateError| (codes::create(&error), error.to_string());
    if validate_only {
        let partitions = engine.validate_topic(&new).map_err(refused)?;
        return Ok(Done { id: Uuid::ZERO, partitions, overrides: new.overrides, lsn: Lsn::ZERO });
    }
    let (topic, lsn) = engine.create_topic(&new).map_err(refused)?;
    let partitions = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
    Ok(Done { id: Uuid(topic.id().0), partitions, overrides: new.overrides, lsn })
}

/// How many partitions; `None` is the broker's default. A manual assignment may only name this node.
fn partitions_of(asked: &CreatableTopic) -> Result<Option<i32>, Failure> {
    if asked.assignments.is_empty() {
        return Ok((asked.num_partitions != -1).then_some(asked.num_partitions));
    }
    if asked.num_partitions != -1 || asked.replication_factor != -1 {
        let text = "A manual partition assignment was specified, but numPartitions or \
                    replicationFactor was not set to -1.";
        return Err((ErrorCode::INVALID_REQUEST, text.to_owned()));
    }
    let mut indexes: Vec<i32> =
        asked.assignments.iter().map(|assignment| assignment.partition_index).collect();
    indexes.sort_unstable();
    if !indexes.iter().copied().eq(0..i32::try_from(indexes.len()).unwrap_or(i32::MAX)) {
        let text = "partitions should be a consecutive 0-based integer sequence".to_owned();
        return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, text));
    }
    for assignment in &asked.assignments {
        check_assignment(&assignment.broker_ids)?;
    }
    Ok(Some(i32::try_from(indexes.len()).unwrap_or(i32::MAX)))
}

fn check_assignment(brokers: &[i32]) -> Result<(), Failure> {
    match brokers.iter().find(|broker| **broker != NODE_ID) {
        None if brokers.len() == 1 => Ok(()),
        None => Err((
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment names one broker for each partition.".to_owned(),
        )),
        Some(broker) => Err((
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            format!(
                "The manual partition assignment includes broker {broker}, but no such broker is registered."
            ),
        )),
    }
}

/// One node keeps one replica: a larger factor means one, or is refused where that was chosen.
fn check_replication(peer: &Peer, factor: i16, automatic: bool) -> Result<(), Failure> {
    let strict = peer.context.config.replication_factor == ReplicationFactor::Strict;
    match factor {
        -1 | 1 => Ok(()),
        2.. if !strict || !automatic => Ok(()),
        2.. => Err((
            ErrorCode::INVALID_REPLICATION_FACTOR,
            format!(
                "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be reached because only 1 broker(s) are registered."
            ),
        )),
        _ => Err((
            ErrorCode::INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.".to_owned(),
        )),
    }
}

fn created(asked: &CreatableTopic, outcome: Result<Done, Failure>) -> CreatableTopicResult {
    match outcome {
        Ok(done) => CreatableTopicResult {
            name: asked.name.clone(),
            topic_id: done.id,
            num_partitions: done.partitions,
            replication_factor: 1,
            configs: Some(configs(&done.overrides)),
            ..Default::default()
        },
        Err((error_code, text)) => CreatableTopicResult {
            name: asked.name.clone(),
            error_code,
            error_message: Some(text.into()),
            ..Default::default()
        },
    }
}

/// The settings a new topic has, as CreateTopics shows them (KIP-525).
fn configs(overrides: &Overrides) -> Vec<CreatableTopicConfigs> {
    let one = |definition: &ottla_engine::topic::config::Definition| {
        let set = overrides.get(definition.name);
        CreatableTopicConfigs {
            name: definition.name.into(),
            value: Some(set.map_or(definition.default, String::as_str).into()),
            config_source: if set.is_some() { SOURCE_TOPIC } else { SOURCE_DEFAULT },
            ..Default::default()
        }
    };
    DEFINITIONS.iter().map(one).collect()
}

/// Deletes topics, each on its own.
pub(super) fn delete(peer: &Peer, version: ApiVersion, request: DeleteTopicsRequest) -> Answer {
    let asked: Vec<DeleteTopicState> = if version.0 >= 6 {
        request.topics
    } else {
        let by_name = |name| DeleteTopicState { name: Some(name), topic_id: Uuid::ZERO };
        request.topic_names.into_iter().map(by_name).collect()
    };
    let mut lsn = Lsn::ZERO;
    let responses = asked.into_iter().map(|topic| {
        let outcome = delete_one(peer, &topic);
        match outcome {
            Ok((name, id, deleted)) => {
                lsn = lsn.max(deleted);
                DeletableTopicResult { name: Some(name), topic_id: id, ..Default::default() }
            }
            Err((error_code, text)) => DeletableTopicResult {
                name: topic.name,
                topic_id: topic.topic_id,
                error_code,
                error_message: Some(text.into()),
            },
        }
    });
    let responses = responses.collect();
    Answer::at(lsn, DeleteTopicsResponse { responses, ..Default::default() })
}

fn delete_one(peer: &Peer, asked: &DeleteTopicState) -> Result<(Str, Uuid, Lsn), Failure> {
    let engine = &peer.context.engine;
    let unknown = || match &asked.name {
        Some(_) => {
            let text = "This server does not host this topic-partition.".to_owned();
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, text)
        }
        None => {
            (ErrorCode::UNKNOWN_TOPIC_ID, "This server does not host this topic ID.".to_owned())
        }
    };
    let topic = {
        let catalog = engine.catalog();
        let found = match &asked.name {
            Some(name) => catalog.topic(name),
            None => catalog.topic_by_id(TopicId(asked.topic_id.0)),
        };
        found.cloned().ok_or_else(unknown)?
    };
    let deleted = engine
        .delete_topic(topic.id())
        .map_err(|refused| (codes::refused(refused), refused.to_string()))?;
    let lsn = deleted.ok_or_else(unknown)?;
    Ok((topic.name().as_ref().into(), Uuid(topic.id().0), lsn))
}

/// Adds partitions to topics, each on its own.
pub(super) fn create_partitions(peer: &Peer, request: CreatePartitionsRequest) -> Answer {
    let twice = named_twice(request.topics.iter().map(|topic| &topic.name));
    let mut lsn = Lsn::ZERO;
    let results = request.topics.iter().map(|asked| {
        let outcome = if twice.contains(&asked.name) {
            let text = "Duplicate topic name.".to_owned();
            Err((ErrorCode::INVALID_REQUEST, text))
        } else {
            add_partitions(peer, asked, request.validate_only)
        };
        let (error_code, error_message) = match outcome {
            Ok(added) => {
                lsn = lsn.max(added);
                (ErrorCode::NONE, None)
            }
            Err((code, text)) => (code, Some(text.into())),
        };
        CreatePartitionsTopicResult { name: asked.name.clone(), error_code, error_message }
    });
    let results = results.collect();
    Answer::at(lsn, CreatePartitionsResponse { results, ..Default::default() })
}

fn add_partitions(
    peer: &Peer,
    asked: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<Lsn, Failure> {
    for assignment in asked.assignments.iter().flatten() {
        check_assignment(&assignment.broker_ids)?;
    }
    let engine = &peer.context.engine;
    engine
        .create_partitions(&asked.name, asked.count, validate_only)
        .map_err(|error| (codes::partitions(&error), error.to_string()))
}

fn named_twice<'a>(names: impl Iterator<Item = &'a Str>) -> HashSet<Str> {
    let mut seen = HashSet::new();
    names.filter(|name| !seen.insert(*name)).cloned().collect()
}

/// DescribeConfigs: set on the topic.
const SOURCE_TOPIC: i8 = 1;
/// DescribeConfigs: the default.
const SOURCE_DEFAULT: i8 = 5;
