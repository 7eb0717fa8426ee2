//! Now and then: offsets that were kept long enough, and groups of which nothing is left.

use std::sync::PoisonError;

use ottla_store::Purpose;

use super::{FACT_BYTES, Group, GroupCell};
use crate::clock::{Monotonic, Now};
use crate::engine::Engine;
use crate::group::GroupRecord;

/// Where the sweep is.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    next: Option<Monotonic>,
    /// Still to be looked at in this round.
    rest: Vec<std::sync::Weak<GroupCell>>,
}

impl Engine {
    /// A few groups of the round, or the beginning of one.
    pub(in crate::engine) fn sweep_groups(&self, now: Now) {
        let some = {
            let mut sweep = self.groups.sweep.lock().unwrap_or_else(PoisonError::into_inner);
            if sweep.rest.is_empty() {
                let next = *sweep.next.get_or_insert(now.monotonic.after(ROUND_MS));
                if now.monotonic < next {
                    return;
                }
                sweep.next = Some(now.monotonic.after(ROUND_MS));
                sweep.rest = self.groups.all().iter().map(std::sync::Arc::downgrade).collect();
            }
            let keep = sweep.rest.len().saturating_sub(GROUPS_A_TICK);
            sweep.rest.split_off(keep)
        };
        for cell in some.iter().filter_map(std::sync::Weak::upgrade) {
            let mut group = cell.lock();
            if !group.gone {
                self.sweep_group(&mut group, now);
            }
        }
    }

    fn sweep_group(&self, group: &mut Group, now: Now) {
        let offsets = group.machine.offsets().iter();
        let bytes: usize = offsets.map(|(topic, ..)| topic.len() + 16).sum::<usize>() + FACT_BYTES;
        let Ok(reservation) = self.store.reserve(Purpose::Shrink, 1, bytes) else { return };
        let records = group.machine.expire(self.options.offsets_retention_ms, now.wall);
        let deserted = records.last() == Some(&GroupRecord::Deleted);
        self.log_group(group, reservation, records);
        if deserted {
            self.groups.take_out(group);
        }
    }
}

/// Kafka's `offsets.retention.check.interval.ms`.
const ROUND_MS: u64 = 600_000;
/// Groups that one tick looks at.
const GROUPS_A_TICK: usize = 256;
