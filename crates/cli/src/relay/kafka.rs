//! Rows to a Kafka cluster, or to Ottla.

use std::collections::{BTreeMap, HashMap};

use ottla::{Error, Outgoing, cloudevents};
use ottla_client::messages::ProduceRequest;
use ottla_client::messages::produce::{PartitionProduceData, TopicProduceData};
use ottla_client::{ClientError, Cluster, Response, Topic, partition_of};

use crate::produce::{self, batch};

/// A cluster, connected to when the first row is published and again after an error.
#[derive(Debug)]
pub(super) struct Kafka {
    address: String,
    cluster: Option<Cluster>,
    topics: HashMap<String, Topic>,
    keyless: i32,
}

/// Records by the node that leads their partition, topic and partition.
type ByNode = BTreeMap<i32, BTreeMap<String, BTreeMap<i32, Vec<produce::Outgoing>>>>;

impl Kafka {
    pub(super) fn new(address: &str) -> Self {
        Self { address: address.to_owned(), cluster: None, topics: HashMap::new(), keyless: 0 }
    }

    /// Returns once every replica that must has them.
    pub(super) fn publish(&mut self, rows: &[Outgoing]) -> Result<(), Error> {
        self.try_publish(rows).map_err(|error| {
            self.cluster = None; // leaders may have moved
            self.topics.clear();
            self.judged(error)
        })
    }

    fn try_publish(&mut self, rows: &[Outgoing]) -> Result<(), ClientError> {
        let mut cluster = match self.cluster.take() {
            Some(cluster) => cluster,
            None => Cluster::connect(&self.address)?,
        };
        self.keyless = self.keyless.wrapping_add(1) & i32::MAX; // each batch elsewhere
        for (node, topics) in self.routed(&mut cluster, rows)? {
            let request = ProduceRequest {
                acks: -1,
                timeout_ms: 30_000,
                topic_data: topics
                    .into_iter()
                    .map(|(name, parts)| self.topic_data(&name, &parts))
                    .collect(),
                ..Default::default()
            };
            let Response::Produce(answer) = cluster.call_node(node, request)? else {
                let what = "Produce".to_owned();
                return Err(ClientError::NotServed { address: self.address.clone(), what });
            };
            for topic in &answer.responses {
                for part in &topic.partition_responses {
                    let what = || format!("writing to partition {}", part.index);
                    ClientError::check(what, part.error_code, part.error_message.as_deref())?;
                }
            }
        }
        self.cluster = Some(cluster);
        Ok(())
    }

    fn routed(&mut self, cluster: &mut Cluster, rows: &[Outgoing]) -> Result<ByNode, ClientError> {
        let mut by_node = ByNode::new();
        for row in rows {
            let name = row.to.name();
            if !self.topics.contains_key(name) {
                self.topics.insert(name.to_owned(), cluster.topic(name, true)?);
            }
            let partitions =
                self.topics.get(name).map(|topic| &*topic.partitions).unwrap_or_default();
            let count = i32::try_from(partitions.len()).unwrap_or(i32::MAX).max(1);
            let partition = match &row.envelope.key {
                Some(key) => partition_of(key.as_bytes(), count),
                None => self.keyless % count,
            };
            let leader = partitions.iter().find(|leader| leader.partition == partition);
            let node = leader.map_or(-1, |leader| leader.node);
            let topics = by_node.entry(node).or_default();
            topics
                .entry(name.to_owned())
                .or_default()
                .entry(partition)
                .or_default()
                .push(record(row));
        }
        Ok(by_node)
    }

    fn topic_data(
        &self,
        name: &str,
        parts: &BTreeMap<i32, Vec<produce::Outgoing>>,
    ) -> TopicProduceData {
        let data = |(index, records): (&i32, &Vec<produce::Outgoing>)| PartitionProduceData {
            index: *index,
            records: Some(batch(records)),
        };
        TopicProduceData {
            name: name.into(),
            topic_id: self.topics.get(name).map(|topic| topic.id).unwrap_or_default(),
            partition_data: parts.iter().map(data).collect(),
        }
    }

    /// What will be refused again is said so; everything else may be over soon.
    fn judged(&self, error: ClientError) -> Error {
        match error {
            ClientError::Refused { code, .. } if NEVER.contains(&code.0) => {
                Error::Refused { doing: "publishing".to_owned(), why: error.to_string() }
            }
            error => Error::Unreachable {
                address: self.address.clone(),
                hint: "rows stay in the table until it answers".to_owned(),
                source: Box::new(error),
            },
        }
    }
}

/// CloudEvents in binary mode, as the toolkit's own Kafka transport writes them.
fn record(row: &Outgoing) -> produce::Outgoing {
    let envelope = &row.envelope;
    let mut headers =
        vec![("content-type".to_owned(), Some(envelope.content_type.as_bytes().to_vec()))];
    cloudevents::binary(envelope, cloudevents::KAFKA, |name, value| {
        headers.push((name.to_owned(), Some(value.as_bytes().to_vec())));
    });
    produce::Outgoing {
        partition: None,
        key: envelope.key.as_ref().map(|key| key.clone().into_bytes()),
        value: Some(envelope.body.to_vec()),
        headers,
    }
}

/// MESSAGE_TOO_LARGE, INVALID_TOPIC_EXCEPTION, RECORD_LIST_TOO_LARGE, INVALID_RECORD.
const NEVER: [i16; 4] = [10, 17, 18, 87];
