//! Deciding, without a runtime: from what happened and what is wanted to what happens.
//!
//! A [`Decider`] is pure: no clock, no chance, no database. What it needs to know comes in the command.
//! So its tests need nothing either:
//!
//! ```
//! use ottla::decider::{Decider, EventSet, Scope, given};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! #[serde(tag = "type")]
//! enum Event {
//!     AccountCreated { id: String, balance: i64 },
//!     Deposited { amount: i64 },
//!     Withdrawn { amount: i64 },
//! }
//! impl EventSet for Event {}
//!
//! #[derive(Clone)]
//! enum Command {
//!     Open { id: String },
//!     Deposit { id: String, amount: i64 },
//!     Withdraw { id: String, amount: i64 },
//! }
//!
//! #[derive(Debug, PartialEq, thiserror::Error)]
//! #[error("the account has {balance}, {wanted} were wanted")]
//! struct TooLittle { balance: i64, wanted: i64 }
//!
//! struct Account;
//! impl Decider for Account {
//!     type Command = Command;
//!     type Event = Event;
//!     type State = i64;
//!     type Error = TooLittle;
//!
//!     fn scope(command: &Command) -> Scope {
//!         let (Command::Open { id } | Command::Deposit { id, .. } | Command::Withdraw { id, .. }) = command;
//!         Scope::stream(format!("account-{id}"))
//!     }
//!
//!     fn decide(balance: &i64, command: Command) -> Result<Vec<Event>, TooLittle> {
//!         match command {
//!             Command::Open { id } => Ok(vec![Event::AccountCreated { id, balance: 0 }]),
//!             Command::Deposit { amount, .. } => Ok(vec![Event::Deposited { amount }]),
//!             Command::Withdraw { amount, .. } if amount > *balance => {
//!                 Err(TooLittle { balance: *balance, wanted: amount })
//!             }
//!             Command::Withdraw { amount, .. } => Ok(vec![Event::Withdrawn { amount }]),
//!         }
//!     }
//!
//!     fn evolve(balance: &mut i64, event: &Event) {
//!         match event {
//!             Event::AccountCreated { balance: first, .. } => *balance = *first,
//!             Event::Deposited { amount } => *balance += amount,
//!             Event::Withdrawn { amount } => *balance -= amount,
//!         }
//!     }
//! }
//!
//! let opened = || Event::AccountCreated { id: "123".into(), balance: 0 };
//! given::<Account>([opened(), Event::Deposited { amount: 100 }])
//!     .when(Command::Withdraw { id: "123".into(), amount: 30 })
//!     .then([Event::Withdrawn { amount: 30 }])
//!     .then_state(&70);
//! given::<Account>([opened()])
//!     .when(Command::Withdraw { id: "123".into(), amount: 30 })
//!     .then_refused(&TooLittle { balance: 0, wanted: 30 });
//! ```

use std::fmt::{self, Debug};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Cause, Error};

/// The events of one kind of stream: an enum that serde writes with its name in a field `type`
/// (`#[serde(tag = "type")]`). The name outlives the Rust type: give it with `#[serde(rename = "…")]`
/// where the variant may be renamed.
pub trait EventSet: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Of the shapes that are written, from 1. Raise it when [`upcast`](Self::upcast) must tell old from new.
    const VERSION: u16 = 1;

    /// The names that this set reads; others are passed over. Empty: all of them, and a name that serde does
    /// not know is an error. A projection names what it wants, an account names nothing.
    const NAMES: &'static [&'static str] = &[];

    /// What else than its stream an event belongs to: what [`Scope::Tags`] finds it by.
    fn tags(&self) -> Vec<Tag> {
        Vec::new()
    }

    /// Turns an event of an older version into today's: its fields, its name, or both.
    ///
    /// ```
    /// # use ottla::decider::{EventSet, Old};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Serialize, Deserialize)]
    /// #[serde(tag = "type")]
    /// enum Event { Deposited { cents: i64 } }
    ///
    /// impl EventSet for Event {
    ///     const VERSION: u16 = 2;
    ///     fn upcast(mut old: Old) -> Old {
    ///         if old.version < 2 && old.name == "Deposited" { // version 1 counted in euros
    ///             let euros = old.body["amount"].as_i64().unwrap_or_default();
    ///             old.body = serde_json::json!({ "cents": euros * 100 });
    ///         }
    ///         old
    ///     }
    /// }
    /// ```
    #[must_use]
    fn upcast(old: Old) -> Old {
        old
    }
}

