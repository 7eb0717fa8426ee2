//! What administrators ask of a cluster, answered by one node: there is nobody to elect and nowhere to
//! move, and the standard tools are told so in Kafka's words.

use std::collections::BTreeSet;

use ottla_engine::catalog::Catalog;
use ottla_kafka_proto::ErrorCode;
use ottla_kafka_proto::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use ottla_kafka_proto::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionResponse, ReplicaState,
    TopicResponse,
};
use ottla_kafka_proto::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use ottla_kafka_proto::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use ottla_kafka_proto::messages::list_partition_reassignments::ListPartitionReassignmentsResponse;
use ottla_kafka_proto::messages::update_features::{
    UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use ottla_kafka_proto::{ApiVersion, Str};

use super::Answer;
use super::api_versions::feature_levels;
use crate::kafka::codes::LEADER_EPOCH;
use crate::kafka::{NODE_ID, Peer};

/// The leader of every partition is this node already; who asks for all of them is told nothing, as
/// by Kafka.
pub(super) fn elect(peer: &Peer, request: ElectLeadersRequest) -> Answer {
    let catalog = peer.context.engine.catalog();
    let results = request.topic_partitions.unwrap_or_default().into_iter().map(|topic| {
        let name = &topic.topic;
        let known = known_partitions(&catalog, name);
        let partitions = topic.partitions.iter().map(|index| {
            let (error_code, message) = if known.contains(index) {
                let message = "Leader election not needed for topic partition.".to_owned();
                (ErrorCode::ELECTION_NOT_NEEDED, message)
            } else {
                let message = match known.is_empty() {
                    true => format!("No such topic as {name}"),
                    false => format!("No such partition as {name}-{index}"),
                };
                (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message)
            };
            PartitionResult {
                partition_id: *index,
                error_code,
                error_message: Some(message.into()),
            }
        });
        let partition_result = partitions.collect();
        ReplicaElectionResult { topic: topic.topic, partition_result }
    });
    let replica_election_results = results.collect();
    Answer::at(
        catalog.changed(),
        ElectLeadersResponse { replica_election_results, ..Default::default() },
    )
}

fn known_partitions(catalog: &Catalog, topic: &str) -> BTreeSet<i32> {
    let partitions = catalog.topic(topic).map(|topic| topic.partitions());
    partitions.iter().flat_map(|all| all.iter()).map(|partition| partition.id().0).collect()
}

/// Nothing is ever on its way.
pub(super) fn list_reassignments() -> Answer {
    Answer::now(ListPartitionReassignmentsResponse::default())
}

/// A partition may be put where it is.
pub(super) fn reassign(peer: &Peer, request: AlterPartitionReassignmentsRequest) -> Answer {
    let catalog = peer.context.engine.catalog();
    let responses = request.topics.into_iter().map(|topic| {
        let known = known_partitions(&catalog, &topic.name);
        let partitions = topic.partitions.iter().map(|partition| {
            let (error_code, message) = reassigned(partition, &known);
            ReassignablePartitionResponse {
                partition_index: partition.partition_index,
                error_code,
                error_message: message.map(Into::into),
            }
        });
        let partitions = partitions.collect();
        ReassignableTopicResponse { name: topic.name, partitions }
    });
    let responses = responses.collect();
    let response = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        responses,
        ..AlterPartitionReassignmentsResponse::default()
    };
    Answer::at(catalog.changed(), response)
}

fn reassigned(
    partition: &ReassignablePartition,
    known: &BTreeSet<i32>,
) -> (ErrorCode, Option<&'static str>) {
    if !known.contains(&partition.partition_index) {
        let message = "The partition does not exist.";
        return (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(message));
    }
    match partition.replicas.as_deref() {
        None => (ErrorCode::NO_REASSIGNMENT_IN_PROGRESS, Some("No reassignment in progress.")),
        Some([NODE_ID]) => (ErrorCode::NONE, None),
        Some([]) => (
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            Some("The manual partition assignment includes an empty replica list."),
        ),
        Some(_) => (
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            Some("The manual partition assignment includes a broker that is not registered."),
        ),
    }
}

