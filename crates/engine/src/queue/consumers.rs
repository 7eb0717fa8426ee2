//! Who wants messages and whose turn it is; what every channel holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ottla_store::Lsn;

use super::command::{ChannelKey, Consume, ConsumerId};
use super::entry::Entry;
use crate::clock::Monotonic;

/// The consumers of a queue and the messages that are out.
///
/// Invariants: a consumer with room is in `turns`, once; `unacked` is the number of all held messages.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    all: BTreeMap<ConsumerId, Consumer>,
    turns: BTreeMap<i32, VecDeque<ConsumerId>>,
    channels: BTreeMap<ChannelKey, Channel>,
    unacked: u64,
    arrivals: u64,
    served: u64,
}

/// One consumer.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) wish: Consume,
    /// Position in the order of arrival.
    arrival: u64,
    credit: u32,
    /// Unacknowledged deliveries of its own.
    pub(super) in_flight: u32,
    in_turns: bool,
    /// When it was last chosen, in turns of the queue.
    served: u64,
}

/// What one channel holds of this queue.
#[derive(Debug, Default)]
struct Channel {
    held: BTreeMap<Lsn, Held>,
    consumers: BTreeSet<ConsumerId>,
    /// Messages in `held` that consumers (not `basic.get`) brought.
    delivered: u32,
    limit: u32,
    elsewhere: u32,
}

/// A message that is out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) entry: Entry,
    /// `None` for `basic.get`.
    pub(super) consumer: Option<ConsumerId>,
    /// When the holder has had it for too long.
    pub(super) due: Monotonic,
}