/// An event as it was written, on its way through [`EventSet::upcast`].
#[derive(Debug, Clone, PartialEq)]
pub struct Old {
    /// Its name.
    pub name: String,
    /// The version it was written with.
    pub version: u16,
    /// Its fields.
    pub body: serde_json::Value,
}

/// What an event belongs to besides its stream: `course:eda`, `student:7`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

/// Which events a decision rests on, and so which new ones would have changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// One stream: one thing with its own history and versions.
    Stream(String),
    /// Whatever carries these tags, across streams: a consistency boundary drawn by the decision itself
    /// (dynamic consistency boundary).
    Tags(Query),
}

/// Events that fit any of its parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    pub(crate) parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) names: Vec<String>,
    pub(crate) tags: Vec<Tag>,
}

/// What a command may cause, as two pure functions.
pub trait Decider: 'static {
    /// What is wanted. It carries everything the decision needs that did not happen in this scope.
    type Command: Clone + Send + Sync + 'static;
    /// What happens.
    type Event: EventSet;
    /// What a decision rests on; its default is the state before the first event.
    type State: Default + Clone + Send + Sync + 'static;
    /// Why a command is refused.
    type Error: std::error::Error + Send + Sync + 'static;

    /// A snapshot after each so many events of a stream; 0: none. Worth it from some hundred events on.
    const SNAPSHOT_EVERY: u64 = 0;
    /// Of the state's shape. Snapshots of another version are passed over.
    const SNAPSHOT_VERSION: u16 = 1;

    /// What the command is about.
    fn scope(command: &Self::Command) -> Scope;

    /// What happens, or why not. No events: nothing needs to happen.
    ///
    /// # Errors
    /// The reason why the command is refused.
    fn decide(state: &Self::State, command: Self::Command)
    -> Result<Vec<Self::Event>, Self::Error>;

    /// The state after an event. It cannot refuse: it happened.
    fn evolve(state: &mut Self::State, event: &Self::Event);

    /// The state as a snapshot keeps it: [`snapshot`] for most. `None`: no snapshots.
    fn save(state: &Self::State) -> Option<Vec<u8>> {
        let _ = state;
        None
    }

    /// Reads what [`save`](Self::save) wrote: [`restore`] for most. `None`: replay instead.
    fn load(saved: &[u8]) -> Option<Self::State> {
        let _ = saved;
        None
    }
}

/// [`Decider::save`] for a state that serde can write.
pub fn snapshot<S: Serialize>(state: &S) -> Option<Vec<u8>> {
    serde_json::to_vec(state).ok()
}

/// [`Decider::load`] for a state that serde can read.
#[must_use]
pub fn restore<S: DeserializeOwned>(saved: &[u8]) -> Option<S> {
    serde_json::from_slice(saved).ok()
}

/// The state after these events.
#[must_use]
pub fn fold<'a, D: Decider>(events: impl IntoIterator<Item = &'a D::Event>) -> D::State {
    let mut state = D::State::default();
    for event in events {
        D::evolve(&mut state, event);
    }
    state
}

impl Tag {
    /// `key:value`.
    pub fn new(key: impl fmt::Display, value: impl fmt::Display) -> Self {
        Self(format!("{key}:{value}"))
    }

    /// As it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scope {
    /// One stream.
    pub fn stream(name: impl Into<String>) -> Self {
        Self::Stream(name.into())
    }

    /// Whatever carries any of these tags.
    pub fn any_of(tags: impl IntoIterator<Item = Tag>) -> Self {
        Self::Tags(tags.into_iter().fold(Query::default(), |query, tag| query.or([tag])))
    }
}

impl Query {
    /// Events that carry all of these tags.
    pub fn all_of(tags: impl IntoIterator<Item = Tag>) -> Self {
        Self::default().or(tags)
    }

    /// Or those that carry all of these.
    #[must_use]
    pub fn or(mut self, tags: impl IntoIterator<Item = Tag>) -> Self {
        self.parts.push(Part { names: Vec::new(), tags: tags.into_iter().collect() });
        self
    }

    /// Of the part added last, only events of these names.
    #[must_use]
    pub fn named<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        if let Some(part) = self.parts.last_mut() {
            part.names.extend(names.into_iter().map(str::to_owned));
        }
        self
    }

    pub(crate) fn tags(&self) -> impl Iterator<Item = &Tag> {
        self.parts.iter().flat_map(|part| &part.tags)
    }
}

