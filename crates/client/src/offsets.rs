//! Offsets by time, asked of the brokers that lead the partitions.

use std::collections::BTreeMap;

use ottla_kafka_proto::messages::ListOffsetsRequest;
use ottla_kafka_proto::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_kafka_proto::{ErrorCode, Response};

use crate::cluster::TopicPartition;
use crate::{ClientError, Cluster};

/// An offset in each of some partitions.
pub type Positions = BTreeMap<TopicPartition, i64>;

/// Partitions by the broker that leads them, then by topic.
type Led<'a> = BTreeMap<i32, BTreeMap<&'a str, Vec<i32>>>;

impl Cluster {
    /// The offset at a time in each of these partitions. `at` is milliseconds since 1970,
    /// [`EARLIEST`] or [`LATEST`]; the answer is -1 where no record is that young.
    ///
    /// # Errors
    /// As any call; also for the first partition that does not exist.
    pub fn offsets_at(
        &mut self,
        places: &[TopicPartition],
        at: i64,
    ) -> Result<Positions, ClientError> {
        let mut offsets = Positions::new();
        for (node, topics) in self.led(places)? {
            let topics = topics.into_iter().map(|(name, partitions)| ListOffsetsTopic {
                name: name.into(),
                partitions: partitions
                    .into_iter()
                    .map(|partition_index| ListOffsetsPartition {
                        partition_index,
                        timestamp: at,
                        ..Default::default()
                    })
                    .collect(),
            });
            let topics = topics.collect();
            let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
            let Response::ListOffsets(answer) = self.call_node(node, request)? else {
                return Err(self.unexpected("ListOffsets"));
            };
            for topic in answer.topics {
                for found in topic.partitions {
                    let topic = topic.name.to_string();
                    let place = TopicPartition { topic, partition: found.partition_index };
                    ClientError::check(|| format!("offsets of {place}"), found.error_code, None)?;
                    offsets.insert(place, found.offset);
                }
            }
        }
        Ok(offsets)
    }

    fn led<'a>(&mut self, places: &'a [TopicPartition]) -> Result<Led<'a>, ClientError> {
        let mut topics = BTreeMap::new();
        let mut led = Led::new();
        for place in places {
            let name = place.topic.as_str();
            if !topics.contains_key(name) {
                topics.insert(name, self.topic(name, false)?);
            }
            let known = topics.get(name).into_iter().flat_map(|topic| &topic.partitions);
            let leader = known.into_iter().find(|leader| leader.partition == place.partition);
            let code = leader.map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |_| ErrorCode::NONE);
            ClientError::check(|| format!("partition {place}"), code, None)?;
            let node = leader.map_or(-1, |leader| leader.node);
            led.entry(node).or_default().entry(name).or_default().push(place.partition);
        }
        Ok(led)
    }
}

/// As a time in [`Cluster::offsets_at`]: the end of the partition.
pub const LATEST: i64 = -1;
/// As a time in [`Cluster::offsets_at`]: the first record that is still there.
pub const EARLIEST: i64 = -2;