/// A quorum of one.
pub(super) fn quorum(peer: &Peer, version: ApiVersion, request: DescribeQuorumRequest) -> Answer {
    let engine = &peer.context.engine;
    let catalog = engine.catalog();
    let end = i64::try_from(catalog.changed().0).unwrap_or(i64::MAX);
    let now = engine.now().wall.0;
    let advertised = peer.advertised();
    let topics = request.topics.into_iter().map(|topic| {
        let metadata = topic.topic_name == *METADATA_TOPIC;
        let partitions = topic.partitions.iter().map(|partition| {
            if !metadata || partition.partition_index != 0 {
                return PartitionResponse {
                    partition_index: partition.partition_index,
                    error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    ..PartitionResponse::default()
                };
            }
            PartitionResponse {
                leader_id: NODE_ID,
                leader_epoch: LEADER_EPOCH,
                high_watermark: end,
                current_voters: vec![ReplicaState {
                    replica_id: NODE_ID,
                    log_end_offset: end,
                    last_fetch_timestamp: now,
                    last_caught_up_timestamp: now,
                    ..ReplicaState::default()
                }],
                ..PartitionResponse::default()
            }
        });
        let partitions = partitions.collect();
        TopicResponse { topic_name: topic.topic_name, partitions }
    });
    let listener =
        Listener { name: "PLAINTEXT".into(), host: advertised.host.into(), port: advertised.port };
    let node = Node { node_id: NODE_ID, listeners: vec![listener] };
    let response = DescribeQuorumResponse {
        topics: topics.collect(),
        nodes: if version.0 >= 2 { vec![node] } else { Vec::new() },
        ..DescribeQuorumResponse::default()
    };
    Answer::at(catalog.changed(), response)
}

/// The levels are what this version serves; asking for them is granted, for others refused.
pub(super) fn update_features(version: ApiVersion, request: UpdateFeaturesRequest) -> Answer {
    let mut first: Option<(ErrorCode, Str)> = None;
    let results = request.feature_updates.into_iter().map(|update| {
        let refused = feature_refused(&update.feature, update.max_version_level);
        let (error_code, error_message) = match refused {
            None => (ErrorCode::NONE, None),
            Some((code, message)) => {
                first.get_or_insert((code, message.clone()));
                (code, Some(message))
            }
        };
        UpdatableFeatureResult { feature: update.feature, error_code, error_message }
    });
    let results: Vec<_> = results.collect();
    let (error_code, error_message) = match first {
        Some((code, message)) => {
            let why =
                "The update failed for all features since the following feature had an error: ";
            (code, Some(format!("{why}{message}").into()))
        }
        None => (ErrorCode::NONE, None),
    };
    Answer::now(UpdateFeaturesResponse {
        error_code,
        error_message,
        results: if version.0 < 2 { results } else { Vec::new() },
        ..UpdateFeaturesResponse::default()
    })
}

fn feature_refused(name: &str, level: i16) -> Option<(ErrorCode, Str)> {
    let base = format!("Invalid update version {level} for feature {name}.");
    let message = match feature_levels(name) {
        Some((_, served)) if served == level => return None,
        Some((lowest, served)) if (lowest..served).contains(&level) => {
            format!("{base} Only {served} is served.")
        }
        Some((lowest, served)) => {
            format!("{base} Local controller {NODE_ID} only supports versions {lowest}-{served}")
        }
        None => format!("{base} Local controller {NODE_ID} does not support this feature."),
    };
    Some((ErrorCode::INVALID_UPDATE_VERSION, message.into()))
}

/// What has settings: topics, this node, groups that were given some. Version 0 asks for client metrics alone.
pub(super) fn config_resources(
    peer: &Peer,
    version: ApiVersion,
    request: ListConfigResourcesRequest,
) -> Answer {
    let asked = |kind: i8| match version.0 {
        0 => kind == CLIENT_METRICS,
        _ => request.resource_types.is_empty() || request.resource_types.contains(&kind),
    };
    if let Some(unknown) = request.resource_types.iter().find(|kind| !RESOURCES.contains(kind)) {
        tracing::debug!(unknown, "a type of resource that does not exist");
        let error_code = ErrorCode::UNSUPPORTED_VERSION;
        return Answer::now(ListConfigResourcesResponse { error_code, ..Default::default() });
    }
    let engine = &peer.context.engine;
    let mut resources = Vec::new();
    let mut add = |name: &str, resource_type| {
        resources.push(ConfigResource { resource_name: name.into(), resource_type });
    };
    let catalog = engine.catalog();
    if asked(TOPIC) {
        for topic in catalog.topics() {
            add(topic.name(), TOPIC);
        }
    }
    if asked(CLIENT_METRICS) {
        for name in catalog.client_metrics().keys() {
            add(name, CLIENT_METRICS);
        }
    }
    for kind in [BROKER, BROKER_LOGGER] {
        if asked(kind) {
            add(&NODE_ID.to_string(), kind);
        }
    }
    if asked(GROUP) {
        for group in catalog.configured_groups() {
            add(group, GROUP);
        }
    }
    Answer::at(
        catalog.changed(),
        ListConfigResourcesResponse { config_resources: resources, ..Default::default() },
    )
}

const METADATA_TOPIC: &str = "__cluster_metadata";
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;
const RESOURCES: &[i8] = &[TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
