//! What a group has not settled, without joining it: a member that comes and goes would have its partitions
//! divided anew each time, and wait for that.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::{ANSWER_MAX, config, patiently, wire};
use crate::envelope::Envelope;

/// A topic, and who reads it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) brokers: String,
    pub(super) topic: String,
    pub(super) group: String,
}

/// A part of a partition: from the first offset to below the second.
type Span = (i64, i64);

impl Place {
    fn consumer(&self) -> Result<BaseConsumer, KafkaError> {
        let mut config = config(&self.brokers);
        config.set("group.id", &self.group).set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "true").set("fetch.wait.max.ms", "100");
        config.create()
    }

    /// What of each partition the group has not settled; nothing of a topic that is not there.
    fn unsettled(&self, consumer: &BaseConsumer) -> Result<BTreeMap<i32, Span>, KafkaError> {
        let metadata = consumer.fetch_metadata(Some(&self.topic), ANSWER_MAX)?;
        let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        let mut asked = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions).unwrap_or(0) {
            asked.add_partition(&self.topic, partition);
        }
        let mut spans = BTreeMap::new();
        if asked.count() == 0 {
            return Ok(spans);
        }
        for committed in consumer.committed_offsets(asked, ANSWER_MAX)?.elements() {
            let partition = committed.partition();
            let bounds = || consumer.fetch_watermarks(&self.topic, partition, ANSWER_MAX);
            let (low, high) = patiently(bounds)?;
            let position = match committed.offset() {
                Offset::Offset(offset) => offset.max(low),
                _ => low,
            };
            if position < high {
                spans.insert(partition, (position, high));
            }
        }
        Ok(spans)
    }
}

/// Records behind what the group has committed.
pub(super) fn depth(place: &Place) -> Result<u64, KafkaError> {
    let spans = place.unsettled(&place.consumer()?)?;
    Ok(spans.values().map(|(from, to)| to.abs_diff(*from)).sum())
}

/// The first of them, at most `max`.
pub(super) fn look(place: &Place, max: usize) -> Result<Vec<Envelope>, KafkaError> {
    let consumer = place.consumer()?;
    let mut left = place.unsettled(&consumer)?;
    let mut assigned = TopicPartitionList::new();
    for (partition, (from, _)) in &left {
        assigned.add_partition_offset(&place.topic, *partition, Offset::Offset(*from))?;
    }
    let mut found = Vec::new();
    if assigned.count() == 0 {
        return Ok(found);
    }
    consumer.assign(&assigned)?;
    let mut patience = Instant::now() + ANSWER_MAX;
    while !left.is_empty() && found.len() < max {
        match consumer.poll(POLL) {
            Some(Ok(record)) => {
                patience = Instant::now() + ANSWER_MAX;
                let Some((_, end)) = left.get(&record.partition()) else { continue };
                if record.offset() < *end {
                    found.push(wire::envelope(&record).0);
                }
                if record.offset() + 1 >= *end {
                    left.remove(&record.partition());
                }
            }
            // Behind the last record there may be marks of transactions, which are no messages.
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(left.remove(&partition)),
            Some(Err(error)) => tracing::debug!(%error, "librdkafka says"), // it tries again by itself
            None => {}
        }
        if Instant::now() > patience {
            // Some of them would pass for all of them.
            return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut));
        }
    }
    Ok(found)
}

const POLL: Duration = Duration::from_millis(100);
