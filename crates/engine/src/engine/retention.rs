//! Retention: records that are too old or too many go, and producers that were idle for long are
//! forgotten, a few partitions at each tick
//! (research/kafka.md 2.8, store.md rules 13 and 20).

use std::sync::{Arc, Mutex, PoisonError};

use ottla_store::frame::{Frame, Item};
use ottla_store::{Lsn, Purpose, Retain};

use super::Engine;
use crate::clock::{Monotonic, Now, Wall};
use crate::topic::{Partition, Topic};

/// Where retention stands.
#[derive(Debug, Default)]
pub(super) struct Retention {
    round: Mutex<Round>,
}

/// One walk over all partitions.
#[derive(Debug, Default)]
struct Round {
    /// Still to be looked at.
    left: Vec<(Arc<Topic>, Arc<Partition>)>,
    /// When the next walk begins.
    due: Monotonic,
    ages: AgeGuard,
}

/// Whether the wall clock may be believed where data is deleted by age (store.md rule 20).
#[derive(Debug, Default)]
struct AgeGuard {
    last: Option<Now>,
    paused_until: Option<Monotonic>,
}

impl AgeGuard {
    /// Takes note of the time. After a boot `newest` is the time of the newest record.
    fn allows(&mut self, now: Now, newest: impl FnOnce() -> Option<Wall>) -> bool {
        let gap_ms = match self.last {
            Some(last) => {
                let wall = now.wall.0.saturating_sub(last.wall.0);
                let monotonic = now.monotonic.since(last.monotonic);
                let jump = wall.saturating_sub(i64::try_from(monotonic).unwrap_or(i64::MAX));
                (jump > JUMP_MS_MAX).then_some(jump)
            }
            None => newest()
                .map(|newest| now.wall.0.saturating_sub(newest.0))
                .filter(|gap| *gap > ABSENCE_MS_MAX),
        };
        self.last = Some(now);
        if let Some(gap_ms) = gap_ms {
            tracing::warn!(
                gap_ms,
                pause_ms = PAUSE_MS,
                "the clock jumped forwards, or the broker was away for long: nothing is deleted by age for now"
            );
            self.paused_until = Some(now.monotonic.after(PAUSE_MS));
        }
        if self.paused_until.is_some_and(|until| now.monotonic >= until) {
            self.paused_until = None;
        }
        self.paused_until.is_none()
    }
}

impl Retention {
    /// Whether nothing may be deleted by age now.
    pub(super) fn pauses(&self) -> bool {
        let round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        round.ages.paused_until.is_some()
    }
}

impl Engine {
    /// Looks at the next few partitions and trims those that hold more than they should.
    pub(super) fn retain(&self, now: Now) {
        let mut round = self.retention.round.lock().unwrap_or_else(PoisonError::into_inner);
        let by_age = round.ages.allows(now, || self.newest_record());
        if round.left.is_empty() {
            if now.monotonic < round.due {
                return;
            }
            round.due = now.monotonic.after(INTERVAL_MS);
            round.left = self.retained();
        }
        let at = round.left.len().saturating_sub(TICK_PARTITIONS);
        let turn = round.left.split_off(at);
        drop(round);
        for (topic, partition) in turn {
            if by_age {
                let mut state = partition.lock();
                state.producers.expire(now.wall, self.options.producer_expiration_ms);
            }
            if !topic.config().delete {
                continue;
            }
            if self.retain_partition(&topic, &partition, now.wall, by_age).is_some() {
                tracing::debug!(topic = %topic.name(), partition = partition.id().0, "trimmed");
            }
        }
    }

    /// All partitions: any may have producers to forget, most have records to delete.
    fn retained(&self) -> Vec<(Arc<Topic>, Arc<Partition>)> {
        let catalog = self.catalog();
        let of = |topic: &Arc<Topic>| {
            let partitions = topic.partitions();
            partitions.iter().map(|one| (Arc::clone(topic), Arc::clone(one))).collect::<Vec<_>>()
        };
        catalog.topics().flat_map(of).collect()
    }

    fn newest_record(&self) -> Option<Wall> {
        let catalog = self.catalog();
        let partitions = catalog.topics().flat_map(|topic| topic.partitions().to_vec());
        partitions.filter_map(|one| self.store.newest_timestamp(one.stream())).max().map(Wall)
    }

    /// Trims one partition. What an open transaction may still refer to stays.
    fn retain_partition(
        &self,
        topic: &Topic,
        partition: &Partition,
        now: Wall,
        by_age: bool,
    ) -> Option<Lsn> {
        let config = topic.config();
        let newer_than_ms =
            config.retention_ms.filter(|_| by_age).map(|ms| now.0.saturating_sub(ms));
        let retain = Retain { newer_than_ms, bytes_max: config.retention_bytes };
        let cut = self.store.expired(partition.stream(), &retain)?;
        let reservation = self.store.reserve(Purpose::Shrink, 1, 0).ok()?; // next round, then
        let mut state = partition.lock();
        if partition.is_closed() || !topic.config().delete {
            return None;
        }
        let extent = self.store.extent(partition.stream())?;
        let start = cut.min(state.producers.last_stable(extent.durable_end));
        if start <= extent.start {
            return None;
        }
        let item = Item::Trim { stream: partition.stream(), start };
        let lsn = self.store.append(reservation, Frame::of(item)).lsn;
        state.producers.trim(start);
        state.applied = lsn;
        Some(lsn)
    }
}

/// Between the beginnings of two walks over all partitions; Kafka's
/// `log.retention.check.interval.ms` is ten times that.
const INTERVAL_MS: u64 = 30_000;
/// Partitions looked at in one tick.
const TICK_PARTITIONS: usize = 64;
/// How far the wall clock may run ahead of the monotonic one between two ticks.
const JUMP_MS_MAX: i64 = 60_000;
/// How old the newest record may be at a start.
const ABSENCE_MS_MAX: i64 = 24 * 60 * 60 * 1000;
/// How long deletion by age pauses: long enough to notice and to set the clock right.
const PAUSE_MS: u64 = 10 * 60 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(monotonic: u64, wall: i64) -> Now {
        Now { monotonic: Monotonic(monotonic), wall: Wall(wall) }
    }

    #[test]
    fn a_clock_that_jumps_forwards_pauses_deletion_by_age_for_ten_minutes() {
        let mut guard = AgeGuard::default();
        assert!(guard.allows(at(0, 1_000_000), || None));
        assert!(guard.allows(at(1000, 1_060_000), || None), "a minute is no jump");
        assert!(!guard.allows(at(1010, 9_000_000), || None));
        assert!(!guard.allows(at(1010 + PAUSE_MS - 1, 9_600_000), || None));
        assert!(guard.allows(at(1010 + PAUSE_MS, 9_600_001), || None));
        assert!(guard.allows(at(1020 + PAUSE_MS, 5), || None), "backwards nothing is early");
    }

    #[test]
    fn a_start_long_after_the_newest_record_pauses_as_well() {
        let mut guard = AgeGuard::default();
        let newest = Some(Wall(1_000));
        assert!(!guard.allows(at(5, 1_001 + ABSENCE_MS_MAX), || newest));
        let mut guard = AgeGuard::default();
        assert!(guard.allows(at(5, 1_000 + ABSENCE_MS_MAX), || newest));
    }
}
