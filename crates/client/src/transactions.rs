//! Transactions as their coordinators see them, and ending those that nobody ends.

use ottla_kafka_proto::messages::{
    DescribeTransactionsRequest, InitProducerIdRequest, ListTransactionsRequest,
};
use ottla_kafka_proto::{Response, Str};

use crate::cluster::{CoordinatorKind, TopicPartition};
use crate::{ClientError, Cluster};

/// A transactional id as the list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The transactional id.
    pub id: String,
    /// Who has it now.
    pub producer_id: i64,
    /// Kafka's word for its state: Empty, Ongoing, `CompleteCommit`, …
    pub state: String,
}

/// A transactional id with its open transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionDetails {
    /// Kafka's word for its state.
    pub state: String,
    /// Who has it now.
    pub producer_id: i64,
    /// The epoch of that producer; those before are fenced.
    pub producer_epoch: i16,
    /// Milliseconds after which the coordinator aborts it.
    pub timeout_ms: i32,
    /// Milliseconds since 1970; `None` while none is open.
    pub started_ms: Option<i64>,
    /// The partitions written to, ascending.
    pub partitions: Vec<TopicPartition>,
}

impl Cluster {
    /// Every transactional id of every coordinator that is in one of these states, by name; in any
    /// state if there are none.
    pub fn transactions(&mut self, states: &[String]) -> Result<Vec<Transaction>, ClientError> {
        let filters: Vec<Str> = states.iter().map(|state| state.as_str().into()).collect();
        let request =
            || ListTransactionsRequest { state_filters: filters.clone(), ..Default::default() };
        let mut all = Vec::new();
        for answer in self.call_every(request)? {
            let Response::ListTransactions(answer) = answer else {
                return Err(self.unexpected("ListTransactions"));
            };
            ClientError::check(|| "listing transactions".to_owned(), answer.error_code, None)?;
            all.extend(answer.transaction_states.into_iter().map(|found| Transaction {
                id: found.transactional_id.into(),
                producer_id: found.producer_id,
                state: found.transaction_state.into(),
            }));
        }
        all.sort_by(|left, right| left.id.cmp(&right.id));
        Ok(all)
    }

    /// One transactional id.
    pub fn transaction(&mut self, id: &str) -> Result<TransactionDetails, ClientError> {
        self.retry(|cluster| {
            let request = DescribeTransactionsRequest { transactional_ids: vec![id.into()] };
            let answer = cluster.call_coordinator(CoordinatorKind::Transaction, id, request)?;
            let Response::DescribeTransactions(answer) = answer else {
                return Err(cluster.unexpected("DescribeTransactions"));
            };
            let found = answer.transaction_states.into_iter().next();
            let found = found.ok_or_else(|| cluster.unexpected("DescribeTransactions"))?;
            ClientError::check(|| format!("transactional id {id}"), found.error_code, None)?;
            let topics = found.topics.iter();
            let mut partitions: Vec<TopicPartition> = topics
                .flat_map(|topic| {
                    topic.partitions.iter().map(|partition| TopicPartition {
                        topic: topic.topic.to_string(),
                        partition: *partition,
                    })
                })
                .collect();
            partitions.sort();
            Ok(TransactionDetails {
                state: found.transaction_state.into(),
                producer_id: found.producer_id,
                producer_epoch: found.producer_epoch,
                timeout_ms: found.transaction_timeout_ms,
                started_ms: (found.transaction_start_time_ms >= 0)
                    .then_some(found.transaction_start_time_ms),
                partitions,
            })
        })
    }

    /// Aborts the open transaction of a transactional id and fences its producer, as that
    /// producer's restart would. `timeout_ms` is what the id is to have from now on.
    pub fn abort_transaction(&mut self, id: &str, timeout_ms: i32) -> Result<(), ClientError> {
        self.retry(|cluster| {
            let request = InitProducerIdRequest {
                transactional_id: Some(id.into()),
                transaction_timeout_ms: timeout_ms,
                ..Default::default()
            };
            let answer = cluster.call_coordinator(CoordinatorKind::Transaction, id, request)?;
            let Response::InitProducerId(answer) = answer else {
                return Err(cluster.unexpected("InitProducerId"));
            };
            ClientError::check(|| format!("aborting {id}"), answer.error_code, None)
        })
    }
}
