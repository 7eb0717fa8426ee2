//! One partition as one group shares it: who holds which records until when.

use std::collections::BTreeMap;

use super::api::{AckBatch, AckError, AckType, Acquired, Lag, Span, Take};
use super::window::{Change, Fate, Window};
use crate::clock::Monotonic;
use crate::group::ids::MemberId;

/// A share partition at work.
///
/// Each record from the window's start on is in one state: done with, given up or returned (the window
/// says so), held (a lock says so, and the window does not call it done), or else new.
#[derive(Debug)]
pub(super) struct SharePartition {
    /// After the last record that was ever offered to a member since the start of the broker.
    end: i64,
    /// By first offset.
    locks: BTreeMap<i64, Lock>,
}

#[derive(Clone, Debug)]
struct Lock {
    last: i64,
    holder: MemberId,
    /// Deliveries, with this one.
    count: u16,
    until: Monotonic,
}

impl SharePartition {
    /// Nothing is held: after a restart, or at the beginning.
    pub(super) fn new(window: &Window) -> Self {
        Self { end: window.end(), locks: BTreeMap::new() }
    }

    /// The first offset that could be delivered, held and finished ones left out.
    pub(super) fn next(&self, window: &Window) -> i64 {
        self.free(window, window.start(), self.end - 1).map_or(self.end, |free| free.0)
    }

    /// Whether `next` may be read now: below the end always, behind it while there is room.
    pub(super) fn has_room(&self, window: &Window, locks_max: u32) -> bool {
        let open = self.end - window.start() - window.archived();
        self.next(window) < self.end || open < i64::from(locks_max)
    }

    /// The first piece of `from..=upto` that nobody holds and that is not done with: its ends and how
    /// often it was delivered.
    fn free(&self, window: &Window, from: i64, upto: i64) -> Option<(i64, i64, u16)> {
        let mut at = from.max(window.start());
        while at <= upto {
            if let Some(lock) = self.lock_at(at) {
                at = lock.last + 1;
                continue;
            }
            let (last, count) = match window.at(at) {
                Ok((last, Fate::Returned { count })) => (last, count),
                Ok((last, _)) => {
                    at = last + 1;
                    continue;
                }
                Err(next) => (next.map_or(upto, |next| next - 1), 0),
            };
            let locked = self.locks.range(at..).next().map_or(upto, |(first, _)| first - 1);
            return Some((at, last.min(locked).min(upto), count));
        }
        None
    }

    fn lock_at(&self, offset: i64) -> Option<&Lock> {
        let (_, lock) = self.locks.range(..=offset).next_back()?;
        (lock.last >= offset).then_some(lock)
    }

    /// Gives records of the batches `spans`, which were read from `from` on, to a member.
    pub(super) fn acquire(
        &mut self,
        window: &mut Window,
        take: &Take<'_>,
        until: Monotonic,
        changes: &mut Vec<Change>,
    ) -> Vec<Acquired> {
        let mut acquired = Vec::new();
        if take.from > self.end {
            return acquired; // the window was moved back meanwhile
        }
        let mut expected = take.from;
        let mut room = i64::from(take.records_max);
        for span in take.spans {
            if room <= 0 || (span.last >= self.end && !self.has_room(window, take.locks_max)) {
                break;
            }
            if span.first > expected {
                self.archive(window, expected, span.first - 1, changes); // compacted away
            }
            expected = expected.max(span.last + 1);
            self.end = self.end.max(span.last + 1);
            if span.hidden {
                self.archive(window, span.first, span.last, changes);
                continue;
            }
            self.acquire_span(window, take, span, &mut room, until, &mut acquired);
        }
        acquired
    }

    fn acquire_span(
        &mut self,
        window: &Window,
        take: &Take<'_>,
        span: &Span,
        room: &mut i64,
        until: Monotonic,
        acquired: &mut Vec<Acquired>,
    ) {
        let mut at = span.first;
        while let Some((first, mut last, before)) = self.free(window, at, span.last) {
            if take.strict {
                last = last.min(first + *room - 1);
            }
            *room -= last - first + 1;
            at = last + 1;
            let count = before.saturating_add(1);
            let holder = take.member.clone();
            self.locks.insert(first, Lock { last, holder, count, until });
            let joins = |known: &&mut Acquired| {
                known.last + 1 == first
                    && known.count == count
                    && last - known.first < i64::from(take.batch_size)
            };
            match acquired.last_mut().filter(joins) {
                Some(known) => known.last = last,
                None => acquired.push(Acquired { first, last, count }),
            }
            if take.strict && *room <= 0 {
                return;
            }
        }
    }

    /// Free offsets that hold nothing to deliver.
    fn archive(&mut self, window: &mut Window, first: i64, last: i64, out: &mut Vec<Change>) {
        self.end = self.end.max(last + 1);
        let mut at = first;
        while let Some((first, last, _)) = self.free(window, at, last) {
            at = last + 1;
            settle(window, Change { first, last, fate: Fate::Archived }, out);
        }
    }

