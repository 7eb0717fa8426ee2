//! Who waits for whom: messages with one key go one after the other, others at once. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};

use tokio::time::Instant;

use crate::transport::Lane;

/// A message that waits for its turn.
pub(super) trait Waits {
    /// What keeps its order; `None`: nothing.
    fn key(&self) -> Option<&str>;
    /// Which part of the source it came from.
    fn lane(&self) -> Lane;
}

/// Messages in hand that are not being handled.
///
/// Invariant: of each key at most one is ready, asleep or being handled; the others wait behind it.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    ready: VecDeque<T>,
    /// Keys with a message at work, and who waits behind it.
    behind: HashMap<String, VecDeque<T>>,
    /// To be tried again, by when.
    asleep: BTreeMap<(Instant, u64), T>,
    next: u64,
}

impl<T: Waits> Lanes<T> {
    pub(super) fn new() -> Self {
        Self { ready: VecDeque::new(), behind: HashMap::new(), asleep: BTreeMap::new(), next: 0 }
    }

    /// A message has arrived.
    pub(super) fn push(&mut self, message: T) {
        if let Some(key) = message.key() {
            if let Some(behind) = self.behind.get_mut(key) {
                behind.push_back(message);
                return;
            }
            self.behind.insert(key.to_owned(), VecDeque::new());
        }
        self.ready.push_back(message);
    }

    /// The next that may be handled.
    pub(super) fn pop(&mut self, now: Instant) -> Option<T> {
        if let Some(first) = self.asleep.first_entry()
            && first.key().0 <= now
        {
            return Some(first.remove());
        }
        self.ready.pop_front()
    }

    /// A message of this key is settled: the next one's turn.
    pub(super) fn settled(&mut self, key: &str) {
        let Some(behind) = self.behind.get_mut(key) else { return };
        match behind.pop_front() {
            Some(next) => self.ready.push_back(next),
            None => drop(self.behind.remove(key)),
        }
    }

    /// The same message again at that time; its key waits.
    pub(super) fn sleep(&mut self, message: T, until: Instant) {
        self.asleep.insert((until, self.next), message);
        self.next += 1;
    }

    /// When the first one that sleeps is to be woken.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.asleep.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes out what came from these parts of the source and is not being handled.
    pub(super) fn take(&mut self, lanes: &[Lane]) -> Vec<T> {
        self.take_if(|message| lanes.contains(&message.lane()))
    }

    /// Takes out everything that is not being handled; what comes from now on goes on as if it had not been.
    pub(super) fn clear(&mut self) -> Vec<T> {
        self.take_if(|_| true)
    }

    fn take_if(&mut self, gone: impl Fn(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for behind in self.behind.values_mut() {
            let (out, kept): (VecDeque<T>, VecDeque<T>) =
                std::mem::take(behind).into_iter().partition(&gone);
            *behind = kept;
            taken.extend(out);
        }
        let (mut heads, ready): (Vec<T>, VecDeque<T>) = {
            let (out, kept): (VecDeque<T>, VecDeque<T>) =
                std::mem::take(&mut self.ready).into_iter().partition(&gone);
            (out.into(), kept)
        };
        self.ready = ready;
        let asleep = std::mem::take(&mut self.asleep);
        for (due, message) in asleep {
            if gone(&message) {
                heads.push(message);
            } else {
                self.asleep.insert(due, message);
            }
        }
        for head in heads {
            if let Some(key) = head.key() {
                self.settled(key); // whoever waits behind it came from elsewhere
            }
            taken.push(head);
        }
        taken
    }

    /// Takes out everything that is not being handled.
    pub(super) fn take_all(&mut self) -> Vec<T> {
        let mut taken: Vec<T> = self.ready.drain(..).collect();
        taken.extend(std::mem::take(&mut self.asleep).into_values());
        taken.extend(self.behind.values_mut().flat_map(|behind| behind.drain(..)));
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Key, number, lane.
    #[derive(Debug, PartialEq)]
    struct Waiting(&'static str, u32, u32);

    impl Waits for Waiting {
        fn key(&self) -> Option<&str> {
            (!self.0.is_empty()).then_some(self.0)
        }

        fn lane(&self) -> Lane {
            Lane(self.2)
        }
    }

    fn lanes(messages: &[(&'static str, u32, u32)]) -> Lanes<Waiting> {
        let mut lanes = Lanes::new();
        messages.iter().for_each(|(key, number, lane)| lanes.push(Waiting(key, *number, *lane)));
        lanes
    }

    fn numbers(lanes: &mut Lanes<Waiting>) -> Vec<u32> {
        let now = Instant::now();
        std::iter::from_fn(|| lanes.pop(now)).map(|message| message.1).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_each_key_at_a_time_and_the_keyless_at_once() {
        let mut lanes = lanes(&[("a", 1, 0), ("a", 2, 0), ("", 3, 0), ("b", 4, 0), ("", 5, 0)]);
        assert_eq!(numbers(&mut lanes), [1, 3, 4, 5]);
        lanes.settled("a");
        assert_eq!(numbers(&mut lanes), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_sleeps_holds_up_its_key_alone() {
        let mut lanes = lanes(&[("a", 1, 0), ("a", 2, 0), ("b", 3, 0)]);
        let due = Instant::now() + Duration::from_secs(1);
        let first = lanes.pop(Instant::now()).unwrap();
        lanes.sleep(first, due);
        assert_eq!(numbers(&mut lanes), [3]);
        assert_eq!(lanes.pop(due).unwrap().1, 1);
        lanes.settled("a");
        assert_eq!(numbers(&mut lanes), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_revoked_leaves_and_others_go_on() {
        let mut lanes = lanes(&[("a", 1, 0), ("b", 2, 1), ("a", 3, 1), ("a", 4, 0), ("", 5, 1)]);
        let taken: Vec<u32> = lanes.take(&[Lane(1)]).iter().map(|message| message.1).collect();
        assert_eq!(taken, [3, 2, 5]);
        assert_eq!(numbers(&mut lanes), [1]);
        lanes.settled("a");
        assert_eq!(numbers(&mut lanes), [4]);
        assert!(lanes.take_all().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn after_everything_was_taken_keys_begin_anew_but_for_those_at_work() {
        let mut lanes = lanes(&[("a", 1, 0), ("a", 2, 0), ("b", 3, 0), ("b", 4, 0)]);
        assert_eq!(lanes.pop(Instant::now()).unwrap().1, 1);
        let taken: Vec<u32> = lanes.clear().iter().map(|message| message.1).collect();
        assert_eq!(taken.len(), 3, "{taken:?}");
        for (key, number) in [("a", 2), ("b", 3), ("b", 4)] {
            lanes.push(Waiting(key, number, 0));
        }
        assert_eq!(numbers(&mut lanes), [3], "a is still at work");
        lanes.settled("a");
        lanes.settled("b");
        assert_eq!(numbers(&mut lanes), [2, 4]);
    }
}
