//! Share groups (KIP-932): members that share partitions record by record. A pure machine.
//!
//! # Why this is not `queue::Machine`
//!
//! design.md wanted one queue machine for AMQP queues and share groups. The states are the same
//! (available, acquired, settled, counted, dead); five rules at the border are not, and each of them
//! sits in the middle of the queue machine:
//!
//! 1. **Names.** A queue names messages one by one by their place in the log; a share group names ranges
//!    of offsets, of which some hold no record. A batch of 10,000 records is one run here and would be
//!    10,000 entries of 32 bytes there.
//! 2. **Refusal.** A settle that names what the channel does not hold is ignored there (AMQP); here all
//!    acknowledgements of a partition are judged first and carried out together, or not at all (121).
//! 3. **Counting.** There a return counts; here a delivery counts, except one that was given back because
//!    the session ended.
//! 4. **Time.** There a consumer that is too slow loses its channel; here each record has its own lock,
//!    which can be renewed, and only the record goes back.
//! 5. **What is ready.** A queue is pushed what became visible and keeps it in memory; a share group
//!    pulls from the partition at the first free offset and remembers only what differs from "new".
//!
//! What is shared: the clocks, the members' timers, the groups' records, effects and snapshot, and the
//! aim. What is remembered ([`Window`]) is the fold of the logged changes; who holds what (the locks) is
//! not logged, because a lost broker gives everything back anyway (KIP-932: an acquisition is not
//! persisted).

mod api;
mod members;
mod partition;
mod record;
mod window;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use api::{
    AckBatch, AckError, AckType, Acquired, Cause, Death, Lag, ShareBeat, ShareBeatError,
    ShareBeaten, ShareSettings, ShareState, Span, Take, check_batches,
};
pub use record::{RememberedShares, ShareMember, ShareRecord, ShareSubscription};
pub use window::{Change, Fate, Window};

use self::partition::{Rules, SharePartition, settle};
use super::consumer::Topics;
use super::consumer::timers::Timers;
use crate::clock::{Monotonic, Now};
use crate::group::assignor::{Part, TopicId};
use crate::group::ids::MemberId;

/// A share group.
///
/// Invariants: `remembered` is the fold of every record returned; each member has a session; each
/// window has a live partition; a record is held by at most one member.
#[derive(Debug)]
pub struct ShareGroup {
    settings: ShareSettings,
    remembered: RememberedShares,
    partitions: BTreeMap<Part, SharePartition>,
    sessions: Timers,
    /// No lock ends before this.
    locks_due: Option<Monotonic>,
    /// The state of the topics that the target was made from.
    seen: Option<u64>,
}

impl ShareGroup {
    /// A group that nobody has joined.
    #[must_use]
    pub fn new(settings: ShareSettings) -> Self {
        Self::restore(settings, RememberedShares::default(), Now::default())
    }

    /// The group after a restart: nothing is held, every session starts anew.
    #[must_use]
    pub fn restore(settings: ShareSettings, remembered: RememberedShares, now: Now) -> Self {
        let mut sessions = Timers::default();
        for id in remembered.members.keys() {
            sessions.set(id, now.monotonic.after(settings.session_timeout_ms.into()));
        }
        let live = |(part, window): (&Part, &Window)| (*part, SharePartition::new(window));
        let partitions = remembered.windows.iter().map(live).collect();
        Self { settings, remembered, partitions, sessions, locks_due: None, seen: None }
    }

    /// Follows other settings from here on; locks keep the time they were given.
    pub fn configure(&mut self, settings: ShareSettings) {
        self.settings = settings;
    }

    /// The settings in force.
    #[must_use]
    pub const fn settings(&self) -> &ShareSettings {
        &self.settings
    }

