//! What a saga is made of.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::step::{Request, Step};
use crate::address::Address;
use crate::envelope::Envelope;
use crate::error::Result;
use crate::message::Message;
use crate::mint::Mint;

/// A saga's definition; `D` is what it remembers about each of its instances.
pub struct Saga<D> {
    pub(super) name: &'static str,
    pub(super) start: Start<D>,
    pub(super) steps: Vec<Step<D>>,
    pub(super) cancels: Vec<Cancel>,
    pub(super) completed: Option<Request<D>>,
    pub(super) failed: Option<Failed<D>>,
    pub(super) undo: UndoPolicy,
}

/// The message that begins it.
pub(super) struct Start<D> {
    pub(super) from: Address,
    pub(super) name: &'static str,
    begin: Box<BeginFn<D>>,
}

/// A message that calls it off.
pub(super) struct Cancel {
    pub(super) from: Address,
    pub(super) name: &'static str,
}

/// What is said when everything was undone.
pub(super) struct Failed<D> {
    pub(super) to: Address,
    pub(super) name: &'static str,
    make: Box<FailedFn<D>>,
}

type BeginFn<D> = dyn Fn(&Envelope) -> Result<D> + Send + Sync;
type FailedFn<D> = dyn Fn(&D, &str, &Mint) -> Result<Envelope> + Send + Sync;

/// How an undo is asked again.
#[derive(Clone, Copy, Debug)]
pub(super) struct UndoPolicy {
    pub(super) first_wait: Duration,
    pub(super) longest_wait: Duration,
    pub(super) attempts: u32,
}

impl<D: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Saga<D> {
    /// A saga that begins with a message. Its name is stored and must not change.
    pub fn starts_on<M: Message>(
        name: &'static str,
        from: impl Into<Address>,
        begin: impl Fn(M) -> D + Send + Sync + 'static,
    ) -> Self {
        let begin = move |envelope: &Envelope| Ok(begin(envelope.decode()?));
        Self {
            name,
            start: Start { from: from.into(), name: M::NAME, begin: Box::new(begin) },
            steps: Vec::new(),
            cancels: Vec::new(),
            completed: None,
            failed: None,
            undo: UndoPolicy {
                first_wait: Duration::from_secs(1),
                longest_wait: Duration::from_secs(300),
                attempts: 20,
            },
        }
    }

    /// What comes next.
    #[must_use]
    pub fn step(mut self, step: Step<D>) -> Self {
        self.steps.push(step);
        self
    }

    /// This message calls it off: what was done is undone, and the step that is being asked for too. It
    /// may come before the message that begins the saga.
    #[must_use]
    pub fn cancelled_on<M: Message>(mut self, from: impl Into<Address>) -> Self {
        self.cancels.push(Cancel { from: from.into(), name: M::NAME });
        self
    }

    /// What is said once all steps are done.
    #[must_use]
    pub fn completes_with<M: Message>(
        mut self,
        to: impl Into<Address>,
        make: impl Fn(&D) -> M + Send + Sync + 'static,
    ) -> Self {
        self.completed = Some(Request::new(to, make));
        self
    }

    /// What is said once everything is undone, with the reason.
    #[must_use]
    pub fn fails_with<M: Message>(
        mut self,
        to: impl Into<Address>,
        make: impl Fn(&D, &str) -> M + Send + Sync + 'static,
    ) -> Self {
        let make = move |data: &D, why: &str, mint: &Mint| Envelope::of(&make(data, why), mint);
        self.failed = Some(Failed { to: to.into(), name: M::NAME, make: Box::new(make) });
        self
    }

    /// How often an undo that is not answered is asked for before a person must look, and how long to wait
    /// between: doubling from `first_wait` to `longest_wait`. 20 times, 1 s to 5 min, unless said otherwise.
    #[must_use]
    pub const fn undo_again(
        mut self,
        attempts: u32,
        first_wait: Duration,
        longest_wait: Duration,
    ) -> Self {
        self.undo = UndoPolicy { first_wait, longest_wait, attempts };
        self
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Where its messages come from, each once.
    #[must_use]
    pub fn sources(&self) -> Vec<Address> {
        let mut sources: Vec<Address> = self.heeds().map(|(from, _)| from.clone()).collect();
        sources.sort_unstable();
        sources.dedup();
        sources
    }

    /// The messages it listens to, and where.
    pub(crate) fn heeds(&self) -> impl Iterator<Item = (&Address, &'static str)> {
        let start = (&self.start.from, self.start.name);
        let replies = self.steps.iter().flat_map(|step| {
            let undone = step.undo.iter().map(|undo| &undo.done);
            step.done.iter().chain(&step.failed).chain(undone)
        });
        let cancels = self.cancels.iter().map(|cancel| (&cancel.from, cancel.name));
        std::iter::once(start).chain(replies.map(|reply| (&reply.from, reply.name))).chain(cancels)
    }

    /// The messages it sends, and where to.
    pub(crate) fn emits(&self) -> impl Iterator<Item = (&Address, &'static str)> {
        let steps = self.steps.iter().flat_map(|step| {
            let undo = step.undo.iter().map(|undo| &undo.request);
            std::iter::once(&step.request).chain(undo)
        });
        let ends = self.failed.iter().map(|failed| (&failed.to, failed.name));
        steps.chain(&self.completed).map(|request| (&request.to, request.name)).chain(ends)
    }
}

impl<D> Start<D> {
    pub(super) fn begin(&self, envelope: &Envelope) -> Result<D> {
        (self.begin)(envelope)
    }
}

impl<D> Failed<D> {
    pub(super) fn envelope(&self, data: &D, why: &str, mint: &Mint) -> Result<Envelope> {
        (self.make)(data, why, mint)
    }
}

impl UndoPolicy {
    /// How long to wait for the answer to the attempt with this number, from 1.
    pub(super) fn wait(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(30);
        self.first_wait.saturating_mul(1 << doublings).min(self.longest_wait)
    }
}

impl<D> fmt::Debug for Saga<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saga")
            .field("name", &self.name)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}
