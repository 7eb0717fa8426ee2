//! The order of ready messages: priority lanes, returned messages, expiry anywhere.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use ottla_store::Lsn;

use super::entry::{Entry, NEVER};
use super::settings::Order;
use crate::clock::Wall;

/// Ready messages.
///
/// Invariants: `count` and `bytes` are those of all living entries; a lane is empty only if it is the
/// only one; the earliest expiry is that of a first `fresh` entry or in `expiries`.
#[derive(Debug)]
pub(super) struct Ready {
    lanes: BTreeMap<u8, Lane>,
    /// Served before all lanes, in the order of their return; only with [`Order::ReturnedFirst`].
    returned: BTreeMap<u64, Entry>,
    returns: u64,
    count: u64,
    bytes: u64,
    expiries: BinaryHeap<Reverse<(Wall, Place)>>,
}

/// One priority.
#[derive(Debug)]
struct Lane {
    /// Ascending by `seq`; the first is alive, others may be tombstones.
    fresh: VecDeque<Entry>,
    tombstones: usize,
    /// Returned or late: merged with `fresh` by `seq`.
    back: BTreeMap<Lsn, Entry>,
    /// The latest expiry in `fresh`: what expires before it is also in `expiries`.
    horizon: Wall,
}

/// Where an entry with an expiry of its own waits. May be out of date: it is looked up before use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Lane(u8, Lsn),
    Returned(u64),
}

impl Ready {
    pub(super) fn new() -> Self {
        Self {
            lanes: BTreeMap::new(),
            returned: BTreeMap::new(),
            returns: 0,
            count: 0,
            bytes: 0,
            expiries: BinaryHeap::new(),
        }
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A new message: behind all with lower numbers.
    pub(super) fn push(&mut self, entry: Entry) {
        self.add(&entry);
        let lane = self.lane(entry.priority);
        if lane.fresh.back().is_some_and(|last| last.seq >= entry.seq) {
            self.push_back(entry); // became visible late
            return;
        }
        if lane.fresh.is_empty() {
            lane.horizon = entry.expires_at;
        }
        if entry.expires_at < lane.horizon {
            self.note_expiry(entry.expires_at, Place::Lane(entry.priority, entry.seq));
        } else {
            lane.horizon = entry.expires_at;
        }
        if let Some(lane) = self.lanes.get_mut(&entry.priority) {
            lane.fresh.push_back(entry);
        }
    }

    /// A returned message.
    pub(super) fn put_back(&mut self, entry: Entry, order: Order) {
        self.add(&entry);
        match order {
            Order::Position => self.push_back(entry),
            Order::ReturnedFirst => {
                self.returned.insert(self.returns, entry);
                self.note_expiry(entry.expires_at, Place::Returned(self.returns));
                self.returns += 1;
            }
        }
    }

    /// The message to be delivered next.
    pub(super) fn peek(&self) -> Option<&Entry> {
        self.returned
            .first_key_value()
            .map(|(_, entry)| entry)
            .or_else(|| self.lanes.values().next_back().and_then(Lane::head))
    }

    /// Takes the message to be delivered next.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = match self.returned.pop_first() {
            Some((_, entry)) => entry,
            None => {
                let priority = *self.lanes.keys().next_back()?;
                self.change_lane(priority, Lane::pop)?
            }
        };
        self.subtract(&entry);
        Some(entry)
    }

    /// Takes this message out, wherever it stands; false if it is not here.
    pub(super) fn withdraw(&mut self, entry: &Entry) -> bool {
        let returned = self.returned.iter().find(|(_, other)| other.seq == entry.seq);
        let place = match returned.map(|(number, _)| *number) {
            Some(number) => Place::Returned(number),
            None => Place::Lane(entry.priority, entry.seq),
        };
        let taken = self.take(place, entry.expires_at);
        if let Some(taken) = &taken {
            self.subtract(taken);
        }
        taken.is_some()
    }

    /// Takes one message whose time is over, wherever it stands.
    pub(super) fn pop_expired(&mut self, now: Wall) -> Option<Entry> {
        let expired = |lane: &Lane| lane.fresh.front().is_some_and(|first| first.is_expired(now));
        let lane = self.lanes.iter().find(|(_, lane)| expired(lane)).map(|(priority, _)| *priority);
        if let Some(priority) = lane {
            let entry = self.change_lane(priority, Lane::pop_fresh)?;
            self.subtract(&entry);
            return Some(entry);
        }
        while let Some(&Reverse((at, place))) = self.expiries.peek() {
            if at > now {
                return None;
            }
            self.expiries.pop();
            if let Some(entry) = self.take(place, at) {
                self.subtract(&entry);
                return Some(entry);
            }
        }
        None
    }

    /// When the next message may expire; [`NEVER`] if none does.
    pub(super) fn next_expiry(&self) -> Wall {
        let firsts = self.lanes.values().filter_map(|lane| lane.fresh.front());
        let heads = firsts.map(|first| first.expires_at);
        let noted = self.expiries.peek().map(|Reverse((at, _))| *at);
        heads.chain(noted).min().unwrap_or(NEVER)
    }

    /// Takes everything.
    pub(super) fn clear(&mut self) -> Vec<Lsn> {
        let all = std::mem::replace(self, Self::new());
        let lanes = all.lanes.into_values().flat_map(|lane| {
            lane.fresh.into_iter().filter(|e| !is_tombstone(e)).chain(lane.back.into_values())
        });
        lanes.chain(all.returned.into_values()).map(|entry| entry.seq).collect()
    }

    /// The first `max` messages in the order in which they would be delivered.
    pub(super) fn browse(&self, max: usize) -> Vec<Entry> {
        let mut found: Vec<Entry> = self.returned.values().take(max).copied().collect();
        for lane in self.lanes.values().rev() {
            let fresh = lane.fresh.iter().filter(|entry| !is_tombstone(entry)).take(max);
            let mut all: Vec<Entry> = fresh.chain(lane.back.values().take(max)).copied().collect();
            all.sort_by_key(|entry| entry.seq);
            found.extend(all);
            if found.len() >= max {
                break;
            }
        }
        found.truncate(max);
        found
    }

    fn push_back(&mut self, entry: Entry) {
        self.lane(entry.priority).back.insert(entry.seq, entry);
        self.note_expiry(entry.expires_at, Place::Lane(entry.priority, entry.seq));
    }

    fn lane(&mut self, priority: u8) -> &mut Lane {
        if !self.lanes.contains_key(&priority) {
            self.lanes.retain(|_, lane| !lane.is_empty()); // the only one may have been
        }
        self.lanes.entry(priority).or_insert_with(Lane::new)
    }

    fn change_lane(
        &mut self,
        priority: u8,
        take: impl FnOnce(&mut Lane) -> Option<Entry>,
    ) -> Option<Entry> {
        let lane = self.lanes.get_mut(&priority)?;
        let entry = take(lane);
        if lane.is_empty() && self.lanes.len() > 1 {
            self.lanes.remove(&priority);
        }
        entry
    }

    fn take(&mut self, place: Place, at: Wall) -> Option<Entry> {
        match place {
            Place::Returned(number) => self.returned.remove(&number),
            Place::Lane(priority, seq) => self.change_lane(priority, |lane| lane.take(seq, at)),
        }
    }

    fn note_expiry(&mut self, at: Wall, place: Place) {
        if at == NEVER {
            return;
        }
        self.expiries.push(Reverse((at, place)));
        let living = usize::try_from(self.count).unwrap_or(usize::MAX);
        if self.expiries.len() > living.saturating_mul(2).saturating_add(EXPIRIES_SLACK) {
            let mut noted = std::mem::take(&mut self.expiries).into_vec();
            noted.sort_unstable();
            noted.dedup();
            noted.retain(|Reverse((_, other))| *other == place || self.holds(*other));
            self.expiries = noted.into();
        }
    }

    fn holds(&self, place: Place) -> bool {
        match place {
            Place::Returned(number) => self.returned.contains_key(&number),
            Place::Lane(priority, seq) => self
                .lanes
                .get(&priority)
                .is_some_and(|lane| lane.back.contains_key(&seq) || lane.find(seq).is_some()),
        }
    }

    fn add(&mut self, entry: &Entry) {
        self.count += 1;
        self.bytes += u64::from(entry.bytes);
    }

    fn subtract(&mut self, entry: &Entry) {
        self.count -= 1; // overflow checks are on in release, too
        self.bytes -= u64::from(entry.bytes);
    }
}

