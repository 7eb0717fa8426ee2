//! DescribeCluster, DescribeLogDirs, FindCoordinator: one node does it all.

use ottla_engine::base64_id;
use ottla_kafka_proto::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use ottla_kafka_proto::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use ottla_kafka_proto::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use ottla_kafka_proto::{ApiVersion, ErrorCode};

use super::Answer;
use crate::kafka::{NODE_ID, Peer};

/// The cluster: this node.
pub(super) fn describe(peer: &Peer, request: DescribeClusterRequest) -> Answer {
    let catalog = peer.context.engine.catalog();
    let advertised = peer.advertised();
    if request.endpoint_type != ENDPOINT_BROKERS {
        return Answer::now(DescribeClusterResponse {
            error_code: ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            error_message: Some(
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
                    .into(),
            ),
            ..Default::default()
        });
    }
    Answer::at(
        catalog.changed(),
        DescribeClusterResponse {
            endpoint_type: ENDPOINT_BROKERS,
            cluster_id: base64_id(catalog.cluster()).into(),
            controller_id: NODE_ID,
            brokers: vec![DescribeClusterBroker {
                broker_id: NODE_ID,
                host: advertised.host.into(),
                port: i32::from(advertised.port),
                ..Default::default()
            }],
            ..Default::default()
        },
    )
}

/// The data directory, with the bytes of each asked partition.
pub(super) fn log_dirs(peer: &Peer, request: DescribeLogDirsRequest) -> Answer {
    let engine = &peer.context.engine;
    let catalog = engine.catalog();
    let wanted = |topic: &str, index: i32| match &request.topics {
        None => true,
        Some(topics) => {
            topics.iter().any(|asked| asked.topic == *topic && asked.partitions.contains(&index))
        }
    };
    let mut topics = Vec::new();
    for topic in catalog.topics() {
        let partitions = topic.partitions();
        let shown: Vec<_> = partitions
            .iter()
            .filter(|partition| wanted(topic.name(), partition.id().0))
            .map(|partition| DescribeLogDirsPartition {
                partition_index: partition.id().0,
                partition_size: i64::try_from(engine.store().size(partition.stream()))
                    .unwrap_or(i64::MAX),
                ..Default::default()
            })
            .collect();
        if !shown.is_empty() {
            let name = topic.name().as_ref().into();
            topics.push(DescribeLogDirsTopic { name, partitions: shown });
        }
    }
    let data = std::path::absolute(&peer.context.config.data);
    let data = data.unwrap_or_else(|_| peer.context.config.data.clone());
    let result = DescribeLogDirsResult {
        log_dir: data.display().to_string().into(),
        topics,
        ..Default::default()
    };
    Answer::at(
        catalog.changed(),
        DescribeLogDirsResponse { results: vec![result], ..Default::default() },
    )
}

/// The coordinator of every group and transaction: this node.
pub(super) fn coordinator(
    peer: &Peer,
    version: ApiVersion,
    request: FindCoordinatorRequest,
) -> Answer {
    let advertised = peer.advertised();
    let port = i32::from(advertised.port);
    if version.0 < 4 {
        return Answer::now(FindCoordinatorResponse {
            node_id: NODE_ID,
            host: advertised.host.into(),
            port,
            ..Default::default()
        });
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| Coordinator {
        key,
        node_id: NODE_ID,
        host: advertised.host.as_str().into(),
        port,
        ..Default::default()
    });
    let coordinators = coordinators.collect();
    Answer::now(FindCoordinatorResponse { coordinators, ..Default::default() })
}

/// DescribeCluster: brokers, not controllers.
const ENDPOINT_BROKERS: i8 = 1;
