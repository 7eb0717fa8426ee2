//! Topics: create, extend, configure, delete, trim. Each change is one frame; its reply waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ottla_store::frame::{Frame, Item, StreamKind};
use ottla_store::{Lsn, Offset, Purpose, Refused, StreamId};

use super::Engine;
use super::groups::forget_topic;
use crate::catalog::{Catalog, CatalogFact, TopicImage};
use crate::fact::{Fact, encode};
use crate::topic::config::{self, ConfigError, Overrides};
use crate::topic::name::{self, NameError};
use crate::topic::{Partition, Topic, TopicId};

/// A topic to be made.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; `None` is the broker's default.
    pub partitions: Option<i32>,
    /// Settings other than the defaults.
    pub overrides: Overrides,
}

/// Why a topic was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// Kafka: `TOPIC_ALREADY_EXISTS` (36).
    #[error("Topic '{0}' already exists.")]
    Exists(String),
    /// Kafka: `INVALID_TOPIC_EXCEPTION` (17).
    #[error(transparent)]
    Name(#[from] NameError),
    /// Kafka: `INVALID_TOPIC_EXCEPTION` (17).
    #[error("Topic '{name}' collides with existing topic: {existing}")]
    Collides {
        /// The name as given.
        name: String,
        /// The topic that is there.
        existing: String,
    },
    /// Kafka: `INVALID_PARTITIONS` (37).
    #[error("{0}")]
    Partitions(String),
    /// Kafka: `INVALID_CONFIG` (40).
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log takes nothing now.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Why partitions were not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionsError {
    /// Kafka: `UNKNOWN_TOPIC_OR_PARTITION` (3).
    #[error("The topic '{0}' does not exist.")]
    UnknownTopic(String),
    /// Kafka: `INVALID_PARTITIONS` (37).
    #[error("{0}")]
    Count(String),
    /// The log takes nothing now.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Why settings were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigureError {
    /// Kafka: `UNKNOWN_TOPIC_OR_PARTITION` (3).
    #[error("The topic '{0}' does not exist.")]
    UnknownTopic(String),
    /// Kafka: `INVALID_CONFIG` (40).
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log takes nothing now.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Why records were not deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteRecordsError {
    /// Kafka: `UNKNOWN_TOPIC_OR_PARTITION` (3).
    #[error("the topic does not exist any more")]
    Gone,
    /// Above the high watermark. Kafka: `OFFSET_OUT_OF_RANGE` (1).
    #[error("the offset is above the high watermark")]
    OutOfRange,
    /// The log takes nothing now.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Engine {
    /// Makes a topic. The reply waits for the returned place.
    pub fn create_topic(&self, new: &NewTopic) -> Result<(Arc<Topic>, Lsn), CreateError> {
        let mut catalog = self.catalog_mut();
        let count = self.check_new(&catalog, new)?;
        let image = TopicImage {
            name: new.name.clone(),
            id: TopicId(self.chance().uuid()),
            overrides: new.overrides.clone(),
            streams: (0..count).map(|_| self.store.new_stream_id().0).collect(),
        };
        let creations = creations(&image.streams);
        let lsn = self.append_catalog(
            &mut catalog,
            Purpose::Grow,
            creations,
            CatalogFact::TopicCreated(image.clone()),
        )?;
        let topic = catalog.topic_by_id(image.id).map(Arc::clone);
        Ok((topic.ok_or(CreateError::Exists(image.name))?, lsn))
    }

    /// Whether a topic could be made, and with how many partitions; changes nothing.
    pub fn validate_topic(&self, new: &NewTopic) -> Result<i32, CreateError> {
        self.check_new(&self.catalog(), new)
    }

    fn check_new(&self, catalog: &Catalog, new: &NewTopic) -> Result<i32, CreateError> {
        name::check(&new.name)?;
        if catalog.topic(&new.name).is_some() {
            return Err(CreateError::Exists(new.name.clone()));
        }
        if let Some(existing) = catalog.collision(&new.name) {
            let (name, existing) = (new.name.clone(), existing.to_string());
            return Err(CreateError::Collides { name, existing });
        }
        for (name, value) in &new.overrides {
            config::check(name, value)?;
        }
        let count = new.partitions.unwrap_or(self.options.partitions);
        match count {
            ..=0 => Err(CreateError::Partitions(
                "Number of partitions was set to an invalid non-positive value.".to_owned(),
            )),
            1..=PARTITIONS_MAX => Ok(count),
            _ => Err(CreateError::Partitions(format!(
                "Number of partitions must be no more than {PARTITIONS_MAX}."
            ))),
        }
    }

    /// Adds partitions until there are `total`. The reply waits for the returned place.
    pub fn create_partitions(
        &self,
        name: &str,
        total: i32,
        validate_only: bool,
    ) -> Result<Lsn, PartitionsError> {
        let mut catalog = self.catalog_mut();
        let topic = catalog
            .topic(name)
            .cloned()
            .ok_or_else(|| PartitionsError::UnknownTopic(name.to_owned()))?;
        let current = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
        if total <= current || total > PARTITIONS_MAX {
            return Err(PartitionsError::Count(count_refused(name, current, total)));
        }
        if validate_only {
            return Ok(catalog.changed());
        }
        let streams: Vec<u64> = (current..total).map(|_| self.store.new_stream_id().0).collect();
        let creations = creations(&streams);
        let fact = CatalogFact::PartitionsAdded { id: topic.id(), streams };
        Ok(self.append_catalog(&mut catalog, Purpose::Grow, creations, fact)?)
    }

    /// Deletes a topic with all its records. The reply waits for the returned place.
    pub fn delete_topic(&self, id: TopicId) -> Result<Option<Lsn>, Refused> {
        let mut catalog = self.catalog_mut();
        let Some(topic) = catalog.topic_by_id(id).cloned() else { return Ok(None) };
        let partitions = topic.partitions();
        let mut ordered: Vec<&Arc<Partition>> = partitions.iter().collect();
        ordered.sort_by_key(|partition| partition.stream());
        let deletions =
            ordered.iter().map(|partition| Item::Delete { stream: partition.stream() }).collect();
        let groups = self.groups_on(&topic);
        let mut offsets: Vec<_> = groups.iter().map(|group| group.lock()).collect();
        let locked: Vec<_> = ordered.iter().map(|partition| partition.lock()).collect();
        let fact = CatalogFact::TopicDeleted { id };
        let lsn = self.append_catalog(&mut catalog, Purpose::Shrink, deletions, fact)?;
        forget_topic(&mut offsets, &topic, lsn);
        drop(locked); // closed by the catalogue before any other append could come between
        drop(offsets);
        drop(catalog); // the broker's locks come before it
        let streams: Vec<StreamId> = partitions.iter().map(|one| one.stream()).collect();
        self.broker.partitions_gone(&streams);
        Ok(Some(lsn))
    }

    /// Changes settings of a topic: `None` as a value means the default again. The reply waits for
    /// the returned place.
    pub fn configure_topic(
        &self,
        name: &str,
        change: impl FnOnce(&mut Overrides),
        validate_only: bool,
    ) -> Result<Lsn, ConfigureError> {
        let mut catalog = self.catalog_mut();
        let topic = catalog
            .topic(name)
            .cloned()
            .ok_or_else(|| ConfigureError::UnknownTopic(name.to_owned()))?;
        let mut overrides = topic.overrides().as_ref().clone();
        change(&mut overrides);
        for (name, value) in &overrides {
            config::check(name, value)?;
        }
        if validate_only || overrides == *topic.overrides() {
            return Ok(catalog.changed());
        }
        let fact = CatalogFact::TopicConfigured { id: topic.id(), overrides };
        Ok(self.append_catalog(&mut catalog, Purpose::Grow, Vec::new(), fact)?)
    }

    /// Changes settings of the broker, which the caller has checked.
    pub fn configure_broker(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Result<Lsn, Refused> {
        let mut catalog = self.catalog_mut();
        let mut overrides = catalog.broker().clone();
        change(&mut overrides);
        let fact = CatalogFact::BrokerConfigured { overrides };
        self.append_catalog(&mut catalog, Purpose::Grow, Vec::new(), fact)
    }

    /// Changes settings of a group, which the caller has checked; it need not exist.
    pub fn configure_group(
        &self,
        group: &str,
        change: impl FnOnce(&mut Overrides),
    ) -> Result<Lsn, Refused> {
        let mut catalog = self.catalog_mut();
        let mut overrides = catalog.group_settings(group).cloned().unwrap_or_default();
        change(&mut overrides);
        let fact = CatalogFact::GroupConfigured { group: group.to_owned(), overrides };
        self.append_catalog(&mut catalog, Purpose::Grow, Vec::new(), fact)
    }

    /// Changes settings of a subscription to client metrics, which the caller has checked; without
    /// any it is gone. At most `CLIENT_METRICS_MAX` exist.
    pub fn configure_client_metrics(
        &self,
        name: &str,
        change: impl FnOnce(&mut Overrides),
    ) -> Result<Lsn, Refused> {
        let mut catalog = self.catalog_mut();
        let known = catalog.client_metrics();
        let mut overrides = known.get(name).cloned().unwrap_or_default();
        if !known.contains_key(name) && known.len() >= CLIENT_METRICS_MAX {
            return Err(Refused::TooLarge);
        }
        change(&mut overrides);
        let fact = CatalogFact::ClientMetricsConfigured { name: name.to_owned(), overrides };
        self.append_catalog(&mut catalog, Purpose::Grow, Vec::new(), fact)
    }

    /// Deletes the records below `before` (`None`: all that are durable). Returns the new first
    /// offset; the reply waits for the returned place.
    pub fn delete_records(
        &self,
        partition: &Partition,
        before: Option<Offset>,
    ) -> Result<(Offset, Lsn), DeleteRecordsError> {
        let reservation = self.store.reserve(Purpose::Shrink, 1, 0)?;
        let mut state = partition.lock();
        if partition.is_closed() {
            return Err(DeleteRecordsError::Gone);
        }
        let extent = self.store.extent(partition.stream()).ok_or(DeleteRecordsError::Gone)?;
        let start = before.unwrap_or(extent.durable_end);
        if start > extent.durable_end || start < Offset::ZERO {
            return Err(DeleteRecordsError::OutOfRange);
        }
        if start <= extent.start {
            return Ok((extent.start, extent.changed));
        }
        let item = Item::Trim { stream: partition.stream(), start };
        let lsn = self.store.append(reservation, Frame::of(item)).lsn;
        state.applied = lsn;
        Ok((start, lsn))
    }

    /// Appends a change of the catalogue with the streams it makes or ends, and applies it.
    fn append_catalog(
        &self,
        catalog: &mut Catalog,
        purpose: Purpose,
        streams: Vec<Item>,
        fact: CatalogFact,
    ) -> Result<Lsn, Refused> {
        let payload = Bytes::from(encode(&Fact::Catalog(fact.clone())));
        let reservation = self.store.reserve(purpose, streams.len() + 1, payload.len())?;
        let mut frame = Frame::new();
        for item in streams {
            frame.push(item);
        }
        frame.push(Item::State { payload });
        let lsn = self.store.append(reservation, frame).lsn;
        catalog.apply(lsn, fact);
        Ok(lsn)
    }
}

fn creations(streams: &[u64]) -> Vec<Item> {
    let create =
        |stream: &u64| Item::Create { stream: StreamId(*stream), kind: StreamKind::Partition };
    streams.iter().map(create).collect()
}

/// Kafka's words for a count that does not grow the topic.
fn count_refused(name: &str, current: i32, total: i32) -> String {
    if total == current {
        return format!("Topic already has {current} partition(s).");
    }
    if total < current {
        return format!(
            "The topic {name} currently has {current} partition(s); {total} would not be an increase."
        );
    }
    format!("Number of partitions must be no more than {PARTITIONS_MAX}.")
}

/// Partitions of one topic.
const PARTITIONS_MAX: i32 = 100_000;

/// Subscriptions to client metrics that may exist.
const CLIENT_METRICS_MAX: usize = 1000;
