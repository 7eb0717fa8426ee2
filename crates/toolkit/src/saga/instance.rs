//! One saga under way: what moves it, and where to. Pure.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::definition::Saga;
use super::step::Step;
use crate::envelope::{Envelope, Outgoing};
use crate::error::Result;
use crate::mint::{Mint, Timestamp};

/// Where a saga stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Phase {
    /// A step was asked for.
    Doing {
        /// Its name.
        step: String,
    },
    /// Something failed: a step's undo was asked for.
    Undoing {
        /// Its name.
        step: String,
        /// Why.
        why: String,
        /// How often it was asked for.
        attempt: u32,
    },
    /// An undo was not answered as often as the saga allows, or a step is unknown to this program: a
    /// person must look, see [`Saga::resume`] and [`Saga::skip`].
    Stuck {
        /// The step.
        step: String,
        /// Why the saga failed.
        why: String,
        /// Why it is stuck.
        cause: String,
    },
    /// All steps are done.
    Completed,
    /// Everything is undone.
    Failed {
        /// Why.
        why: String,
    },
}

/// Something that happened to a saga.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: String,
}

/// One saga.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instance<D> {
    /// The key of its messages.
    pub id: String,
    /// Where it stands.
    pub phase: Phase,
    /// What it remembers; `None` if it was called off before it began.
    pub data: Option<D>,
    /// When it looks again by itself.
    pub due: Option<Timestamp>,
    /// What happened, oldest first; the last hundred.
    pub history: Vec<Moment>,
    /// The message that moved it last, without its body: the story that its messages belong to.
    last: Envelope,
}

/// What one message, or the clock, led to.
#[derive(Clone, Debug)]
#[must_use = "what it sends, and the instance, are to be stored in one transaction"]
pub struct Turn<D> {
    /// The saga afterwards; `None` if the message belongs to none.
    pub instance: Option<Instance<D>>,
    /// What it sends.
    pub sends: Vec<Outgoing>,
    /// Whether anything changed. Late and repeated answers change nothing.
    pub moved: bool,
}

impl Phase {
    /// Whether nothing moves it any more.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed { .. })
    }

    /// As it is stored and listed: `doing`, `undoing`, `stuck`, `completed`, `failed`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Doing { .. } => "doing",
            Self::Undoing { .. } => "undoing",
            Self::Stuck { .. } => "stuck",
            Self::Completed => "completed",
            Self::Failed { .. } => "failed",
        }
    }
}

impl<D: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Saga<D> {
    /// What a message leads to. `instance`: the saga with the message's key, if there is one.
    ///
    /// # Errors
    /// A message that cannot be read or written: trying again does not help.
    pub fn receive(
        &self,
        instance: Option<Instance<D>>,
        message: &Envelope,
        mint: &Mint,
    ) -> Result<Turn<D>> {
        let starts = message.name == self.start.name;
        let cancels = self.cancels.iter().any(|cancel| cancel.name == message.name);
        match (instance, &message.key) {
            (None, Some(key)) if starts => {
                let fresh = Instance::new(key, message);
                self.begin(Turning::new(fresh, message, mint), message)
            }
            (None, Some(key)) if cancels => {
                let why = format!("called off by {}", message.name);
                let mut turning = Turning::new(Instance::new(key, message), message, mint);
                turning.enter(Phase::Failed { why }, None);
                Ok(turning.end())
            }
            (None, _) => Ok(Turn { instance: None, sends: Vec::new(), moved: false }),
            (Some(instance), _) => {
                let turning = Turning::new(instance, message, mint);
                if starts && turning.instance.data.is_none() {
                    return self.refuse(turning, message);
                }
                if cancels { self.cancel(turning, message) } else { self.answer(turning, message) }
            }
        }
    }

    /// What the clock leads to, once the instance is [due](Instance::due).
    ///
    /// # Errors
    /// A message that cannot be written.
    pub fn wake(&self, instance: Instance<D>, mint: &Mint) -> Result<Turn<D>> {
        let turning = Turning::again(instance, mint);
        match turning.instance.phase.clone() {
            Phase::Doing { step } => {
                let why = format!("{step}: no answer in time");
                self.undo_from(turning, &step, true, why)
            }
            Phase::Undoing { step, why, attempt } if attempt >= self.undo.attempts => {
                let cause = format!("its undo was asked for {attempt} times and not answered");
                Ok(self.stick(turning, step, why, cause))
            }
            Phase::Undoing { step, why, attempt } => {
                self.ask_undo(turning, &step, why, attempt.saturating_add(1))
            }
            _ => Ok(Turn { instance: Some(turning.instance), sends: Vec::new(), moved: false }),
        }
    }

    /// Asks once more for the undo that a [stuck](Phase::Stuck) saga waits for: for the person who has
    /// mended the cause.
    ///
    /// # Errors
    /// A message that cannot be written.
    pub fn resume(&self, instance: Instance<D>, mint: &Mint) -> Result<Turn<D>> {
        let turning = Turning::again(instance, mint);
        match turning.instance.phase.clone() {
            Phase::Stuck { step, why, .. } => self.ask_undo(turning, &step, why, 1),
            _ => Ok(Turn { instance: Some(turning.instance), sends: Vec::new(), moved: false }),
        }
    }

