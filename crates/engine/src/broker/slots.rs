//! Every message a queue holds, whatever has become of it: where its body is, and its place in the log.

use std::collections::VecDeque;
use std::sync::Arc;

use ottla_store::Lsn;

use super::mailbox::Source;
use super::message::Message;
use super::request::Seq;
use crate::queue::Entry;

/// The messages of a queue by number, and those that are logged by place.
///
/// Invariant: ascending by number and by place; the first is alive.
#[derive(Debug, Default)]
pub(super) struct Slots {
    all: VecDeque<Slot>,
    dead: usize,
    /// Bytes of the messages that are in memory alone.
    memory: u64,
}

/// One message.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// As the machine was told, with the counts of its last return.
    pub(super) entry: Entry,
    /// Its place in the log; of one that is not logged: that of the one before.
    place: Lsn,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Logged,
    Memory(Arc<Message>),
    Dead,
}

impl Slots {
    /// A logged message, newer than all.
    pub(super) fn push_logged(&mut self, entry: Entry, lsn: Lsn) {
        assert!(self.newest() < lsn, "places ascend in a queue");
        self.all.push_back(Slot { entry, place: lsn, state: State::Logged });
    }

    /// A message that lives in memory only, newer than all.
    pub(super) fn push_memory(&mut self, entry: Entry, message: Arc<Message>) {
        let place = self.newest();
        self.memory += weight(&message);
        self.all.push_back(Slot { entry, place, state: State::Memory(message) });
    }

    pub(super) fn get_mut(&mut self, seq: Seq) -> Option<&mut Slot> {
        let index = self.index(seq)?;
        self.all.get_mut(index).filter(|slot| slot.is_alive())
    }

    pub(super) fn get(&self, seq: Seq) -> Option<&Slot> {
        self.all.get(self.index(seq)?).filter(|slot| slot.is_alive())
    }

    /// Whether the logged message is still held.
    pub(super) fn holds(&self, lsn: Lsn) -> bool {
        let index = self.all.partition_point(|slot| slot.place < lsn);
        let slot = self.all.get(index).filter(|slot| slot.place == lsn);
        slot.is_some_and(|slot| matches!(slot.state, State::Logged))
    }

    /// Ends a message. Returns its place if its end must be logged; `None` also if it had ended.
    pub(super) fn remove(&mut self, seq: Seq) -> Option<Lsn> {
        let index = self.index(seq)?;
        let slot = self.all.get_mut(index).filter(|slot| slot.is_alive())?;
        let place = slot.lsn();
        if let State::Memory(message) = std::mem::replace(&mut slot.state, State::Dead) {
            self.memory -= weight(&message);
        }
        self.dead += 1;
        while self.all.front().is_some_and(|slot| !slot.is_alive()) {
            self.all.pop_front();
            self.dead -= 1;
        }
        if self.dead > self.all.len() / 2 && self.dead > COMPACT_FROM {
            self.all.retain(Slot::is_alive);
            self.dead = 0;
        }
        place
    }

    /// Bytes of the messages that are in memory alone.
    pub(super) const fn memory(&self) -> u64 {
        self.memory
    }

    /// The queue is gone: what is in memory alone is, too.
    pub(super) fn forget_memory(&mut self) {
        for slot in &mut self.all {
            if matches!(slot.state, State::Memory(_)) {
                slot.state = State::Dead;
            }
        }
        self.all.retain(Slot::is_alive);
        (self.dead, self.memory) = (0, 0);
    }

    /// The living logged ones, ascending.
    pub(super) fn logged(&self) -> impl Iterator<Item = (Lsn, &Entry)> {
        self.all.iter().filter_map(|slot| slot.lsn().map(|lsn| (lsn, &slot.entry)))
    }

    fn newest(&self) -> Lsn {
        self.all.back().map_or(Lsn::ZERO, |slot| slot.place)
    }

    fn index(&self, seq: Seq) -> Option<usize> {
        self.all.binary_search_by_key(&seq.0, |slot| slot.entry.seq.0).ok()
    }
}

impl Slot {
    fn is_alive(&self) -> bool {
        !matches!(self.state, State::Dead)
    }

    /// Its place in the log, if it is there.
    pub(super) fn lsn(&self) -> Option<Lsn> {
        matches!(self.state, State::Logged).then_some(self.place)
    }

    /// Where its body is.
    pub(super) fn source(&self) -> Source {
        match &self.state {
            State::Memory(message) => Source::Memory(Arc::clone(message)),
            State::Logged | State::Dead => Source::Log(self.place),
        }
    }
}

/// What a message takes, about.
fn weight(message: &Message) -> u64 {
    let bytes = message.body.len() + message.properties.len() + MESSAGE_BYTES;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// A message without its texts and its place in the queue.
const MESSAGE_BYTES: usize = 256;
/// Ended messages that may stand among the living.
const COMPACT_FROM: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(places: &[u64]) -> Slots {
        let mut slots = Slots::default();
        for (seq, place) in (1..).zip(places) {
            slots.push_logged(Entry::new(Lsn(seq), 1), Lsn(*place));
        }
        slots
    }

    #[test]
    fn a_message_is_found_by_number_and_by_place_until_it_ends() {
        let mut slots = slots(&[10, 20, 30]);
        assert!(slots.holds(Lsn(20)) && !slots.holds(Lsn(25)));
        assert_eq!(slots.remove(Seq(2)), Some(Lsn(20)));
        assert_eq!(slots.remove(Seq(2)), None, "it ends once");
        assert!(!slots.holds(Lsn(20)) && slots.holds(Lsn(30)));
        assert_eq!(slots.logged().map(|(lsn, _)| lsn.0).collect::<Vec<_>>(), [10, 30]);
    }

    #[test]
    fn ended_messages_do_not_pile_up_behind_one_that_stays() {
        let places: Vec<u64> = (1..=10_000).collect();
        let mut slots = slots(&places);
        for seq in 2..=10_000 {
            slots.remove(Seq(seq));
        }
        assert!(slots.all.len() <= 2 * COMPACT_FROM + 2, "{} remain", slots.all.len());
        assert!(slots.holds(Lsn(1)) && slots.get(Seq(1)).is_some());
    }
}