    /// ShareGroupHeartbeat. The answer waits for the records, which are applied already.
    pub fn heartbeat(
        &mut self,
        beat: &ShareBeat,
        topics: &dyn Topics,
        now: Now,
    ) -> (Result<ShareBeaten, ShareBeatError>, Vec<ShareRecord>) {
        let mut records = Vec::new();
        let answer = match self.check(beat) {
            Err(error) => Err(error),
            Ok(()) if beat.epoch < 0 => self.leave(&beat.member, &mut records),
            Ok(()) => self.beat(beat, topics, &mut records),
        };
        if answer.is_ok() && beat.epoch >= 0 {
            let session = self.settings.session_timeout_ms;
            self.sessions.set(&beat.member, now.monotonic.after(session.into()));
        }
        (answer, records)
    }

    /// The earliest time at which [`tick`](Self::tick) has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Monotonic> {
        self.sessions.first().into_iter().chain(self.locks_due).min()
    }

    /// Removes silent members and returns records that were held too long.
    pub fn tick(&mut self, now: Now) -> Vec<ShareRecord> {
        let mut records = Vec::new();
        let silent = self.sessions.due(now.monotonic);
        self.remove(silent, &mut records);
        if self.locks_due.is_none_or(|due| due > now.monotonic) {
            return records;
        }
        self.locks_due = None;
        let rules = self.rules(now);
        for (part, live) in &mut self.partitions {
            let Some(window) = self.remembered.windows.get_mut(part) else { continue };
            let mut changes = Vec::new();
            let next = live.expire(window, rules, now.monotonic, &mut changes);
            self.locks_due = self.locks_due.into_iter().chain(next).min();
            if !changes.is_empty() {
                records.push(ShareRecord::Changed { part: *part, changes });
            }
        }
        records
    }

    /// The share-partition start offset and what is left behind it; `None` if it was never shared.
    #[must_use]
    pub fn lag(&self, part: Part, partition_end: i64) -> Option<Lag> {
        let window = self.remembered.windows.get(&part)?;
        Some(SharePartition::lag(window, partition_end))
    }

    /// Shares a partition from an offset on, whatever was known of it.
    pub fn start(&mut self, part: Part, start: i64, now: Now) -> ShareRecord {
        let record = ShareRecord::Started { part, start, at: now.wall };
        self.remembered.replay(record.clone());
        self.partitions.insert(part, SharePartition::new(&Window::new(start)));
        record
    }

    /// Whether the partition is shared: [`start`](Self::start) was called.
    #[must_use]
    pub fn shares(&self, part: Part) -> bool {
        self.remembered.windows.contains_key(&part)
    }

    /// The topics of which something is remembered.
    #[must_use]
    pub fn topics(&self) -> BTreeSet<TopicId> {
        self.remembered.windows.keys().map(|part| part.topic).collect()
    }

    /// Where to read next; `None` if nothing may be given out now. The records below `log_start` are
    /// gone.
    pub fn next(&mut self, part: Part, log_start: i64) -> (Option<i64>, Vec<ShareRecord>) {
        let mut records = Vec::new();
        let (Some(live), Some(window)) =
            (self.partitions.get_mut(&part), self.remembered.windows.get_mut(&part))
        else {
            return (None, records);
        };
        if log_start > window.start() {
            live.trim(window, log_start);
            records.push(ShareRecord::Trimmed { part, start: log_start });
        }
        let open = live.has_room(window, self.settings.locks_max);
        (open.then(|| live.next(window)), records)
    }

    /// Gives records to a member.
    pub fn acquire(
        &mut self,
        part: Part,
        take: &Take<'_>,
        now: Now,
    ) -> (Vec<Acquired>, Vec<ShareRecord>) {
        let (Some(live), Some(window)) =
            (self.partitions.get_mut(&part), self.remembered.windows.get_mut(&part))
        else {
            return Default::default();
        };
        let until = now.monotonic.after(self.settings.lock_ms.into());
        let mut changes = Vec::new();
        let acquired = live.acquire(window, take, until, &mut changes);
        if !acquired.is_empty() {
            self.locks_due = self.locks_due.into_iter().chain([until]).min();
        }
        (acquired, changed(part, changes))
    }

    /// Takes a member's acknowledgements of one partition, all or none of them.
    pub fn acknowledge(
        &mut self,
        part: Part,
        member: &MemberId,
        batches: &[AckBatch],
        now: Now,
    ) -> Result<Vec<ShareRecord>, AckError> {
        check_batches(batches)?;
        let rules = self.rules(now);
        let (Some(live), Some(window)) =
            (self.partitions.get_mut(&part), self.remembered.windows.get_mut(&part))
        else {
            return Err(AckError::UnknownPartition);
        };
        let mut changes = Vec::new();
        live.acknowledge(window, member, batches, rules, &mut changes)?;
        Ok(changed(part, changes))
    }

    /// A partition in which records wait for their dead letters, and which.
    #[must_use]
    pub fn dying(&self) -> Option<(Part, Vec<Death>)> {
        let all = self.remembered.windows.iter();
        all.map(|(part, window)| (*part, window.dying().collect()))
            .find(|(_, deaths): &(Part, Vec<Death>)| !deaths.is_empty())
    }

    /// The records of a partition that wait for their dead letters, in order.
    #[must_use]
    pub fn dying_in(&self, part: Part) -> Vec<Death> {
        self.remembered.windows.get(&part).map_or_else(Vec::new, |window| window.dying().collect())
    }

    /// Archives what is [`dying`](Self::dying) in a partition up to an offset: its letters are written.
    pub fn bury(&mut self, part: Part, upto: i64) -> Vec<ShareRecord> {
        let Some(window) = self.remembered.windows.get_mut(&part) else { return Vec::new() };
        let near: Vec<Death> = window.dying().take_while(|death| death.first <= upto).collect();
        let mut changes = Vec::new();
        for Death { first, last, .. } in near {
            let last = last.min(upto);
            settle(window, Change { first, last, fate: Fate::Archived }, &mut changes);
        }
        changed(part, changes)
    }

    /// A member's session has ended: what it holds is free again, as if it had not been delivered.
    /// Says whether there was anything.
    pub fn release(&mut self, member: &MemberId) -> bool {
        self.partitions.values_mut().fold(false, |any, live| live.release(member) | any)
    }

    /// The session no longer contains a partition.
    pub fn release_part(&mut self, part: Part, member: &MemberId) -> bool {
        self.partitions.get_mut(&part).is_some_and(|live| live.release(member))
    }

    /// Forgets topics: they were deleted, or their offsets were. `None` if nothing was known of them.
    pub fn forget(&mut self, topics: BTreeSet<TopicId>) -> Option<ShareRecord> {
        if !self.partitions.keys().any(|part| topics.contains(&part.topic)) {
            return None;
        }
        self.partitions.retain(|part, _| !topics.contains(&part.topic));
        let record = ShareRecord::Forgotten { topics };
        self.remembered.replay(record.clone());
        Some(record)
    }

    /// The group's part of a snapshot, and what ShareGroupDescribe shows.
    #[must_use]
    pub const fn remembered(&self) -> &RememberedShares {
        &self.remembered
    }

    /// Where the group stands.
    #[must_use]
    pub fn state(&self) -> ShareState {
        if self.remembered.members.is_empty() { ShareState::Empty } else { ShareState::Stable }
    }

    fn rules(&self, now: Now) -> Rules {
        Rules {
            delivery_limit: self.settings.delivery_limit,
            until: now.monotonic.after(self.settings.lock_ms.into()),
            buries: self.settings.buries,
        }
    }

    fn persist(&mut self, record: ShareRecord, records: &mut Vec<ShareRecord>) {
        self.remembered.replay(record.clone());
        records.push(record);
    }
}

fn changed(part: Part, changes: Vec<Change>) -> Vec<ShareRecord> {
    if changes.is_empty() { Vec::new() } else { vec![ShareRecord::Changed { part, changes }] }
}
