//! One step of a saga: a request, its answers, and what undoes it.

use std::fmt;
use std::time::Duration;

use crate::address::Address;
use crate::envelope::Envelope;
use crate::error::Result;
use crate::message::Message;
use crate::mint::Mint;

/// A request that a saga makes.
pub(super) struct Request<D> {
    pub(super) to: Address,
    pub(super) name: &'static str,
    make: Box<MakeFn<D>>,
}

/// A message that moves a saga on.
pub(super) struct Reply<D> {
    pub(super) from: Address,
    pub(super) name: &'static str,
    take: Box<TakeFn<D>>,
}

type MakeFn<D> = dyn Fn(&D, &Mint) -> Result<Envelope> + Send + Sync;
type TakeFn<D> = dyn Fn(&mut D, &Envelope) -> Result<()> + Send + Sync;

/// What undoes a step, and what says that it is undone.
pub(super) struct Undo<D> {
    pub(super) request: Request<D>,
    pub(super) done: Reply<D>,
}

/// A step of a saga, see [`step`].
pub struct Step<D> {
    pub(super) name: &'static str,
    pub(super) request: Request<D>,
    pub(super) done: Vec<Reply<D>>,
    pub(super) failed: Vec<Reply<D>>,
    pub(super) undo: Option<Undo<D>>,
    pub(super) within: Duration,
}

/// A step that lacks the answer that means *done*.
#[must_use = "say which answer means that the step is done"]
pub struct Asked<D> {
    name: &'static str,
    request: Request<D>,
}

/// A step that lacks the answer that means *undone*.
#[must_use = "say which answer means that the step is undone"]
pub struct Undoing<D> {
    step: Step<D>,
    request: Request<D>,
}

/// A step: its name, which is stored and must not change while sagas are under way, and what it asks of
/// whom.
pub fn step<D: 'static, M: Message>(
    name: &'static str,
    to: impl Into<Address>,
    make: impl Fn(&D) -> M + Send + Sync + 'static,
) -> Asked<D> {
    Asked { name, request: Request::new(to, make) }
}

impl<D: 'static> Asked<D> {
    /// This answer means that the step is done.
    pub fn done_on<M: Message>(self, from: impl Into<Address>) -> Step<D> {
        self.done_with(from, |_, _: M| {})
    }

    /// The same, and something of the answer is remembered.
    pub fn done_with<M: Message>(
        self,
        from: impl Into<Address>,
        remember: impl Fn(&mut D, M) + Send + Sync + 'static,
    ) -> Step<D> {
        Step {
            name: self.name,
            request: self.request,
            done: vec![Reply::new(from, remember)],
            failed: Vec::new(),
            undo: None,
            within: WITHIN,
        }
    }
}

impl<D: 'static> Step<D> {
    /// This answer means that it was refused: nothing was done, what was done before is undone.
    #[must_use]
    pub fn failed_on<M: Message>(mut self, from: impl Into<Address>) -> Self {
        self.failed.push(Reply::new(from, |_, _: M| {}));
        self
    }

    /// What undoes it.
    pub fn undo<M: Message>(
        self,
        to: impl Into<Address>,
        make: impl Fn(&D) -> M + Send + Sync + 'static,
    ) -> Undoing<D> {
        Undoing { request: Request::new(to, make), step: self }
    }

    /// How long to wait for an answer before the step counts as failed; one minute unless said otherwise.
    /// Nobody knows then whether it was done: it is undone like the steps before it.
    #[must_use]
    pub const fn within(mut self, wait: Duration) -> Self {
        self.within = wait;
        self
    }
}

impl<D: 'static> Undoing<D> {
    /// This answer means that it is undone. Until it comes the undo is asked again and again.
    #[must_use]
    pub fn undone_on<M: Message>(self, from: impl Into<Address>) -> Step<D> {
        let done = Reply::new(from, |_, _: M| {});
        Step { undo: Some(Undo { request: self.request, done }), ..self.step }
    }
}

impl<D: 'static> Request<D> {
    pub(super) fn new<M: Message>(
        to: impl Into<Address>,
        make: impl Fn(&D) -> M + Send + Sync + 'static,
    ) -> Self {
        let make = move |data: &D, mint: &Mint| Envelope::of(&make(data), mint);
        Self { to: to.into(), name: M::NAME, make: Box::new(make) }
    }

    pub(super) fn envelope(&self, data: &D, mint: &Mint) -> Result<Envelope> {
        (self.make)(data, mint)
    }
}

impl<D: 'static> Reply<D> {
    pub(super) fn new<M: Message>(
        from: impl Into<Address>,
        remember: impl Fn(&mut D, M) + Send + Sync + 'static,
    ) -> Self {
        let take = move |data: &mut D, envelope: &Envelope| {
            remember(data, envelope.decode()?);
            Ok(())
        };
        Self { from: from.into(), name: M::NAME, take: Box::new(take) }
    }

    pub(super) fn take(&self, data: &mut D, envelope: &Envelope) -> Result<()> {
        (self.take)(data, envelope)
    }
}

impl<D> fmt::Debug for Step<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("name", &self.name)
            .field("asks", &self.request.name)
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}

impl<D> fmt::Debug for Asked<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<D> fmt::Debug for Undoing<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undoing").field("step", &self.step).finish_non_exhaustive()
    }
}

const WITHIN: Duration = Duration::from_secs(60);
