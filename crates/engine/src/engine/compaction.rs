//! Compaction: which partitions, when, and what must stay (research/kafka.md 2.8). Runs in the keeper
//! role, which goes on retiring between the pieces.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use ottla_store::batch::BatchHeader;
use ottla_store::{CompactTask, Compaction, Fatal, ReadError};

use super::{Engine, KEEPER_REST};
use crate::clock::{Monotonic, Wall};
use crate::topic::{Partition, Topic};
use crate::txn::producers::Aborted;

/// Where compaction stands in its walk over all partitions.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    round: Mutex<Round>,
}

#[derive(Debug, Default)]
struct Round {
    /// Still to be looked at.
    left: Vec<(Arc<Topic>, Arc<Partition>)>,
    /// When the next walk begins.
    due: Monotonic,
}

impl Engine {
    /// Looks at the next partition that may want compaction, and compacts it if it is worth it.
    /// `Ok(false)`: none is left for now. The keeper role calls it when it has nothing else to do.
    pub fn compact_next(&self) -> Result<bool, Fatal> {
        let now = self.now();
        let mut round = self.cleaner.round.lock().unwrap_or_else(PoisonError::into_inner);
        if round.left.is_empty() && now.monotonic >= round.due {
            round.due = now.monotonic.after(INTERVAL_MS);
            round.left = self.compacted();
        }
        let turn = round.left.pop();
        drop(round);
        let Some((topic, partition)) = turn else { return Ok(false) };
        if partition.is_closed() || self.retention.pauses() {
            return Ok(true);
        }
        let fatal = RefCell::new(None);
        let done = self.compact_partition(&topic, &partition, now.wall, &|| {
            self.keep_between().map_err(|error| fatal.replace(Some(error))).unwrap_or(false)
        });
        if let Some(error) = fatal.into_inner() {
            return Err(error);
        }
        let (name, number) = (topic.name(), partition.id().0);
        match done {
            Ok(None) => {}
            Ok(Some(done)) => tracing::info!(topic = %name, partition = number, ?done, "compacted"),
            Err(error) => {
                tracing::error!(topic = %name, partition = number, %error, "cannot be compacted");
            }
        }
        Ok(true)
    }

    /// All partitions of compacted topics.
    fn compacted(&self) -> Vec<(Arc<Topic>, Arc<Partition>)> {
        let catalog = self.catalog();
        let compacted = catalog.topics().filter(|topic| topic.config().compact);
        let of = |topic: &Arc<Topic>| {
            let partitions = topic.partitions();
            partitions.iter().map(|one| (Arc::clone(topic), Arc::clone(one))).collect::<Vec<_>>()
        };
        compacted.flat_map(of).collect()
    }

    /// The keeper's other work does not wait for a long compaction, nor do commits for the disk.
    fn keep_between(&self) -> Result<bool, Fatal> {
        while self.store.keep(self)? {
            if self.stopping.load(Ordering::Acquire) {
                break;
            }
        }
        std::thread::park_timeout(KEEPER_REST);
        Ok(!self.stopping.load(Ordering::Acquire))
    }

    fn compact_partition(
        &self,
        topic: &Topic,
        partition: &Partition,
        now: Wall,
        between: &dyn Fn() -> bool,
    ) -> Result<Option<Compaction>, ReadError> {
        let config = topic.config();
        let stream = partition.stream();
        let extent = self.store.extent(stream).ok_or(ReadError::UnknownStream(stream))?;
        let state = partition.lock();
        let below = state.producers.last_stable(extent.durable_end);
        let aborted = AbortedRanges::of(state.producers.aborted(extent.start, below));
        drop(state);
        let lag = config.compaction_lag_min_ms;
        self.store.compact(
            stream,
            &CompactTask {
                below,
                older_than_ms: (lag > 0).then(|| now.0.saturating_sub(lag)),
                dirty_percent_min: config.dirty_percent_min,
                now_ms: now.0,
                delete_retention_ms: config.delete_retention_ms,
                aborted: &|header| aborted.contain(header),
                map_bytes_max: MAP_BYTES_MAX,
                between,
            },
        )
    }
}

/// Which offsets of which producer were aborted.
#[derive(Debug)]
struct AbortedRanges(HashMap<i64, Vec<(i64, i64)>>);

impl AbortedRanges {
    fn of<'a>(aborted: impl Iterator<Item = &'a Aborted>) -> Self {
        let mut ranges: HashMap<i64, Vec<(i64, i64)>> = HashMap::new();
        for one in aborted {
            ranges.entry(one.producer.0).or_default().push((one.first, one.last));
        }
        Self(ranges)
    }

    fn contain(&self, header: &BatchHeader) -> bool {
        let base = header.base_offset.0;
        header.is_transactional()
            && self.0.get(&header.producer_id).is_some_and(|ranges| {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&base))
            })
    }
}

/// Between the beginnings of two walks; Kafka's `log.cleaner.backoff.ms`.
const INTERVAL_MS: u64 = 15_000;
/// Memory for the map of keys; Kafka's `log.cleaner.dedupe.buffer.size` is eight times that.
const MAP_BYTES_MAX: usize = 16 << 20;
