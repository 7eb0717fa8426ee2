//! ListTransactions, DescribeTransactions, DescribeProducers: what administrators see of producers.

use std::collections::BTreeMap;

use ottla_engine::Lsn;
use ottla_engine::topic::{Partition, PartitionId};
use ottla_engine::txn::coordinator::{TransactionView, TxnState};
use ottla_kafka_proto::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState,
    TopicResponse,
};
use ottla_kafka_proto::messages::describe_transactions::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, TopicData,
    TransactionState as Described,
};
use ottla_kafka_proto::messages::list_transactions::{
    ListTransactionsRequest, ListTransactionsResponse, TransactionState as Listed,
};
use ottla_kafka_proto::{ErrorCode, Str};
use regex::Regex;

use super::Answer;
use crate::kafka::Peer;

/// Every transactional id that the filters let through.
pub(super) fn list(peer: &Peer, request: ListTransactionsRequest) -> Answer {
    let pattern = request.transactional_id_pattern.as_deref().filter(|text| !text.is_empty());
    let Ok(pattern) = pattern.map(whole).transpose() else {
        let error_code = ErrorCode::INVALID_REGULAR_EXPRESSION;
        return Answer::now(ListTransactionsResponse { error_code, ..Default::default() });
    };
    let now = peer.context.engine.now().wall;
    let wanted = |view: &TransactionView<'_>| {
        let state = view.state.to_string();
        let age = view.started.map(|started| now.0.saturating_sub(started.0));
        (request.state_filters.is_empty() || request.state_filters.iter().any(|s| *s == *state))
            && (request.producer_id_filters.is_empty()
                || request.producer_id_filters.contains(&view.identity.producer.0))
            && (request.duration_filter < 0 || age.is_some_and(|age| age > request.duration_filter))
            && pattern.as_ref().is_none_or(|pattern| pattern.is_match(view.id))
    };
    let (transaction_states, lsn) = peer.context.engine.read_transactions(|txns| {
        let listed = txns.iter().filter(wanted).map(|view| Listed {
            transactional_id: view.id.as_ref().into(),
            producer_id: view.identity.producer.0,
            transaction_state: view.state.to_string().into(),
        });
        listed.collect()
    });
    let known = |state: &Str| STATES.contains(&state.as_str());
    let unknown_state_filters =
        request.state_filters.iter().filter(|state| !known(state)).cloned().collect();
    let response = ListTransactionsResponse {
        unknown_state_filters,
        transaction_states,
        ..ListTransactionsResponse::default()
    };
    Answer::at(lsn, response)
}

/// The pattern has to match a whole id.
fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(pattern)?;
    Regex::new(&format!("^(?:{pattern})$"))
}

/// Each transactional id with the partitions of its open transaction.
pub(super) fn describe(peer: &Peer, request: DescribeTransactionsRequest) -> Answer {
    let (transaction_states, lsn) = peer.context.engine.read_transactions(|txns| {
        let ids = request.transactional_ids.iter();
        ids.map(|id| match txns.describe(id) {
            Some(view) => described(&view),
            None => Described {
                error_code: ErrorCode::TRANSACTIONAL_ID_NOT_FOUND,
                transactional_id: id.clone(),
                ..Described::default()
            },
        })
        .collect()
    });
    Answer::at(lsn, DescribeTransactionsResponse { transaction_states, ..Default::default() })
}

fn described(view: &TransactionView<'_>) -> Described {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for part in &view.partitions {
        topics.entry(&part.topic).or_default().push(part.partition);
    }
    let topics =
        topics.into_iter().map(|(topic, partitions)| TopicData { topic: topic.into(), partitions });
    Described {
        error_code: ErrorCode::NONE,
        transactional_id: view.id.as_ref().into(),
        transaction_state: view.state.to_string().into(),
        transaction_timeout_ms: i32::try_from(view.timeout_ms).unwrap_or(i32::MAX),
        transaction_start_time_ms: view.started.map_or(-1, |started| started.0),
        producer_id: view.identity.producer.0,
        producer_epoch: view.identity.epoch.0,
        topics: if view.state == TxnState::Ongoing { topics.collect() } else { Vec::new() },
    }
}

/// Who writes to each partition.
pub(super) fn producers(peer: &Peer, request: DescribeProducersRequest) -> Answer {
    let engine = &peer.context.engine;
    let mut newest = Lsn::ZERO;
    let topics = request.topics.into_iter().map(|asked| {
        let topic = engine.catalog().topic(&asked.name).cloned();
        let partitions = asked.partition_indexes.iter().map(|index| {
            let partition = topic.as_ref().and_then(|t| t.partition(PartitionId(*index)));
            let (active_producers, error_code) = match partition {
                Some(partition) => (active(&partition, &mut newest), ErrorCode::NONE),
                None => (Vec::new(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            };
            PartitionResponse {
                partition_index: *index,
                error_code,
                active_producers,
                ..PartitionResponse::default()
            }
        });
        let partitions = partitions.collect();
        TopicResponse { name: asked.name, partitions }
    });
    let topics = topics.collect();
    Answer::at(newest, DescribeProducersResponse { topics, ..Default::default() })
}

fn active(partition: &Partition, newest: &mut Lsn) -> Vec<ProducerState> {
    let state = partition.lock();
    *newest = (*newest).max(state.applied);
    let producers = state.producers.iter().map(|producer| ProducerState {
        producer_id: producer.producer.0,
        producer_epoch: i32::from(producer.epoch.0),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_at.0,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.transaction_start.map_or(-1, |offset| offset.0),
    });
    producers.collect()
}

/// Kafka's names; those that do not occur here are known all the same.
const STATES: &[&str] = &[
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "PrepareEpochFence",
    "Dead",
];
