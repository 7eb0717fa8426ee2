//! What exists for Kafka's clients: the cluster, its topics, their settings. A replay of its facts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ottla_store::{Lsn, StreamId};
use serde::{Deserialize, Serialize};

use crate::topic::config::Overrides;
use crate::topic::name::collision_key;
use crate::topic::{Partition, Topic, TopicId};

/// A change of the catalogue, as it stands in the log. Append-only: variants are added at the end,
/// none is ever changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatalogFact {
    /// The first fact of a data directory: the identity that clients see.
    Cluster {
        /// A random UUID.
        id: [u8; 16],
    },
    /// A topic exists.
    TopicCreated(TopicImage),
    /// A topic is gone, with its partitions.
    TopicDeleted {
        /// Which.
        id: TopicId,
    },
    /// Partitions were added behind the last.
    PartitionsAdded {
        /// To which topic.
        id: TopicId,
        /// Their streams.
        streams: Vec<u64>,
    },
    /// All explicit settings of a topic from here on.
    TopicConfigured {
        /// Which.
        id: TopicId,
        /// By name.
        overrides: Overrides,
    },
    /// All explicit settings of the broker from here on.
    BrokerConfigured {
        /// By name.
        overrides: Overrides,
    },
    /// All explicit settings of a group from here on, whether it exists or not.
    GroupConfigured {
        /// Which.
        group: String,
        /// By name.
        overrides: Overrides,
    },
    /// All settings of a subscription to client metrics (KIP-714) from here on; none: it is gone.
    ClientMetricsConfigured {
        /// Which.
        name: String,
        /// By name.
        overrides: Overrides,
    },
}

/// A topic in a fact or a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicImage {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub id: TopicId,
    /// What was set explicitly.
    pub overrides: Overrides,
    /// The stream of each partition.
    pub streams: Vec<u64>,
}

/// The catalogue in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogImage {
    /// See [`CatalogFact::Cluster`].
    pub cluster: [u8; 16],
    /// By name.
    pub topics: Vec<TopicImage>,
    /// See [`CatalogFact::BrokerConfigured`].
    pub broker: Overrides,
    /// See [`CatalogFact::GroupConfigured`].
    pub groups: BTreeMap<String, Overrides>,
    /// See [`CatalogFact::ClientMetricsConfigured`].
    pub client_metrics: BTreeMap<String, Overrides>,
}

/// What exists.
#[derive(Debug, Default)]
pub struct Catalog {
    cluster: [u8; 16],
    topics: BTreeMap<Arc<str>, Arc<Topic>>,
    ids: HashMap<TopicId, Arc<Topic>>,
    collisions: HashMap<String, Arc<str>>,
    streams: HashMap<StreamId, Arc<Partition>>,
    broker: Overrides,
    groups: BTreeMap<String, Overrides>,
    client_metrics: BTreeMap<String, Overrides>,
    changed: Lsn,
}

impl Catalog {
    /// The catalogue of a snapshot.
    #[must_use]
    pub fn restore(image: CatalogImage, changed: Lsn) -> Self {
        let mut catalog = Self {
            cluster: image.cluster,
            broker: image.broker,
            groups: image.groups,
            client_metrics: image.client_metrics,
            changed,
            ..Self::default()
        };
        for topic in image.topics {
            catalog.add(topic);
        }
        catalog
    }

    /// The catalogue for a snapshot.
    #[must_use]
    pub fn image(&self) -> CatalogImage {
        let topics = self.topics.values().map(|topic| TopicImage {
            name: topic.name().to_string(),
            id: topic.id(),
            overrides: topic.overrides().as_ref().clone(),
            streams: topic.partitions().iter().map(|partition| partition.stream().0).collect(),
        });
        CatalogImage {
            cluster: self.cluster,
            topics: topics.collect(),
            broker: self.broker.clone(),
            groups: self.groups.clone(),
            client_metrics: self.client_metrics.clone(),
        }
    }

