//! The cluster behind a bootstrap address: which topics it has and who leads their partitions.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use ottla_kafka_proto::messages::metadata::{MetadataRequestTopic, MetadataResponseTopic};
use ottla_kafka_proto::messages::{FindCoordinatorRequest, MetadataRequest, MetadataResponse};
use ottla_kafka_proto::{ErrorCode, Request, Response, Uuid};

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

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// What a coordinator coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoordinatorKind {
    /// A group, by its name.
    Group = 0,
    /// A transactional id.
    Transaction = 1,
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

    /// Asks every broker the same.
    pub fn call_every<R: Into<Request>>(
        &mut self,
        request: impl Fn() -> R,
    ) -> Result<Vec<Response>, ClientError> {
        // an empty list of topics is none; no list would be all
        self.metadata(Some(MetadataRequest { topics: Some(Vec::new()), ..Default::default() }))?;
        let mut nodes: Vec<i32> = self.addresses.keys().copied().collect();
        nodes.sort_unstable();
        nodes.into_iter().map(|node| self.call_node(node, request())).collect()
    }

    /// Asks the broker that coordinates `key`.
    pub fn call_coordinator(
        &mut self,
        kind: CoordinatorKind,
        key: &str,
        request: impl Into<Request>,
    ) -> Result<Response, ClientError> {
        let asked = FindCoordinatorRequest {
            key: key.into(),
            key_type: kind as i8,
            coordinator_keys: vec![key.into()],
        };
        let Response::FindCoordinator(found) = self.call(asked)? else {
            return Err(self.unexpected("FindCoordinator"));
        };
        let what = || format!("the coordinator of {key}");
        ClientError::check(what, found.error_code, found.error_message.as_deref())?;
        let node = match found.coordinators.first() {
            Some(one) => {
                ClientError::check(what, one.error_code, one.error_message.as_deref())?;
                self.addresses.insert(one.node_id, address(&one.host, one.port));
                one.node_id
            }
            None => {
                self.addresses.insert(found.node_id, address(&found.host, found.port));
                found.node_id
            }
        };
        self.call_node(node, request)
    }

    /// Repeats what failed because a coordinator is not ready or busy with another's change, for
    /// half a minute at most.
    pub fn retry<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        for _ in 1..RETRIES_MAX {
            match attempt(self) {
                Err(ClientError::Refused { code, .. }) if is_passing(code) => {
                    std::thread::park_timeout(RETRY_PAUSE);
                }
                outcome => return outcome,
            }
        }
        attempt(self)
    }

    /// The error for an answer that is not the one to the question.
    pub(crate) fn unexpected(&self, what: &str) -> ClientError {
        let address = self.bootstrap.address().to_owned();
        ClientError::NotServed { address, what: what.to_owned() }
    }

    fn metadata(
        &mut self,
        request: Option<MetadataRequest>,
    ) -> Result<MetadataResponse, ClientError> {
        let Response::Metadata(answer) = self.bootstrap.call(request.unwrap_or_default())? else {
            return Err(self.unexpected("Metadata"));
        };
        for broker in &answer.brokers {
            self.addresses.insert(broker.node_id, address(&broker.host, broker.port));
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

fn address(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Whether the same request may succeed a little later.
fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::NOT_COORDINATOR
            | ErrorCode::CONCURRENT_TRANSACTIONS
    )
}

/// How often [`Cluster::retry`] tries.
const RETRIES_MAX: usize = 150;
/// How long it waits in between.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
