//! ApiVersions: what is served, at which versions (research of each client in `docs/protocol`).

use ottla_engine::Lsn;

use ottla_kafka_proto::messages::api_versions::{
    ApiVersionRange as Range, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey,
    SupportedFeatureKey,
};

use ottla_kafka_proto::{ApiKey, ApiVersion, ErrorCode, Response};

use super::Answer;
use crate::kafka::Peer;
use crate::kafka::telemetry::Software;

/// Answers with the table of served requests; an unknown version of this very request is answered in
/// version 0 with error 35, so that the client can try again (KIP-511).
pub(super) fn api_versions(
    peer: &Peer,
    version: ApiVersion,
    request: &ApiVersionsRequest,
) -> Answer {
    let error_code = if version.0 >= 3 && !is_software_name(request) {
        ErrorCode::INVALID_REQUEST
    } else {
        ErrorCode::NONE
    };
    if version.0 >= 3 && error_code.is_ok() {
        peer.software.get_or_init(|| Software {
            name: request.client_software_name.to_string(),
            version: request.client_software_version.to_string(),
        });
    }
    // asked for nothing, librdkafka says a line about it at every start: Kafka advertises it as rarely
    let tells = !peer.context.engine.catalog().client_metrics().is_empty();
    Answer::at(Lsn::ZERO, response(version, error_code, tells))
}

/// The answer to a version of ApiVersions that does not exist.
pub(in crate::kafka) fn unsupported() -> Response {
    response(ApiVersion(0), ErrorCode::UNSUPPORTED_VERSION, false).into()
}

/// `tells`: some client shall tell its metrics.
fn response(version: ApiVersion, error_code: ErrorCode, tells: bool) -> ApiVersionsResponse {
    let hidden = |api: &&ApiKey| {
        !tells && matches!(api, ApiKey::GetTelemetrySubscriptions | ApiKey::PushTelemetry)
    };
    let api_keys = SERVED.iter().filter(|api| !hidden(api)).map(|api| {
        let spec = api.spec();
        Range { api_key: spec.code, min_version: spec.advertised_first.0, max_version: spec.last.0 }
    });
    ApiVersionsResponse {
        error_code,
        api_keys: api_keys.collect(),
        supported_features: FEATURES
            .iter()
            .filter(|feature| version.0 >= 4 || feature.lowest > 0) // older clients choke on 0
            .map(|feature| SupportedFeatureKey {
                name: feature.name.into(),
                min_version: feature.lowest,
                max_version: feature.level,
            })
            .collect(),
        finalized_features_epoch: 1,
        finalized_features: FEATURES
            .iter()
            .map(|feature| FinalizedFeatureKey {
                name: feature.name.into(),
                max_version_level: feature.level,
                min_version_level: feature.level,
            })
            .collect(),
        ..ApiVersionsResponse::default()
    }
}

/// The lowest level of a feature and the one in force; `None` if there is no such feature.
pub(super) fn feature_levels(name: &str) -> Option<(i16, i16)> {
    FEATURES
        .iter()
        .find(|feature| feature.name == name)
        .map(|feature| (feature.lowest, feature.level))
}

/// KIP-511: `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn is_software_name(request: &ApiVersionsRequest) -> bool {
    let legal = |text: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        let bounds = text.bytes().next().zip(text.bytes().last());
        bounds.is_some_and(|(first, last)| {
            first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric()
        }) && text.bytes().all(inner)
    };
    legal(&request.client_software_name) && legal(&request.client_software_version)
}

/// A feature that clients look for before they use what depends on it.
struct Feature {
    name: &'static str,
    lowest: i16,
    level: i16,
}

const FEATURES: &[Feature] = &[
    Feature { name: "group.version", lowest: 0, level: 1 },
    Feature { name: "metadata.version", lowest: 7, level: 30 }, // 4.3-IV0
    Feature { name: "share.version", lowest: 0, level: 1 },
    Feature { name: "transaction.version", lowest: 0, level: 2 },
];

/// The requests that are served.
pub(in crate::kafka) const SERVED: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::EndTxn,
    ApiKey::TxnOffsetCommit,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::DescribeLogDirs,
    ApiKey::CreatePartitions,
    ApiKey::DeleteGroups,
    ApiKey::ElectLeaders,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::OffsetDelete,
    ApiKey::DescribeQuorum,
    ApiKey::UpdateFeatures,
    ApiKey::DescribeCluster,
    ApiKey::DescribeProducers,
    ApiKey::DescribeTransactions,
    ApiKey::ListTransactions,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
    ApiKey::GetTelemetrySubscriptions,
    ApiKey::PushTelemetry,
    ApiKey::ListConfigResources,
    ApiKey::DescribeTopicPartitions,
    ApiKey::ShareGroupHeartbeat,
    ApiKey::ShareGroupDescribe,
    ApiKey::ShareFetch,
    ApiKey::ShareAcknowledge,
    ApiKey::DescribeShareGroupOffsets,
    ApiKey::AlterShareGroupOffsets,
    ApiKey::DeleteShareGroupOffsets,
];
