//! Topics and their partitions: what a partition accepts, in which order, and who waits for it.

pub mod config;
pub mod name;
mod partition;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use ottla_store::StreamId;
use serde::{Deserialize, Serialize};

use self::config::{Bounds, Overrides, TopicConfig};
pub use self::partition::{
    Fetched, Isolation, Partition, PartitionImage, PartitionState, ProduceError, Produced,
};

/// The identity of a topic: a recreated topic has another one (KIP-516).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TopicId(pub [u8; 16]);

/// Which partition of its topic: dense from 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct PartitionId(pub i32);

/// A topic as everybody shares it. Its name and id never change; a deleted topic's handle goes on to
/// exist, but its partitions refuse everything.
#[derive(Debug)]
pub struct Topic {
    name: Arc<str>,
    id: TopicId,
    shape: RwLock<Shape>,
}

#[derive(Clone, Debug)]
struct Shape {
    overrides: Arc<Overrides>,
    config: Arc<TopicConfig>,
    bounds: Bounds,
    partitions: Arc<[Arc<Partition>]>,
}

impl Topic {
    /// A topic over partitions that exist.
    #[must_use]
    pub fn new(name: &str, id: TopicId, overrides: Overrides, streams: &[StreamId]) -> Self {
        let name: Arc<str> = Arc::from(name);
        let partitions = (0..).zip(streams).map(|(index, stream)| {
            Arc::new(Partition::new(Arc::clone(&name), id, PartitionId(index), *stream))
        });
        let shape = Shape {
            config: Arc::new(TopicConfig::of(&overrides)),
            overrides: Arc::new(overrides),
            bounds: Bounds::default(),
            partitions: partitions.collect(),
        };
        Self { name, id, shape: RwLock::new(shape) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its identity.
    #[must_use]
    pub const fn id(&self) -> TopicId {
        self.id
    }

    /// What was set explicitly.
    #[must_use]
    pub fn overrides(&self) -> Arc<Overrides> {
        Arc::clone(&self.shape().overrides)
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.shape().config)
    }

    /// Its partitions, by number.
    #[must_use]
    pub fn partitions(&self) -> Arc<[Arc<Partition>]> {
        Arc::clone(&self.shape().partitions)
    }

    /// One partition.
    #[must_use]
    pub fn partition(&self, id: PartitionId) -> Option<Arc<Partition>> {
        let index = usize::try_from(id.0).ok()?;
        self.shape().partitions.get(index).cloned()
    }

    /// Replaces what was set explicitly. The catalogue calls it once the fact has its place.
    pub(crate) fn configure(&self, overrides: Overrides) {
        let mut shape = self.shape.write().unwrap_or_else(PoisonError::into_inner);
        shape.config = Arc::new(TopicConfig::of(&overrides).within(&shape.bounds));
        shape.overrides = Arc::new(overrides);
    }

    /// Bounds the settings from outside, in place of the bounds before. They are not remembered: who knows
    /// them says them again after a start.
    pub(crate) fn bound(&self, bounds: Bounds) {
        let mut shape = self.shape.write().unwrap_or_else(PoisonError::into_inner);
        if shape.bounds != bounds {
            shape.config = Arc::new(TopicConfig::of(&shape.overrides).within(&bounds));
            shape.bounds = bounds;
        }
    }

    /// Adds partitions behind the last. The catalogue calls it once the fact has its place.
    pub(crate) fn extend(&self, streams: &[StreamId]) {
        let mut shape = self.shape.write().unwrap_or_else(PoisonError::into_inner);
        let first = i32::try_from(shape.partitions.len()).unwrap_or(i32::MAX);
        let added = (first..).zip(streams).map(|(index, stream)| {
            Arc::new(Partition::new(Arc::clone(&self.name), self.id, PartitionId(index), *stream))
        });
        let partitions = shape.partitions.iter().cloned().chain(added);
        shape.partitions = partitions.collect();
    }

    fn shape(&self) -> std::sync::RwLockReadGuard<'_, Shape> {
        self.shape.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::chance::base64_id(self.0))
    }
}