    /// Applies a fact that has its place in the log; a fact the catalogue already contains is skipped.
    pub fn apply(&mut self, lsn: Lsn, fact: CatalogFact) {
        if lsn <= self.changed {
            return;
        }
        self.changed = lsn;
        match fact {
            CatalogFact::Cluster { id } => self.cluster = id,
            CatalogFact::TopicCreated(image) => self.add(image),
            CatalogFact::TopicDeleted { id } => self.remove(id),
            CatalogFact::PartitionsAdded { id, streams } => {
                if let Some(topic) = self.ids.get(&id).cloned() {
                    topic.extend(&streams.into_iter().map(StreamId).collect::<Vec<_>>());
                    self.index_streams(&topic);
                }
            }
            CatalogFact::TopicConfigured { id, overrides } => {
                if let Some(topic) = self.ids.get(&id) {
                    topic.configure(overrides);
                }
            }
            CatalogFact::BrokerConfigured { overrides } => self.broker = overrides,
            CatalogFact::GroupConfigured { group, overrides } if overrides.is_empty() => {
                self.groups.remove(&group);
            }
            CatalogFact::GroupConfigured { group, overrides } => {
                self.groups.insert(group, overrides);
            }
            CatalogFact::ClientMetricsConfigured { name, overrides } if overrides.is_empty() => {
                self.client_metrics.remove(&name);
            }
            CatalogFact::ClientMetricsConfigured { name, overrides } => {
                self.client_metrics.insert(name, overrides);
            }
        }
    }

    /// The identity that clients see; all zeros before the first fact.
    #[must_use]
    pub const fn cluster(&self) -> [u8; 16] {
        self.cluster
    }

    /// The place of the newest change.
    #[must_use]
    pub const fn changed(&self) -> Lsn {
        self.changed
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// A topic by name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// A topic by identity.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.ids.get(&id)
    }

    /// The partition that a stream is.
    #[must_use]
    pub fn partition(&self, stream: StreamId) -> Option<&Arc<Partition>> {
        self.streams.get(&stream)
    }

    /// The topic whose name cannot be told from `name` where `.` and `_` are the same.
    #[must_use]
    pub fn collision(&self, name: &str) -> Option<&Arc<str>> {
        self.collisions.get(&collision_key(name)).filter(|known| known.as_ref() != name)
    }

    /// What was set explicitly on the broker.
    #[must_use]
    pub const fn broker(&self) -> &Overrides {
        &self.broker
    }

    /// What was set explicitly of a group.
    #[must_use]
    pub fn group_settings(&self, group: &str) -> Option<&Overrides> {
        self.groups.get(group)
    }

    /// The groups of which something was set explicitly, by name.
    pub fn configured_groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// Every subscription to client metrics, by name.
    #[must_use]
    pub const fn client_metrics(&self) -> &BTreeMap<String, Overrides> {
        &self.client_metrics
    }

    fn add(&mut self, image: TopicImage) {
        let streams: Vec<StreamId> = image.streams.into_iter().map(StreamId).collect();
        let topic = Arc::new(Topic::new(&image.name, image.id, image.overrides, &streams));
        self.index_streams(&topic);
        self.collisions.insert(collision_key(&image.name), Arc::clone(topic.name()));
        self.ids.insert(topic.id(), Arc::clone(&topic));
        self.topics.insert(Arc::clone(topic.name()), topic);
    }

    fn remove(&mut self, id: TopicId) {
        let Some(topic) = self.ids.remove(&id) else { return };
        self.topics.remove(topic.name());
        self.collisions.remove(&collision_key(topic.name()));
        for partition in topic.partitions().iter() {
            self.streams.remove(&partition.stream());
            partition.close();
        }
    }

    fn index_streams(&mut self, topic: &Topic) {
        for partition in topic.partitions().iter() {
            self.streams.insert(partition.stream(), Arc::clone(partition));
        }
    }
}
