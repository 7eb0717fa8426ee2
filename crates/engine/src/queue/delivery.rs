//! Deliveries and what comes back: to consumers, to `basic.get`, settled, returned, retried later.

use std::collections::BTreeMap;

use ottla_store::Lsn;

use super::command::{CancelReason, ChannelKey, Death, Effect, Outcome, Refusal};
use super::consumers::{FOREVER, Held};
use super::entry::Entry;
use super::machine::Machine;
use super::settings::RetryOn;
use crate::clock::{Monotonic, Now, Wall};

/// Returned messages that wait for their next try.
#[derive(Debug, Default)]
pub(super) struct Delayed {
    by_time: BTreeMap<(Wall, Lsn), Entry>,
}

/// How a message came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Return {
    /// Its consumer failed on it, or was lost.
    Failed,
    /// It was handed back.
    Handed,
}

impl Delayed {
    pub(super) fn len(&self) -> u64 {
        u64::try_from(self.by_time.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn next_due(&self) -> Option<Wall> {
        self.by_time.first_key_value().map(|((due, _), _)| *due)
    }

    /// An entry that expires earlier wakes then, to be found expired.
    fn insert(&mut self, due: Wall, entry: Entry) {
        self.by_time.insert((due.min(entry.expires_at), entry.seq), entry);
    }

    fn pop(&mut self, now: Wall) -> Option<Entry> {
        let first = self.by_time.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

impl Machine {
    /// Gives ready messages to consumers with room, in turn.
    pub(super) fn deliver(
        &mut self,
        arriving: bool,
        now: Now,
        budget: &mut u32,
        effects: &mut Vec<Effect>,
    ) {
        while *budget > 0 {
            let Some(first) = self.ready.peek() else { return };
            let at_once = arriving && first.immediate && !first.redelivered;
            if first.is_expired(now.wall) && !at_once {
                let Some(entry) = self.ready.pop() else { return };
                self.bury(entry, Death::Expired, effects);
                *budget -= 1;
                continue;
            }
            let next = if self.settings.single_active {
                self.active.filter(|id| !self.draining && self.consumers.room(*id) > 0)
            } else {
                self.consumers.next()
            };
            let Some(consumer) = next else { return };
            let Some(entry) = self.ready.pop() else { return };
            let Some(wish) = self.consumers.get(consumer).map(|consumer| consumer.wish) else {
                return;
            };
            self.consumers.take_credit(consumer);
            effects.push(Effect::Deliver { consumer, entry });
            if wish.no_ack {
                effects.push(Effect::Settled { seq: entry.seq });
            } else {
                let timeout = wish.timeout.or(self.settings.consumer_timeout);
                let due = self.due(timeout, now);
                self.consumers.hold(wish.channel, Held { entry, consumer: Some(consumer), due });
            }
        }
    }

    /// `basic.get`: not limited by prefetch.
    pub(super) fn fetch(
        &mut self,
        channel: ChannelKey,
        no_ack: bool,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        if self.settings.single_active {
            effects.push(Effect::Refused(Refusal::SingleActive));
            return;
        }
        self.last_used = now.monotonic;
        while let Some(entry) = self.ready.pop() {
            if entry.is_expired(now.wall) {
                self.bury(entry, Death::Expired, effects);
                continue;
            }
            effects.push(Effect::Got { entry, ready: self.ready.count() });
            if no_ack {
                effects.push(Effect::Settled { seq: entry.seq });
            } else {
                let due = self.due(self.settings.consumer_timeout, now);
                self.consumers.hold(channel, Held { entry, consumer: None, due });
            }
            return;
        }
        effects.push(Effect::GotNothing);
    }

    pub(super) fn settle(
        &mut self,
        channel: ChannelKey,
        messages: &[Lsn],
        outcome: Outcome,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let nack = if self.settings.nack_counts { Return::Failed } else { Return::Handed };
        for seq in messages {
            let Some(held) = self.consumers.release(channel, *seq) else { continue };
            match outcome {
                Outcome::Ack => effects.push(Effect::Settled { seq: *seq }),
                Outcome::Dead => self.bury(held.entry, Death::Rejected, effects),
                Outcome::Nack => self.take_back(held.entry, nack, now, effects),
                Outcome::Reject => self.take_back(held.entry, Return::Failed, now, effects),
            }
        }
        self.replace_active();
    }

    pub(super) fn recover(&mut self, channel: ChannelKey, now: Now, effects: &mut Vec<Effect>) {
        self.take_all_back(channel, Return::Handed, now, effects);
        self.replace_active();
    }

    /// The channel was lost: everything it held failed.
    pub(super) fn lose(&mut self, channel: ChannelKey, now: Now, effects: &mut Vec<Effect>) {
        self.take_all_back(channel, Return::Failed, now, effects);
    }

    fn take_all_back(
        &mut self,
        channel: ChannelKey,
        how: Return,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        for seq in self.consumers.held_by(channel) {
            if let Some(held) = self.consumers.release(channel, seq) {
                self.take_back(held.entry, how, now, effects);
            }
        }
    }

    /// One message returns: counted, then dead, waiting, or ready again.
    fn take_back(&mut self, entry: Entry, how: Return, now: Now, effects: &mut Vec<Effect>) {
        let failed = how == Return::Failed;
        let entry = Entry {
            redelivered: true,
            acquired_count: entry.acquired_count.saturating_add(1),
            delivery_count: entry.delivery_count.saturating_add(u32::from(failed)),
            ..entry
        };
        if self.settings.delivery_limit.is_some_and(|limit| entry.delivery_count > limit) {
            self.bury(entry, Death::DeliveryLimit, effects);
            return;
        }
        effects.push(Effect::CountDelivery {
            seq: entry.seq,
            delivery_count: entry.delivery_count,
            acquired_count: entry.acquired_count,
        });
        let retry = self.settings.retry.filter(|retry| match retry.on {
            RetryOn::All => true,
            RetryOn::Failed => failed,
            RetryOn::Returned => !failed,
        });
        match retry {
            Some(retry) => {
                let tries = u64::from(entry.delivery_count.max(1));
                let delay = retry.min.saturating_mul(tries).min(retry.max);
                self.delayed.insert(now.wall.after(delay), entry);
            }
            None => self.ready.put_back(entry, self.settings.order),
        }
    }

    /// Retries whose time has come are ready again.
    pub(super) fn wake_delayed(&mut self, now: Now, budget: &mut u32, effects: &mut Vec<Effect>) {
        while *budget > 0 {
            let Some(entry) = self.delayed.pop(now.wall) else { return };
            if entry.is_expired(now.wall) {
                self.bury(entry, Death::Expired, effects);
            } else {
                self.ready.put_back(entry, self.settings.order);
            }
            *budget -= 1;
        }
    }

    /// Takes back what was held for too long, and ends the consumers that held it.
    pub(super) fn check_timeouts(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.timeout_check.is_none_or(|check| check > now.monotonic) {
            return;
        }
        let (overdue, next) = self.consumers.overdue(now.monotonic);
        // looking through everything that is out has a price: not at every single deadline
        self.timeout_check = next.map(|next| next.max(now.monotonic.after(TIMEOUT_GRAIN_MS)));
        let before = self.consumers.len();
        for (channel, seq) in overdue {
            let Some(held) = self.consumers.release(channel, seq) else { continue };
            effects.push(Effect::TimedOut { channel, seq });
            if let Some(consumer) = held.consumer
                && self.consumers.get(consumer).is_some()
            {
                effects.push(Effect::CancelConsumer { consumer, reason: CancelReason::Timeout });
                self.remove_consumer(consumer);
            }
            self.take_back(held.entry, Return::Handed, now, effects);
        }
        if self.consumers.len() < before {
            self.after_leaving(now, effects);
        }
    }

    fn due(&mut self, timeout: Option<u64>, now: Now) -> Monotonic {
        let Some(timeout) = timeout else { return FOREVER };
        let due = now.monotonic.after(timeout);
        self.timeout_check = Some(self.timeout_check.map_or(due, |check| check.min(due)));
        due
    }
}

/// Consumer timeouts are late by at most this.
const TIMEOUT_GRAIN_MS: u64 = 100;
