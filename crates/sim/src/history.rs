//! What was promised, and when, counted in disk calls: the ledger that a recovery is held against.

use ottla_store::{Lsn, Offset, StreamId};

use crate::model::Truth;

/// Every command in order, and what was promised of them at every disk call.
///
/// Invariant: places ascend; marks ascend in calls and in promises.
#[derive(Clone, Debug)]
pub struct History {
    steps: Vec<Step>,
    marks: Vec<Mark>,
}

/// A command that was appended: all of it or none is there after any crash.
#[derive(Clone, Debug)]
pub struct Step {
    /// The place of its first frame.
    pub first: Lsn,
    /// The place of its last frame.
    pub last: Lsn,
    /// Everything that exists after it.
    pub truth: Truth,
}

/// What stood after some disk call: states are named by the number of their last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    calls: u64,
    bounds: Bounds,
}

/// The states a recovery may find: after step `least` at least, after step `most` at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The newest state that was acknowledged or shown.
    pub least: usize,
    /// The newest state that was written.
    pub most: usize,
    /// The newest state that was acknowledged before the last group: what must be there even if the
    /// last group rots, which nothing can tell from a torn one (store.md rule 1).
    pub proven: usize,
}

impl History {
    /// A history that begins with what a recovery found, `newest` being its newest place, served
    /// from disk call `calls` on.
    #[must_use]
    pub fn from(truth: Truth, newest: Lsn, calls: u64) -> Self {
        let bounds = Bounds { least: 0, most: 0, proven: 0 };
        Self {
            steps: vec![Step { first: newest, last: newest, truth }],
            marks: vec![Mark { calls, bounds }],
        }
    }

    /// What exists after everything appended.
    #[must_use]
    pub fn now(&self) -> Truth {
        self.truth(self.steps.len() - 1)
    }

    /// What exists after step `at`.
    #[must_use]
    pub fn truth(&self, at: usize) -> Truth {
        self.steps.get(at).map(|step| step.truth.clone()).unwrap_or_default()
    }

    /// Adds a command.
    pub fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Notes that a compaction of `stream` below `below` begins. Whether it took place shows in no
    /// state: what it takes nobody misses.
    pub fn compact(&mut self, stream: StreamId, below: Offset) {
        for step in &mut self.steps {
            step.truth.compact(stream, below);
        }
    }

    /// Notes what stands after `calls` disk calls: `durable` was told, nothing else changed.
    pub fn mark(&mut self, calls: u64, durable: Lsn) {
        let before = self.newest();
        let least = self.durable_at(durable).max(before.least);
        let proven = if least > before.least { before.least } else { before.proven };
        let bounds = Bounds { least, most: self.steps.len() - 1, proven };
        if bounds != before {
            self.marks.push(Mark { calls, bounds });
        }
    }

    /// The number of the newest state of which everything is below `durable`.
    #[must_use]
    pub fn durable_at(&self, durable: Lsn) -> usize {
        self.steps.iter().rposition(|step| step.last.is_durable(durable)).unwrap_or(0)
    }

    /// What a recovery after disk call `call` may find: all that was promised until the next call
    /// began, and no more than was appended before this one began. `None` before this history began.
    #[must_use]
    pub fn bounds(&self, call: u64) -> Option<Bounds> {
        let promised = self.marks.iter().rev().find(|mark| mark.calls <= call)?.bounds;
        let written = self.marks.iter().rev().find(|mark| mark.calls < call);
        let most = written.map_or(0, |mark| mark.bounds.most).max(promised.least);
        Some(Bounds { most, ..promised })
    }

    /// The state whose newest frame is at `newest`.
    #[must_use]
    pub fn state_at(&self, newest: Lsn) -> usize {
        self.steps.iter().rposition(|step| step.first <= newest).unwrap_or(0)
    }

    /// Every state there was.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn newest(&self) -> Bounds {
        let none = Bounds { least: 0, most: 0, proven: 0 };
        self.marks.last().map_or(none, |mark| mark.bounds)
    }
}
