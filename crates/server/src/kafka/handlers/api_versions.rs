//! ApiVersions: what is served, at which versions (research of each client in `docs/protocol`).

use ottla_engine::Lsn;

use ottla_kafka_proto::messages::api_versions::{
    ApiVersionRange as Range, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey,
    SupportedFeatureKey,
};

use ottla_kafka_proto::{ApiKey, ApiVersion, ErrorCode, Response};

use super::Answer;

/// Answers with the table of served requests; an unknown version of this very request is answered in
/// version 0 with error 35, so that the client can try again (KIP-511).
pub(super) fn api_versions(version: ApiVersion, request: &ApiVersionsRequest) -> Answer {
    let error_code = if version.0 >= 3 && !is_software_name(request) {
        ErrorCode::INVALID_REQUEST
    } else {
        ErrorCode::NONE
    };
    Answer::at(Lsn::ZERO, response(error_code))
}

/// The answer to a version of ApiVersions that does not exist.
pub(in crate::kafka) fn unsupported() -> Response {
    response(ErrorCode::UNSUPPORTED_VERSION).into()
}

fn response(error_code: ErrorCode) -> ApiVersionsResponse {
    let api_keys = SERVED.iter().map(|api| {
        let spec = api.spec();
        Range { api_key: spec.code, min_version: spec.advertised_first.0, max_version: spec.last.0 }
    });
    ApiVersionsResponse {
        error_code,
        api_keys: api_keys.collect(),
        supported_features: FEATURES
            .iter()
            .map(|(name, level)| SupportedFeatureKey {
                name: (*name).into(),
                min_version: 1,
                max_version: *level,
            })
            .collect(),
        finalized_features_epoch: 1,
        finalized_features: FEATURES
            .iter()
            .map(|(name, level)| FinalizedFeatureKey {
                name: (*name).into(),
                max_version_level: *level,
                min_version_level: *level,
            })
            .collect(),
        ..ApiVersionsResponse::default()
    }
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

/// Features that clients look for before they use what depends on them.
const FEATURES: &[(&str, i16)] = &[("metadata.version", 25)];

/// The requests that are served.
pub(in crate::kafka) const SERVED: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::FindCoordinator,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::DescribeLogDirs,
    ApiKey::CreatePartitions,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::DescribeCluster,
    ApiKey::DescribeTopicPartitions,
];