    /// Judges every batch of a member's acknowledgements, then carries them all out, or none.
    pub(super) fn acknowledge(
        &mut self,
        window: &mut Window,
        member: &MemberId,
        batches: &[AckBatch],
        rules: Rules,
        changes: &mut Vec<Change>,
    ) -> Result<(), AckError> {
        for batch in batches {
            self.check(window, member, batch)?;
        }
        for batch in batches {
            for (first, last, kind) in batch.pieces() {
                self.carry_out(window, first.max(window.start()), last, kind, rules, changes);
            }
        }
        Ok(())
    }

    /// Every offset that is not done with long ago has to be held by the member.
    fn check(&self, window: &Window, member: &MemberId, batch: &AckBatch) -> Result<(), AckError> {
        let mut at = batch.first.max(window.start());
        while at <= batch.last {
            let lock = self.lock_at(at).filter(|lock| lock.holder == *member);
            at = lock.ok_or(AckError::InvalidState)?.last + 1;
        }
        Ok(())
    }

    fn carry_out(
        &mut self,
        window: &mut Window,
        first: i64,
        last: i64,
        kind: AckType,
        rules: Rules,
        changes: &mut Vec<Change>,
    ) {
        if first > last {
            return;
        }
        self.cut(first);
        self.cut(last + 1);
        let held: Vec<i64> = self.locks.range(first..=last).map(|(at, _)| *at).collect();
        for first in held {
            if kind == AckType::Renew {
                if let Some(lock) = self.locks.get_mut(&first) {
                    lock.until = rules.until;
                }
                continue;
            }
            let Some(lock) = self.locks.remove(&first) else { continue };
            let fate = match kind {
                AckType::Accept => Fate::Acknowledged,
                AckType::Release => rules.returned(lock.count),
                AckType::Reject => rules.given_up(lock.count, true),
                _ => Fate::Archived,
            };
            settle(window, Change { first, last: lock.last, fate }, changes);
        }
    }

    /// Makes `at` the beginning of a lock if it lies inside one.
    fn cut(&mut self, at: i64) {
        let Some((_, lock)) = self.locks.range_mut(..at).next_back() else { return };
        if lock.last >= at {
            let rest = lock.clone();
            lock.last = at - 1;
            self.locks.insert(at, rest);
        }
    }

    /// What a member holds is free again, and was not delivered this time (Kafka's `DECREASE`): nothing
    /// has to be remembered.
    pub(super) fn release(&mut self, member: &MemberId) -> bool {
        let before = self.locks.len();
        self.locks.retain(|_, lock| lock.holder != *member);
        self.locks.len() < before
    }

    /// Returns what was held too long; says when the next lock ends.
    pub(super) fn expire(
        &mut self,
        window: &mut Window,
        rules: Rules,
        now: Monotonic,
        changes: &mut Vec<Change>,
    ) -> Option<Monotonic> {
        let due = self.locks.iter().filter(|(_, lock)| lock.until <= now);
        let due: Vec<(i64, i64, u16)> =
            due.map(|(first, lock)| (*first, lock.last, lock.count)).collect();
        for (first, last, count) in due {
            self.locks.remove(&first);
            let fate = rules.returned(count);
            settle(window, Change { first, last, fate }, changes);
        }
        self.locks.values().map(|lock| lock.until).min()
    }

    /// The records below `start` are gone.
    pub(super) fn trim(&mut self, window: &mut Window, start: i64) {
        self.cut(start);
        self.locks = self.locks.split_off(&start);
        window.trim(start);
        self.end = self.end.max(window.start());
    }

    /// Records that are still to be acknowledged or delivered, up to the end of the partition.
    pub(super) fn lag(window: &Window, partition_end: i64) -> Lag {
        let start = window.start();
        Lag { start, lag: (partition_end - start - window.finished()).max(0) }
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> impl Iterator<Item = (i64, i64, &MemberId, u16)> {
        self.locks.iter().map(|(first, lock)| (*first, lock.last, &lock.holder, lock.count))
    }

    #[cfg(test)]
    pub(super) const fn end(&self) -> i64 {
        self.end
    }
}

/// How acknowledgements are carried out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Deliveries after which a returned record is given up.
    pub(super) delivery_limit: u16,
    /// When a renewed lock ends.
    pub(super) until: Monotonic,
    /// What is given up waits for its dead letter.
    pub(super) buries: bool,
}

impl Rules {
    const fn returned(self, count: u16) -> Fate {
        match count >= self.delivery_limit {
            true => self.given_up(count, false),
            false => Fate::Returned { count },
        }
    }

    const fn given_up(self, count: u16, rejected: bool) -> Fate {
        if self.buries { Fate::Dying { count, rejected } } else { Fate::Archived }
    }
}

/// Applies a change and adds it to what has to be logged, joined with its neighbour.
pub(super) fn settle(window: &mut Window, change: Change, changes: &mut Vec<Change>) {
    window.change(change);
    match changes.last_mut() {
        Some(known) if known.last + 1 == change.first && known.fate == change.fate => {
            known.last = change.last;
        }
        _ => changes.push(change),
    }
}
