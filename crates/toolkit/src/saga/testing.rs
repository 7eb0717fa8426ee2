//! Given, when, then: a saga's test needs no runtime, no broker and no database.

use std::fmt::Debug;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::definition::Saga;
use super::instance::{Instance, Phase, Turn};
use crate::address::Address;
use crate::envelope::{Envelope, Outgoing};
use crate::message::Message;
use crate::mint::Mint;

/// A saga that a message has begun.
///
/// # Panics
/// If the message has no key or does not begin the saga.
#[track_caller]
pub fn given<'a, D, M>(saga: &'a Saga<D>, start: &M) -> Given<'a, D>
where
    D: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    M: Message,
{
    Given { saga, mint: Mint::fixed(1), instance: None, sends: Vec::new() }.when(start)
}

/// A saga in a test, and what it sent last.
pub struct Given<'a, D> {
    saga: &'a Saga<D>,
    mint: Mint,
    instance: Option<Instance<D>>,
    sends: Vec<Outgoing>,
}

#[expect(clippy::panic, clippy::expect_used, reason = "a test says what it expected")]
impl<D: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Given<'_, D> {
    /// A message comes. What the saga sent before and nobody looked at is forgotten.
    ///
    /// # Panics
    /// If the saga cannot read it.
    #[track_caller]
    pub fn when<M: Message>(mut self, message: &M) -> Self {
        let envelope =
            Envelope::of(message, &self.mint).expect("a message in a test has a JSON form");
        let turn = self.saga.receive(self.instance.take(), &envelope, &self.mint);
        self.turned(turn.expect("the saga reads its messages"))
    }

    /// Nobody answers until the saga looks by itself.
    ///
    /// # Panics
    /// If it waits for nothing.
    #[track_caller]
    pub fn when_nobody_answers(mut self) -> Self {
        let instance = self.instance.take().expect("a saga has begun");
        let due = instance.due.expect("the saga waits for an answer");
        self.mint.advance(due.since(self.mint.now()).max(Duration::from_millis(1)));
        let turn = self.saga.wake(instance, &self.mint);
        self.turned(turn.expect("the saga writes its messages"))
    }

    /// A person says that a stuck saga shall go on.
    ///
    /// # Panics
    /// If it has not begun.
    #[track_caller]
    pub fn when_resumed(mut self) -> Self {
        let instance = self.instance.take().expect("a saga has begun");
        let turn = self.saga.resume(instance, &self.mint);
        self.turned(turn.expect("the saga writes its messages"))
    }

    /// It sent this, and nothing else that was not asked for yet.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn then_sends<M: Message + PartialEq + Debug>(mut self, to: &str, message: &M) -> Self {
        assert!(!self.sends.is_empty(), "nothing was sent; expected was {message:?} to {to}");
        let Outgoing { to: sent_to, envelope, .. } = self.sends.remove(0);
        assert_eq!(sent_to, Address::from(to), "it was sent somewhere else");
        match envelope.decode::<M>() {
            Ok(sent) => assert_eq!(sent, *message, "something else was sent"),
            Err(error) => panic!("something else was sent: {error}"),
        }
        self
    }

    /// It sent nothing, or nothing more.
    ///
    /// # Panics
    /// If it did.
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        assert!(self.sends.is_empty(), "it sent {:?}", self.sends);
        self
    }

    /// It is completed.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn then_completed(self) {
        assert_eq!(self.phase(), &Phase::Completed);
    }

    /// It has failed, everything is undone.
    ///
    /// # Panics
    /// If it has not, or for another reason.
    #[track_caller]
    pub fn then_failed(self, why: &str) {
        assert_eq!(self.phase(), &Phase::Failed { why: why.to_owned() });
    }

    /// Where it stands.
    ///
    /// # Panics
    /// If it has not begun.
    #[track_caller]
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.instance.as_ref().expect("a saga has begun").phase
    }

    fn turned(mut self, turn: Turn<D>) -> Self {
        self.instance = turn.instance;
        self.sends = turn.sends;
        self
    }
}

impl<D> Debug for Given<'_, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given").field("sends", &self.sends).finish_non_exhaustive()
    }
}