    /// Takes the undo that a [stuck](Phase::Stuck) saga waits for as done: for the person who did it by hand.
    ///
    /// # Errors
    /// A message that cannot be written.
    pub fn skip(&self, instance: Instance<D>, mint: &Mint) -> Result<Turn<D>> {
        let mut turning = Turning::again(instance, mint);
        match turning.instance.phase.clone() {
            Phase::Stuck { step, why, .. } => {
                turning.note(format!("undo of {step} taken as done by a person"));
                self.undo_from(turning, &step, false, why)
            }
            _ => Ok(Turn { instance: Some(turning.instance), sends: Vec::new(), moved: false }),
        }
    }

    fn begin(&self, mut turning: Turning<'_, D>, message: &Envelope) -> Result<Turn<D>> {
        turning.instance.data = Some(self.start.begin(message)?);
        match self.steps.first() {
            Some(first) => self.ask(turning, first),
            None => self.complete(turning),
        }
    }

    /// It was called off before it began: now there is somebody to tell.
    fn refuse(&self, mut turning: Turning<'_, D>, message: &Envelope) -> Result<Turn<D>> {
        turning.instance.data = Some(self.start.begin(message)?);
        let Phase::Failed { why } = turning.instance.phase.clone() else {
            return Ok(turning.end());
        };
        self.fail(turning, why)
    }

    fn cancel(&self, turning: Turning<'_, D>, message: &Envelope) -> Result<Turn<D>> {
        match turning.instance.phase.clone() {
            Phase::Doing { step } => {
                let why = format!("called off by {}", message.name);
                self.undo_from(turning, &step, true, why)
            }
            _ => Ok(turning.unmoved()),
        }
    }

    fn answer(&self, mut turning: Turning<'_, D>, message: &Envelope) -> Result<Turn<D>> {
        let is = |reply: &super::step::Reply<D>| reply.name == message.name;
        match turning.instance.phase.clone() {
            Phase::Doing { step: name } => {
                let Some(step) = self.find(&name) else { return Ok(self.lost(turning, name)) };
                if let Some(reply) = step.done.iter().find(|reply| is(reply)) {
                    if let Some(data) = &mut turning.instance.data {
                        reply.take(data, message)?;
                    }
                    return match self.after(&name) {
                        Some(next) => self.ask(turning, next),
                        None => self.complete(turning),
                    };
                }
                if step.failed.iter().any(is) {
                    let why = format!("{name}: {}", message.name);
                    return self.undo_from(turning, &name, false, why);
                }
                Ok(turning.unmoved())
            }
            Phase::Undoing { step: name, why, .. } | Phase::Stuck { step: name, why, .. } => {
                let Some(step) = self.find(&name) else { return Ok(self.lost(turning, name)) };
                if step.undo.as_ref().is_some_and(|undo| is(&undo.done)) {
                    return self.undo_from(turning, &name, false, why);
                }
                Ok(turning.unmoved())
            }
            Phase::Completed | Phase::Failed { .. } => Ok(turning.unmoved()),
        }
    }

    fn ask(&self, mut turning: Turning<'_, D>, step: &Step<D>) -> Result<Turn<D>> {
        turning.send(step.request.to.clone(), |data, mint| step.request.envelope(data, mint))?;
        let due = turning.mint.now().after(step.within);
        turning.enter(Phase::Doing { step: step.name.to_owned() }, Some(due));
        Ok(turning.end())
    }

    /// Undoes the steps before `name`, the last first; `name` itself too if nobody knows what became of it.
    fn undo_from(
        &self,
        turning: Turning<'_, D>,
        name: &str,
        itself: bool,
        why: String,
    ) -> Result<Turn<D>> {
        let Some(place) = self.steps.iter().position(|step| step.name == name) else {
            return Ok(self.lost(turning, name.to_owned()));
        };
        let done = self.steps.iter().take(place + usize::from(itself));
        match done.rev().find(|step| step.undo.is_some()) {
            Some(step) => self.ask_undo(turning, step.name, why, 1),
            None => self.fail(turning, why),
        }
    }

    fn ask_undo(
        &self,
        mut turning: Turning<'_, D>,
        name: &str,
        why: String,
        attempt: u32,
    ) -> Result<Turn<D>> {
        let Some(undo) = self.find(name).and_then(|step| step.undo.as_ref()) else {
            return Ok(self.lost(turning, name.to_owned()));
        };
        turning.send(undo.request.to.clone(), |data, mint| undo.request.envelope(data, mint))?;
        let due = turning.mint.now().after(self.undo.wait(attempt));
        turning.enter(Phase::Undoing { step: name.to_owned(), why, attempt }, Some(due));
        Ok(turning.end())
    }

    fn complete(&self, mut turning: Turning<'_, D>) -> Result<Turn<D>> {
        if let Some(done) = &self.completed {
            turning.send(done.to.clone(), |data, mint| done.envelope(data, mint))?;
        }
        turning.enter(Phase::Completed, None);
        Ok(turning.end())
    }