impl Consumers {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) const fn unacked(&self) -> u64 {
        self.unacked
    }

    /// How many messages each channel holds.
    pub(super) fn held(&self) -> impl Iterator<Item = (ChannelKey, u64)> {
        let count = |channel: &Channel| u64::try_from(channel.held.len()).unwrap_or(u64::MAX);
        self.channels.iter().map(move |(key, channel)| (*key, count(channel)))
    }

    pub(super) fn has_exclusive(&self) -> bool {
        // an exclusive consumer is alone
        self.all.values().next().is_some_and(|consumer| consumer.wish.exclusive)
    }

    pub(super) fn get(&self, id: ConsumerId) -> Option<&Consumer> {
        self.all.get(&id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ConsumerId> {
        self.all.keys().copied()
    }

    pub(super) fn of_channel(&self, channel: ChannelKey) -> Vec<ConsumerId> {
        let consumers = self.channels.get(&channel).map(|channel| &channel.consumers);
        consumers.into_iter().flatten().copied().collect()
    }

    /// The first to come; with `by_priority` the first of the highest priority.
    pub(super) fn first(&self, by_priority: bool) -> Option<ConsumerId> {
        let rank = |consumer: &Consumer| {
            let priority = if by_priority { consumer.wish.priority } else { 0 };
            (std::cmp::Reverse(priority), consumer.arrival)
        };
        self.all.iter().min_by_key(|(_, consumer)| rank(consumer)).map(|(id, _)| *id)
    }

    pub(super) fn insert(&mut self, wish: Consume) {
        let consumer = Consumer {
            wish,
            arrival: self.arrivals,
            credit: wish.credit,
            in_flight: 0,
            in_turns: false,
            served: 0,
        };
        self.arrivals += 1;
        self.all.insert(wish.consumer, consumer);
        self.channels.entry(wish.channel).or_default().consumers.insert(wish.consumer);
        self.give_turn(wish.consumer);
    }

    /// What it holds stays with its channel.
    pub(super) fn remove(&mut self, id: ConsumerId) -> Option<Consumer> {
        let consumer = self.all.remove(&id)?;
        let priority = consumer.wish.priority;
        if let Some(turns) = self.turns.get_mut(&priority).filter(|_| consumer.in_turns) {
            turns.retain(|other| *other != id);
            if turns.is_empty() {
                self.turns.remove(&priority);
            }
        }
        if let Some(channel) = self.channels.get_mut(&consumer.wish.channel) {
            channel.consumers.remove(&id);
        }
        self.drop_if_idle(consumer.wish.channel);
        Some(consumer)
    }

    pub(super) fn add_credit(&mut self, id: ConsumerId, credit: u32) {
        if let Some(consumer) = self.all.get_mut(&id) {
            consumer.credit = consumer.credit.saturating_add(credit);
            self.give_turn(id);
        }
    }

    pub(super) fn limit_channel(&mut self, key: ChannelKey, limit: u32, elsewhere: u32) {
        let channel = self.channels.entry(key).or_default();
        channel.limit = limit;
        channel.elsewhere = elsewhere;
        self.give_turns(key);
        self.drop_if_idle(key);
    }

    /// The next consumer with room, by priority and turn. It goes to the end of its turns.
    pub(super) fn next(&mut self) -> Option<ConsumerId> {
        loop {
            let mut highest = self.turns.last_entry()?;
            let Some(id) = highest.get_mut().pop_front() else {
                highest.remove();
                continue;
            };
            if self.room(id) > 0 {
                if let Some(turns) = self.turns.values_mut().next_back() {
                    turns.push_back(id);
                }
                self.served += 1;
                if let Some(consumer) = self.all.get_mut(&id) {
                    consumer.served = self.served;
                }
                return Some(id);
            }
            if let Some(consumer) = self.all.get_mut(&id) {
                consumer.in_turns = false;
            }
        }
    }

    /// How many more messages it may be given.
    pub(super) fn room(&self, id: ConsumerId) -> u32 {
        let Some(consumer) = self.all.get(&id) else { return 0 };
        if consumer.wish.no_ack {
            return consumer.credit;
        }
        let prefetch = match consumer.wish.prefetch {
            0 => PREFETCH_MAX,
            prefetch => prefetch,
        };
        let own = prefetch.saturating_sub(consumer.in_flight).min(consumer.credit);
        match self.channels.get(&consumer.wish.channel) {
            Some(channel) if channel.limit > 0 => {
                let out = channel.delivered.saturating_add(channel.elsewhere);
                own.min(channel.limit.saturating_sub(out))
            }
            _ => own,
        }
    }

    /// How many messages all consumers together would take now, counted up to `enough`.
    pub(super) fn appetite(&self, enough: u64) -> u64 {
        let mut total = 0;
        for id in self.turns.values().flatten() {
            if total >= enough {
                break;
            }
            total += u64::from(self.room(*id));
        }
        total
    }

    pub(super) fn take_credit(&mut self, id: ConsumerId) {
        if let Some(consumer) = self.all.get_mut(&id).filter(|c| c.credit != u32::MAX) {
            consumer.credit = consumer.credit.saturating_sub(1);
        }
    }

    pub(super) fn hold(&mut self, key: ChannelKey, held: Held) {
        let channel = self.channels.entry(key).or_default();
        if let Some(consumer) = held.consumer {
            channel.delivered += 1;
            if let Some(consumer) = self.all.get_mut(&consumer) {
                consumer.in_flight += 1;
            }
        }
        let before = channel.held.insert(held.entry.seq, held);
        assert!(before.is_none(), "a message was delivered while it was out");
        self.unacked += 1;
    }

    /// Takes a message back from its holder.
    pub(super) fn release(&mut self, key: ChannelKey, seq: Lsn) -> Option<Held> {
        let channel = self.channels.get_mut(&key)?;
        let held = channel.held.remove(&seq)?;
        self.unacked -= 1;
        if let Some(id) = held.consumer {
            channel.delivered -= 1;
            let shared = channel.limit > 0;
            if let Some(consumer) = self.all.get_mut(&id) {
                consumer.in_flight -= 1;
            }
            if shared {
                self.give_turns(key);
            } else {
                self.give_turn(id);
            }
        }
        self.drop_if_idle(key);
        Some(held)
    }

    /// The numbers of all messages a channel holds, ascending.
    pub(super) fn held_by(&self, key: ChannelKey) -> Vec<Lsn> {
        let held = self.channels.get(&key).map(|channel| channel.held.keys());
        held.into_iter().flatten().copied().collect()
    }

    /// Messages held past their time, and the moment the next one will be.
    pub(super) fn overdue(&self, now: Monotonic) -> (Vec<(ChannelKey, Lsn)>, Option<Monotonic>) {
        let (mut overdue, mut next) = (Vec::new(), None);
        for (key, channel) in &self.channels {
            for held in channel.held.values().filter(|held| held.due != FOREVER) {
                if held.due <= now {
                    overdue.push((*key, held.entry.seq));
                } else {
                    next = Some(next.map_or(held.due, |next: Monotonic| next.min(held.due)));
                }
            }
        }
        (overdue, next)
    }

    fn give_turn(&mut self, id: ConsumerId) {
        if self.room(id) == 0 {
            return;
        }
        if let Some(consumer) = self.all.get_mut(&id).filter(|consumer| !consumer.in_turns) {
            consumer.in_turns = true;
            self.turns.entry(consumer.wish.priority).or_default().push_back(id);
        }
    }

    fn give_turns(&mut self, channel: ChannelKey) {
        let mut consumers = self.of_channel(channel);
        // who waits longest goes first: a shared limit of 1 would else serve only one of them
        consumers.sort_by_key(|id| self.all.get(id).map(|consumer| consumer.served));
        consumers.into_iter().for_each(|id| self.give_turn(id));
    }

    fn drop_if_idle(&mut self, key: ChannelKey) {
        let idle = |channel: &Channel| {
            channel.held.is_empty() && channel.consumers.is_empty() && channel.limit == 0
        };
        if self.channels.get(&key).is_some_and(idle) {
            self.channels.remove(&key);
        }
    }

    /// The channel is gone, with any limit it had.
    pub(super) fn forget_channel(&mut self, key: ChannelKey) {
        if let Some(channel) = self.channels.get_mut(&key) {
            channel.limit = 0;
        }
        self.drop_if_idle(key);
    }
}

/// Never overdue.
pub(super) const FOREVER: Monotonic = Monotonic(u64::MAX);
/// What a consumer without prefetch may hold: memory is bounded even if nobody asks for it.
const PREFETCH_MAX: u32 = 65_535;
