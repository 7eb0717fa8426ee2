//! Wire becomes domain here, and only here: one file for each group of requests.

mod api_versions;
mod cluster;
mod cluster_admin;
mod configs;
mod configs_alter;
mod fetch;
mod groups;
mod groups_admin;
mod groups_consumer;
mod list_offsets;
mod metadata;
mod offsets;
mod offsets_delete;
mod produce;
mod producer_id;
mod records;
mod share;
mod share_groups;
mod telemetry;
mod topics;
mod txns;
mod txns_admin;

use ottla_engine::Lsn;
use ottla_kafka_proto::{ApiVersion, Request, Response};

use super::Peer;
pub(super) use api_versions::unsupported as unsupported_api_versions;

/// An answer, and the place of the newest fact it reveals: it is sent once the log is durable past it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response,
    pub(super) lsn: Lsn,
}

impl Answer {
    /// An answer that waits for `lsn`.
    pub(super) fn at(lsn: Lsn, response: impl Into<Response>) -> Self {
        Self { response: response.into(), lsn }
    }

    /// An answer that reveals nothing durable.
    pub(super) fn now(response: impl Into<Response>) -> Self {
        Self::at(Lsn::ZERO, response)
    }
}

/// Handles one request. `Ok(None)`: no answer is due. `Err`: close the connection, with the reason
/// for the log.
pub(super) async fn handle(
    peer: &Peer,
    client_id: Option<&str>,
    version: ApiVersion,
    request: Request,
) -> Result<Option<Answer>, String> {
    let answer = match request {
        Request::Produce(request) => return produce::produce(peer, version, request).await,
        Request::Fetch(request) => fetch::fetch(peer, version, request).await,
        Request::ListOffsets(request) => list_offsets::list_offsets(peer, version, request),
        Request::Metadata(request) => metadata::metadata(peer, version, request),
        Request::ApiVersions(request) => api_versions::api_versions(peer, version, &request),
        Request::CreateTopics(request) => topics::create(peer, request),
        Request::DeleteTopics(request) => topics::delete(peer, version, request),
        Request::CreatePartitions(request) => topics::create_partitions(peer, request),
        Request::DescribeTopicPartitions(request) => metadata::describe(peer, request),
        Request::DeleteRecords(request) => records::delete(peer, request),
        Request::OffsetForLeaderEpoch(request) => records::epochs(peer, request),
        Request::InitProducerId(request) => producer_id::init(peer, version, request),
        Request::DescribeConfigs(request) => configs::describe(peer, request),
        Request::AlterConfigs(request) => configs_alter::alter(peer, request),
        Request::IncrementalAlterConfigs(request) => configs_alter::incremental(peer, request),
        Request::DescribeCluster(request) => cluster::describe(peer, request),
        Request::DescribeLogDirs(request) => cluster::log_dirs(peer, request),
        Request::FindCoordinator(request) => cluster::coordinator(peer, version, request),
        Request::JoinGroup(request) => groups::join(peer, client_id, version, request).await,
        Request::SyncGroup(request) => groups::sync(peer, request).await,
        Request::Heartbeat(request) => groups::heartbeat(peer, request).await,
        Request::LeaveGroup(request) => groups::leave(peer, version, request).await,
        Request::OffsetCommit(request) => offsets::commit(peer, version, request),
        Request::OffsetFetch(request) => offsets::fetch(peer, version, request),
        Request::OffsetDelete(request) => offsets_delete::delete(peer, request),
        Request::DescribeGroups(request) => groups_admin::describe(peer, version, request),
        Request::ListGroups(request) => groups_admin::list(peer, request),
        Request::DeleteGroups(request) => groups_admin::delete(peer, request),
        Request::ConsumerGroupHeartbeat(request) => {
            groups_consumer::heartbeat(peer, client_id, request)
        }
        Request::ConsumerGroupDescribe(request) => groups_consumer::describe(peer, request),
        Request::ShareGroupHeartbeat(request) => share_groups::heartbeat(peer, client_id, request),
        Request::ShareGroupDescribe(request) => share_groups::describe(peer, request),
        Request::ShareFetch(request) => share::fetch(peer, request).await,
        Request::ShareAcknowledge(request) => share::acknowledge(peer, request),
        Request::DescribeShareGroupOffsets(request) => share_groups::offsets(peer, request),
        Request::AlterShareGroupOffsets(request) => share_groups::alter(peer, request),
        Request::DeleteShareGroupOffsets(request) => share_groups::delete(peer, request),
        Request::AddPartitionsToTxn(request) => txns::add_partitions(peer, version, request),
        Request::AddOffsetsToTxn(request) => txns::add_offsets(peer, version, request),
        Request::TxnOffsetCommit(request) => txns::commit_offsets(peer, version, request),
        Request::EndTxn(request) => txns::end(peer, version, request),
        Request::ListTransactions(request) => txns_admin::list(peer, request),
        Request::DescribeTransactions(request) => txns_admin::describe(peer, request),
        Request::DescribeProducers(request) => txns_admin::producers(peer, request),
        Request::ElectLeaders(request) => cluster_admin::elect(peer, request),
        Request::ListPartitionReassignments(_) => cluster_admin::list_reassignments(),
        Request::AlterPartitionReassignments(request) => cluster_admin::reassign(peer, request),
        Request::DescribeQuorum(request) => cluster_admin::quorum(peer, version, request),
        Request::UpdateFeatures(request) => cluster_admin::update_features(version, request),
        Request::GetTelemetrySubscriptions(request) => {
            telemetry::subscriptions(peer, client_id, &request)
        }
        Request::PushTelemetry(request) => telemetry::push(peer, client_id, &request),
        Request::ListConfigResources(request) => {
            cluster_admin::config_resources(peer, version, request)
        }
        other => return Err(format!("a request that is not served: {:?}", other.api())),
    };
    Ok(Some(answer))
}
