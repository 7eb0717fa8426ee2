//! The cluster behind a bootstrap address: which topics it has and who leads their partitions.

use std::collections::HashMap;
use std::time::Duration;

use ottla_kafka_proto::messages::metadata::{MetadataRequestTopic, MetadataResponseTopic};
use ottla_kafka_proto::messages::{MetadataRequest, MetadataResponse};
use ottla_kafka_proto::{Request, Response, Uuid};

use crate::{ClientError, Connection};

/// A cluster, with one connection to each broker that was needed so far.
#[derive(Debug)]
pub struct Cluster {
    bootstrap: Connection,
    brokers: HashMap<i32, Connection>,
    addresses: HashMap<i32, String>,
}

/// A topic as the cluster shows it.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its identity; all zeros where the broker does not say.
    pub id: Uuid,
    /// By partition number.
    pub partitions: Vec<Leader>,
}

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The partition.
    pub partition: i32,
    /// The broker's id; -1 is nobody.
    pub node: i32,
    /// How many replicas it has.
    pub replicas: usize,
}

impl Cluster {
    /// Connects to `bootstrap`, `host:port`.
    pub fn connect(bootstrap: &str) -> Result<Self, ClientError> {
        let bootstrap = Connection::open(bootstrap, CONNECT_TIMEOUT)?;
        Ok(Self { bootstrap, brokers: HashMap::new(), addresses: HashMap::new() })
    }

    /// Every topic, by name.
    pub fn topics(&mut self) -> Result<Vec<Topic>, ClientError> {
        let answer = self.metadata(None)?;
        let mut topics: Vec<Topic> = answer.topics.iter().map(shown).collect();
        topics.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(topics)
    }

    /// One topic. It is made if it does not exist, `create` says so and the broker allows it.
    pub fn topic(&mut self, name: &str, create: bool) -> Result<Topic, ClientError> {
        let mut wanted = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(name.into()),
                ..Default::default()
            }]),
            ..Default::default()
        };
        wanted.allow_auto_topic_creation = create;
        let answer = self.metadata(Some(wanted))?;
        let topic = answer.topics.first().cloned().unwrap_or_default();
        ClientError::check(|| format!("topic {name}"), topic.error_code, None)?;
        Ok(shown(&topic))
    }

    /// Asks any broker.
    pub fn call(&mut self, request: impl Into<Request>) -> Result<Response, ClientError> {
        self.bootstrap.call(request)
    }

    /// Asks the broker with this id, which an earlier answer named.
    pub fn call_node(
        &mut self,
        node: i32,
        request: impl Into<Request>,
    ) -> Result<Response, ClientError> {
        if let Some(connection) = self.brokers.get_mut(&node) {
            return connection.call(request);
        }
        let Some(address) = self.addresses.get(&node) else {
            return self.bootstrap.call(request); // metadata has not named it
        };
        let mut connection = Connection::open(address, CONNECT_TIMEOUT)?;
        let answer = connection.call(request);
        self.brokers.insert(node, connection);
        answer
    }

    fn metadata(
        &mut self,
        request: Option<MetadataRequest>,
    ) -> Result<MetadataResponse, ClientError> {
        let Response::Metadata(answer) = self.bootstrap.call(request.unwrap_or_default())? else {
            let address = self.bootstrap.address().to_owned();
            return Err(ClientError::NotServed { address, what: "Metadata".to_owned() });
        };
        for broker in &answer.brokers {
            let address = if broker.host.contains(':') {
                format!("[{}]:{}", broker.host, broker.port)
            } else {
                format!("{}:{}", broker.host, broker.port)
            };
            self.addresses.insert(broker.node_id, address);
        }
        Ok(answer)
    }
}

fn shown(topic: &MetadataResponseTopic) -> Topic {
    let mut partitions: Vec<Leader> = topic
        .partitions
        .iter()
        .map(|partition| Leader {
            partition: partition.partition_index,
            node: partition.leader_id,
            replicas: partition.replica_nodes.len(),
        })
        .collect();
    partitions.sort_by_key(|leader| leader.partition);
    let name = topic.name.as_ref().map(ToString::to_string).unwrap_or_default();
    Topic { name, id: topic.topic_id, partitions }
}

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