    fn fail(&self, mut turning: Turning<'_, D>, why: String) -> Result<Turn<D>> {
        if let Some(failed) = &self.failed {
            turning.send(failed.to.clone(), |data, mint| failed.envelope(data, &why, mint))?;
        }
        turning.enter(Phase::Failed { why }, None);
        Ok(turning.end())
    }

    /// A step that this program does not know: it was renamed or removed while the saga was under way.
    fn lost(&self, turning: Turning<'_, D>, step: String) -> Turn<D> {
        let why = match &turning.instance.phase {
            Phase::Undoing { why, .. } | Phase::Stuck { why, .. } => why.clone(),
            _ => format!("{step}: unknown"),
        };
        let cause =
            format!("the saga {:?} has no step {step:?} any more that could be undone", self.name);
        self.stick(turning, step, why, cause)
    }

    fn stick(
        &self,
        mut turning: Turning<'_, D>,
        step: String,
        why: String,
        cause: String,
    ) -> Turn<D> {
        tracing::error!(
            saga = self.name,
            id = turning.instance.id,
            step,
            why,
            cause,
            "a saga is stuck"
        );
        turning.enter(Phase::Stuck { step, why, cause }, None);
        turning.end()
    }

    fn find(&self, name: &str) -> Option<&Step<D>> {
        self.steps.iter().find(|step| step.name == name)
    }

    fn after(&self, name: &str) -> Option<&Step<D>> {
        self.steps.iter().skip_while(|step| step.name != name).nth(1)
    }
}

impl<D> Instance<D> {
    /// As an operator lets it go on, whose program does not know the saga's steps: its own program asks for the
    /// undo when it looks at the clock. `None` if it is not stuck.
    pub(super) fn resumed(mut self, now: Timestamp) -> Option<Self> {
        let Phase::Stuck { step, why, .. } = self.phase else { return None };
        note(&mut self.history, now, format!("resumed at {step} by an operator"));
        self.phase = Phase::Undoing { step, why, attempt: 0 };
        self.due = Some(now);
        Some(self)
    }

    fn new(key: &str, message: &Envelope) -> Self {
        let phase = Phase::Failed { why: "it has not begun".to_owned() };
        let last = without_body(message);
        Self { id: key.to_owned(), phase, data: None, due: None, history: Vec::new(), last }
    }
}

/// An instance while it is being moved.
struct Turning<'a, D> {
    instance: Instance<D>,
    sends: Vec<Outgoing>,
    mint: &'a Mint,
}

impl<'a, D> Turning<'a, D> {
    fn new(mut instance: Instance<D>, message: &Envelope, mint: &'a Mint) -> Self {
        instance.last = without_body(message);
        Self { instance, sends: Vec::new(), mint }
    }

    fn again(instance: Instance<D>, mint: &'a Mint) -> Self {
        Self { instance, sends: Vec::new(), mint }
    }

    fn send(
        &mut self,
        to: crate::address::Address,
        make: impl FnOnce(&D, &Mint) -> Result<Envelope>,
    ) -> Result<()> {
        let Some(data) = &self.instance.data else { return Ok(()) };
        let mut envelope = make(data, self.mint)?.caused_by(&self.instance.last, self.mint);
        envelope.key.get_or_insert_with(|| self.instance.id.clone());
        self.sends.push(Outgoing { to, envelope, delay: None });
        Ok(())
    }

    fn enter(&mut self, phase: Phase, due: Option<Timestamp>) {
        let what = match &phase {
            Phase::Doing { step } => format!("asked for {step}"),
            Phase::Undoing { step, why, attempt: 1 } => format!("asked to undo {step}: {why}"),
            Phase::Undoing { step, attempt, .. } => {
                format!("asked to undo {step}, attempt {attempt}")
            }
            Phase::Stuck { step, cause, .. } => format!("stuck at {step}: {cause}"),
            Phase::Completed => "completed".to_owned(),
            Phase::Failed { why } => format!("failed: {why}"),
        };
        self.note(what);
        self.instance.phase = phase;
        self.instance.due = due;
    }

    fn note(&mut self, what: String) {
        note(&mut self.instance.history, self.mint.now(), what);
    }

    fn end(self) -> Turn<D> {
        Turn { instance: Some(self.instance), sends: self.sends, moved: true }
    }

    fn unmoved(self) -> Turn<D> {
        Turn { instance: Some(self.instance), sends: Vec::new(), moved: false }
    }
}

fn note(history: &mut Vec<Moment>, at: Timestamp, what: String) {
    if history.len() >= HISTORY_MAX {
        history.remove(0);
    }
    history.push(Moment { at, what });
}

fn without_body(message: &Envelope) -> Envelope {
    Envelope {
        body: bytes::Bytes::new(),
        headers: crate::envelope::Headers::new(),
        ..message.clone()
    }
}

/// Moments that a saga remembers.
const HISTORY_MAX: usize = 100;
