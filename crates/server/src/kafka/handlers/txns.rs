//! Transactions: AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit, EndTxn.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_engine::group::classic::Committer;
use ottla_engine::group::offsets::Commit;
use ottla_engine::group::{Generation, GroupId};
use ottla_engine::topic::{Partition, PartitionId};
use ottla_engine::txn::coordinator::{EndRequest, EndVersion, Identity};
use ottla_engine::txn::{Outcome, ProducerEpoch, ProducerId};
use ottla_engine::{Lsn, Writer};
use ottla_kafka_proto::messages::add_offsets_to_txn::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse,
};
use ottla_kafka_proto::messages::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult, AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult,
};
use ottla_kafka_proto::messages::end_txn::{EndTxnRequest, EndTxnResponse};
use ottla_kafka_proto::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};
use ottla_kafka_proto::{ApiVersion, ErrorCode};

use super::Answer;
use super::offsets::epoch;
use crate::kafka::{Peer, codes};

/// Partitions join a transaction: all that exist, or none.
pub(super) fn add_partitions(
    peer: &Peer,
    version: ApiVersion,
    request: AddPartitionsToTxnRequest,
) -> Answer {
    if version.0 < 4 {
        let who = identity(request.v3_and_below_producer_id, request.v3_and_below_producer_epoch);
        let id = &request.v3_and_below_transactional_id;
        let topics = &request.v3_and_below_topics;
        let (results, lsn) = add(peer, version, id, who, topics, false);
        return Answer::at(
            lsn,
            AddPartitionsToTxnResponse {
                results_by_topic_v3_and_below: results,
                ..AddPartitionsToTxnResponse::default()
            },
        );
    }
    let mut newest = Lsn::ZERO;
    let results = request.transactions.into_iter().map(|txn| {
        let who = identity(txn.producer_id, txn.producer_epoch);
        let id = &txn.transactional_id;
        let (topic_results, lsn) = add(peer, version, id, who, &txn.topics, txn.verify_only);
        newest = newest.max(lsn);
        AddPartitionsToTxnResult { transactional_id: txn.transactional_id, topic_results }
    });
    let results_by_transaction = results.collect();
    Answer::at(newest, AddPartitionsToTxnResponse { results_by_transaction, ..Default::default() })
}

fn add(
    peer: &Peer,
    version: ApiVersion,
    id: &str,
    who: Identity,
    topics: &[AddPartitionsToTxnTopic],
    verify_only: bool,
) -> (Vec<AddPartitionsToTxnTopicResult>, Lsn) {
    let engine = &peer.context.engine;
    let found = find_all(peer, topics);
    let known: Vec<Arc<Partition>> = found.values().flatten().cloned().collect();
    let complete = known.len() == found.len();
    let (codes, lsn): (Vec<ErrorCode>, Lsn) = if !complete {
        (vec![ErrorCode::OPERATION_NOT_ATTEMPTED; known.len()], Lsn::ZERO)
    } else if verify_only {
        let verified = engine.verify_partitions(id, who, &known);
        let code = |outcome: Result<(), _>| match outcome {
            Ok(()) => ErrorCode::NONE,
            Err(error) => codes::txn_write(error, version.0 >= 5),
        };
        (verified.into_iter().map(code).collect(), Lsn::ZERO)
    } else {
        let (code, lsn) = match engine.add_partitions(id, who, &known) {
            Ok(decided) => {
                let code = decided.answer.err().map(|error| codes::txn_add(error, version));
                (code.unwrap_or(ErrorCode::NONE), decided.lsn)
            }
            Err(refused) => (codes::txn_refused(refused), Lsn::ZERO),
        };
        (vec![code; known.len()], lsn)
    };
    let mut codes = codes.into_iter();
    let codes: BTreeMap<(&str, i32), ErrorCode> = found
        .iter()
        .map(|(key, partition)| match partition {
            Some(_) => (*key, codes.next().unwrap_or_default()),
            None => (*key, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        })
        .collect();
    let results = topics.iter().map(|topic| AddPartitionsToTxnTopicResult {
        name: topic.name.clone(),
        results_by_partition: topic
            .partitions
            .iter()
            .map(|index| AddPartitionsToTxnPartitionResult {
                partition_index: *index,
                partition_error_code: codes
                    .get(&(topic.name.as_str(), *index))
                    .copied()
                    .unwrap_or_default(),
            })
            .collect(),
    });
    (results.collect(), lsn)
}

/// Every asked partition, `None` for those that do not exist.
fn find_all<'a>(
    peer: &Peer,
    topics: &'a [AddPartitionsToTxnTopic],
) -> BTreeMap<(&'a str, i32), Option<Arc<Partition>>> {
    let catalog = peer.context.engine.catalog();
    let asked = topics.iter().flat_map(|topic| {
        let name = topic.name.as_str();
        topic.partitions.iter().map(move |index| (name, *index))
    });
    let found = asked.map(|(name, index)| {
        let partition = catalog.topic(name).and_then(|topic| topic.partition(PartitionId(index)));
        ((name, index), partition)
    });
    found.collect()
}