/// An event's name and its fields.
pub(crate) fn write<E: EventSet>(event: &E) -> Result<(String, Vec<u8>), Error> {
    let failed = |source: Cause| Error::Encode { name: std::any::type_name::<E>(), source };
    let mut value = serde_json::to_value(event).map_err(|error| failed(error.into()))?;
    let name = value.as_object_mut().and_then(|fields| fields.remove(NAME_FIELD));
    let Some(serde_json::Value::String(name)) = name else {
        return Err(failed(
            "the enum needs #[serde(tag = \"type\")]: its events have no name".into(),
        ));
    };
    let body = serde_json::to_vec(&value).map_err(|error| failed(error.into()))?;
    Ok((name, body))
}

/// The event, or `None` if its name is none of [`EventSet::NAMES`].
pub(crate) fn read<E: EventSet>(name: &str, version: u16, body: &[u8]) -> Result<Option<E>, Error> {
    let failed = |source: Cause| Error::Decode { name: name.to_owned(), version, source };
    let wanted = |name: &str| E::NAMES.is_empty() || E::NAMES.contains(&name);
    if version >= E::VERSION && !wanted(name) {
        return Ok(None); // before its body is looked at
    }
    let body = serde_json::from_slice(body).map_err(|error| failed(error.into()))?;
    let mut old = Old { name: name.to_owned(), version, body };
    if version < E::VERSION {
        old = E::upcast(old);
        if !wanted(&old.name) {
            return Ok(None);
        }
    }
    let Old { name: current, body: mut value, .. } = old;
    match value.as_object_mut() {
        Some(fields) => drop(fields.insert(NAME_FIELD.to_owned(), current.into())),
        None => return Err(failed("its body is no JSON object".into())),
    }
    serde_json::from_value(value).map(Some).map_err(|error| {
        let hint = "is it newer than this program, or does EventSet::upcast forget it?";
        failed(format!("{error}; {hint}").into())
    })
}

/// What has happened before.
#[must_use]
pub fn given<D: Decider>(events: impl IntoIterator<Item = D::Event>) -> Given<D> {
    Given { state: fold::<D>(&events.into_iter().collect::<Vec<_>>()) }
}

/// A test's beginning, see [`given`].
pub struct Given<D: Decider> {
    state: D::State,
}

/// What a command led to.
pub struct When<D: Decider> {
    state: D::State,
    outcome: Result<Vec<D::Event>, D::Error>,
}

impl<D: Decider> Given<D> {
    /// The command.
    #[must_use = "say what was expected with then, then_nothing or then_refused"]
    pub fn when(self, command: D::Command) -> When<D> {
        let outcome = D::decide(&self.state, command);
        let mut state = self.state;
        for event in outcome.iter().flatten() {
            D::evolve(&mut state, event);
        }
        When { state, outcome }
    }
}

#[expect(clippy::panic, reason = "a test says what it expected")]
impl<D: Decider> When<D> {
    /// Exactly these events happen.
    ///
    /// # Panics
    /// If others do.
    #[track_caller]
    pub fn then(self, events: impl IntoIterator<Item = D::Event>) -> Self
    where
        D::Event: PartialEq + Debug,
    {
        let expected: Vec<_> = events.into_iter().collect();
        match &self.outcome {
            Ok(happened) => assert_eq!(*happened, expected, "other events happened"),
            Err(error) => panic!("refused: {error}; expected were {expected:?}"),
        }
        self
    }

    /// Nothing happens, and that is fine.
    ///
    /// # Panics
    /// If something does.
    #[track_caller]
    pub fn then_nothing(self) -> Self
    where
        D::Event: PartialEq + Debug,
    {
        self.then([])
    }

    /// The state afterwards.
    ///
    /// # Panics
    /// If it is another.
    #[track_caller]
    pub fn then_state(self, expected: &D::State) -> Self
    where
        D::State: PartialEq + Debug,
    {
        assert_eq!(self.state, *expected, "another state");
        self
    }

    /// It is refused, for this reason.
    ///
    /// # Panics
    /// If it is not, or for another.
    #[track_caller]
    pub fn then_refused(self, expected: &D::Error)
    where
        D::Event: Debug,
        D::Error: PartialEq,
    {
        match self.outcome {
            Ok(events) => panic!("not refused: {events:?}"),
            Err(error) => assert_eq!(error, *expected, "refused for another reason"),
        }
    }
}

impl<D: Decider> Debug for Given<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").finish_non_exhaustive()
    }
}

impl<D: Decider> Debug for When<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("When").finish_non_exhaustive()
    }
}

const NAME_FIELD: &str = "type";
