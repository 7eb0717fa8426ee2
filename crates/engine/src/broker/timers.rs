//! Which queues want a tick, and when.

use std::collections::BTreeSet;

use ottla_store::StreamId;

use crate::clock::{Monotonic, Now, Wall};
use crate::queue::Deadline;

/// The deadlines of all queues, by both clocks.
#[derive(Debug, Default)]
pub(super) struct Timers {
    wall: BTreeSet<(Wall, StreamId)>,
    monotonic: BTreeSet<(Monotonic, StreamId)>,
}

impl Timers {
    /// Replaces the deadline of a queue.
    pub(super) fn change(&mut self, queue: StreamId, from: Deadline, to: Deadline) {
        if from.wall != to.wall {
            from.wall.map(|at| self.wall.remove(&(at, queue)));
            to.wall.map(|at| self.wall.insert((at, queue)));
        }
        if from.monotonic != to.monotonic {
            from.monotonic.map(|at| self.monotonic.remove(&(at, queue)));
            to.monotonic.map(|at| self.monotonic.insert((at, queue)));
        }
    }

    /// Takes out the queues whose time has come.
    pub(super) fn due(&mut self, now: Now) -> BTreeSet<StreamId> {
        let mut due = BTreeSet::new();
        while let Some((at, queue)) = self.wall.first().copied().filter(|(at, _)| *at <= now.wall) {
            self.wall.remove(&(at, queue));
            due.insert(queue);
        }
        while let Some((at, queue)) =
            self.monotonic.first().copied().filter(|(at, _)| *at <= now.monotonic)
        {
            self.monotonic.remove(&(at, queue));
            due.insert(queue);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_queues_whose_time_has_come_are_due_and_only_once() {
        let mut timers = Timers::default();
        let at = |ms| Deadline { wall: Some(Wall(ms)), monotonic: None };
        timers.change(StreamId(1), Deadline::default(), at(10));
        timers.change(StreamId(2), Deadline::default(), at(20));
        timers.change(StreamId(2), at(20), at(30));
        let now = |ms| Now { monotonic: Monotonic(0), wall: Wall(ms) };
        assert_eq!(timers.due(now(20)).into_iter().collect::<Vec<_>>(), [StreamId(1)]);
        assert!(timers.due(now(29)).is_empty());
        assert_eq!(timers.due(now(30)).len(), 1);
    }
}