/// A group's offsets are going to be part of the transaction.
pub(super) fn add_offsets(
    peer: &Peer,
    version: ApiVersion,
    request: AddOffsetsToTxnRequest,
) -> Answer {
    let who = identity(request.producer_id, request.producer_epoch);
    let group = GroupId::from(request.group_id.as_str());
    let (error_code, lsn) = if request.group_id.is_empty() {
        (ErrorCode::INVALID_GROUP_ID, Lsn::ZERO)
    } else {
        match peer.context.engine.add_group(&request.transactional_id, who, &group) {
            Ok(decided) => {
                let code = decided.answer.err().map(|error| codes::txn_add(error, version));
                (code.unwrap_or(ErrorCode::NONE), decided.lsn)
            }
            Err(refused) => (codes::txn_refused(refused), Lsn::ZERO),
        }
    };
    Answer::at(lsn, AddOffsetsToTxnResponse { error_code, ..Default::default() })
}

/// Offsets that become visible with the transaction.
pub(super) fn commit_offsets(
    peer: &Peer,
    version: ApiVersion,
    request: TxnOffsetCommitRequest,
) -> Answer {
    let writer = Writer {
        id: &request.transactional_id,
        who: identity(request.producer_id, request.producer_epoch),
        implicit: version.0 >= 5,
    };
    let member = Committer {
        member: (!request.member_id.is_empty()).then(|| request.member_id.as_str().into()),
        instance: request.group_instance_id.as_deref().map(Into::into),
        generation: Generation(if version.0 >= 3 { request.generation_id } else { -1 }),
        knows_epochs: true,
    };
    let commits = request.topics.iter().flat_map(|topic| {
        let name: Arc<str> = topic.name.as_str().into();
        topic.partitions.iter().map(move |partition| Commit {
            topic: Arc::clone(&name),
            partition: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: epoch(partition.committed_leader_epoch),
            metadata: partition.committed_metadata.as_deref().unwrap_or_default().into(),
        })
    });
    let group = GroupId::from(request.group_id.as_str());
    let outcome = if request.group_id.is_empty() {
        Err(ErrorCode::INVALID_GROUP_ID)
    } else {
        let engine = &peer.context.engine;
        engine
            .commit_in_transaction(writer, &group, &member, commits.collect())
            .map_err(|error| codes::txn_commit(&error, version))
    };
    let (mut results, lsn, whole) = match outcome {
        Ok((results, lsn)) => (results.into_iter(), lsn, ErrorCode::NONE),
        Err(code) => (Vec::new().into_iter(), Lsn::ZERO, code),
    };
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let own = match results.next() {
                Some(Err(failure)) => codes::commit_failure(failure),
                _ => whole,
            };
            let partition_index = partition.partition_index;
            TxnOffsetCommitResponsePartition { partition_index, error_code: own }
        });
        let partitions = partitions.collect();
        TxnOffsetCommitResponseTopic { name: topic.name.clone(), partitions }
    });
    let topics = topics.collect();
    Answer::at(lsn, TxnOffsetCommitResponse { topics, ..Default::default() })
}

/// Everything of the transaction becomes visible, or nothing of it ever was.
pub(super) fn end(peer: &Peer, version: ApiVersion, request: EndTxnRequest) -> Answer {
    let end = EndRequest {
        id: request.transactional_id.as_str().into(),
        who: identity(request.producer_id, request.producer_epoch),
        outcome: if request.committed { Outcome::Commit } else { Outcome::Abort },
        version: if version.0 >= 5 { EndVersion::Bumping } else { EndVersion::Old },
    };
    let (outcome, lsn) = match peer.context.engine.end_transaction(&end) {
        Ok(decided) => {
            (decided.answer.map_err(|error| codes::txn_end(error, version)), decided.lsn)
        }
        Err(refused) => (Err(codes::txn_refused(refused)), Lsn::ZERO),
    };
    let response = match outcome {
        Ok(after) => EndTxnResponse {
            producer_id: after.producer.0,
            producer_epoch: after.epoch.0,
            ..EndTxnResponse::default()
        },
        Err(error_code) => EndTxnResponse {
            error_code,
            producer_id: -1,
            producer_epoch: -1,
            ..EndTxnResponse::default()
        },
    };
    Answer::at(lsn, response)
}

/// Who a producer is on the wire.
pub(super) const fn identity(producer: i64, epoch: i16) -> Identity {
    Identity { producer: ProducerId(producer), epoch: ProducerEpoch(epoch) }
}