impl Lane {
    const fn new() -> Self {
        Self {
            fresh: VecDeque::new(),
            tombstones: 0,
            back: BTreeMap::new(),
            horizon: Wall(i64::MIN),
        }
    }

    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.back.is_empty()
    }

    fn head(&self) -> Option<&Entry> {
        match (self.fresh.front(), self.back.first_key_value()) {
            (Some(fresh), Some((_, back))) if back.seq < fresh.seq => Some(back),
            (Some(fresh), _) => Some(fresh),
            (None, back) => back.map(|(_, entry)| entry),
        }
    }

    fn pop(&mut self) -> Option<Entry> {
        let from_back = match (self.fresh.front(), self.back.first_key_value()) {
            (Some(fresh), Some((seq, _))) => *seq < fresh.seq,
            (fresh, _) => fresh.is_none(),
        };
        if from_back {
            return self.back.pop_first().map(|(_, entry)| entry);
        }
        self.pop_fresh()
    }

    fn pop_fresh(&mut self) -> Option<Entry> {
        let entry = self.fresh.pop_front();
        self.strip();
        entry
    }

    /// Takes the entry with that number if it expires then.
    fn take(&mut self, seq: Lsn, at: Wall) -> Option<Entry> {
        if self.back.get(&seq).is_some_and(|entry| entry.expires_at == at) {
            return self.back.remove(&seq);
        }
        let index = self.find(seq)?;
        let slot = self.fresh.get_mut(index).filter(|entry| entry.expires_at == at)?;
        let entry = *slot;
        slot.expires_at = TOMBSTONE;
        self.tombstones += 1;
        self.strip();
        if self.tombstones > self.fresh.len() / 2 {
            self.fresh.retain(|entry| !is_tombstone(entry));
            self.tombstones = 0;
        }
        Some(entry)
    }

    fn find(&self, seq: Lsn) -> Option<usize> {
        self.fresh.binary_search_by_key(&seq, |entry| entry.seq).ok()
    }

    fn strip(&mut self) {
        while self.fresh.front().is_some_and(is_tombstone) {
            self.fresh.pop_front();
            self.tombstones -= 1;
        }
        if self.fresh.is_empty() && self.fresh.capacity() > KEPT_CAPACITY {
            self.fresh = VecDeque::new();
        }
    }
}

fn is_tombstone(entry: &Entry) -> bool {
    entry.expires_at == TOMBSTONE
}

/// The place of an entry that was taken out of the middle. No message can have expired then.
const TOMBSTONE: Wall = Wall(i64::MIN);
/// Outdated expiries tolerated beyond twice the living messages.
const EXPIRIES_SLACK: usize = 64;
/// An empty lane gives its memory back above this many entries.
const KEPT_CAPACITY: usize = 1024;
