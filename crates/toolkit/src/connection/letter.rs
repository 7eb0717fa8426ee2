//! What a message that failed carries with it: how often, why, and where it belongs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::delivery::Origin;
use crate::address::Address;
use crate::envelope::Envelope;
use crate::mint::Timestamp;

/// One attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempted {
    /// Its number, from 1.
    pub attempt: u32,
    /// When it failed.
    pub at: Timestamp,
    /// What went wrong.
    pub cause: String,
}

/// Why nobody tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Reason {
    /// As often as the policy allows.
    Exhausted,
    /// The handler said that it never will work.
    Permanent,
    /// It cannot be decoded.
    Undecodable,
    /// The handler panicked over it.
    Panicked,
    /// A message with its key is dead: it waits behind it.
    Parked,
}

/// A message among the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// As it was published, without what failing added.
    pub envelope: Envelope,
    /// Where it was read.
    pub source: Address,
    /// By whom.
    pub group: String,
    /// Why nobody tries again.
    pub reason: Reason,
    /// What went wrong last.
    pub cause: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was set aside.
    pub at: Timestamp,
    /// What went wrong before, oldest first; at most the last ten.
    pub history: Vec<Attempted>,
    /// How often it was sent back from here.
    pub redrives: u32,
}

/// Where a message is tried again: the queue itself, or a queue of the topic's group.
#[must_use]
pub fn retry_address(source: &Address, group: &str) -> Address {
    match source {
        Address::Queue(_) => source.clone(),
        Address::Topic(topic) => Address::Queue(format!("{topic}.{group}.retry")),
    }
}

/// Where a message is set aside.
#[must_use]
pub fn dead_address(source: &Address, group: &str) -> Address {
    match source {
        Address::Queue(queue) => Address::Queue(format!("{queue}.dead")),
        Address::Topic(topic) => Address::Queue(format!("{topic}.{group}.dead")),
    }
}

/// Attempts that failed before.
pub(super) fn attempts(envelope: &Envelope) -> u32 {
    number(envelope, ATTEMPT)
}

/// The same for another attempt.
pub(super) fn again(mut envelope: Envelope, attempt: u32, cause: &str, now: Timestamp) -> Envelope {
    remember(&mut envelope, attempt, cause, now);
    envelope.headers.insert(ATTEMPT.to_owned(), attempt.to_string());
    envelope
}

/// The same as a dead letter.
pub(super) fn dead(
    mut envelope: Envelope,
    origin: &Origin,
    attempt: u32,
    reason: Reason,
    cause: &str,
    now: Timestamp,
) -> Envelope {
    remember(&mut envelope, attempt, cause, now);
    let mut put = |name: &str, value: String| envelope.headers.insert(name.to_owned(), value);
    put(ATTEMPT, attempt.to_string());
    put(SOURCE, origin.source.to_string());
    put(GROUP, origin.group.clone());
    put(REASON, reason.to_string());
    put(CAUSE, shortened(cause).to_owned());
    put(DEAD_AT, now.to_string());
    envelope
}

impl DeadLetter {
    /// Reads a dead letter; `None` if it is none.
    #[must_use]
    pub fn read(mut envelope: Envelope) -> Option<Self> {
        let (attempts, redrives) = (number(&envelope, ATTEMPT), number(&envelope, REDRIVES));
        let history = history(&envelope);
        let mut take = |name: &str| envelope.headers.remove(name);
        let source = Address::from(take(SOURCE)?);
        let (group, cause) = (take(GROUP).unwrap_or_default(), take(CAUSE).unwrap_or_default());
        let reason = Reason::parse(&take(REASON)?)?;
        let at = Timestamp::parse(&take(DEAD_AT)?)?;
        for name in [ATTEMPT, HISTORY, REDRIVES, UNPARK] {
            take(name);
        }
        Some(Self { envelope, source, group, reason, cause, attempts, at, history, redrives })
    }

    /// The message to be tried from the start again, and where: with its id, counting the redrive.
    #[must_use]
    pub fn redriven(self) -> (Address, Envelope) {
        let to = retry_address(&self.source, &self.group);
        let redrives = self.redrives.saturating_add(1).to_string();
        (to, self.envelope.with_header(REDRIVES, redrives))
    }
}

impl Reason {
    /// Reads its name, as it is displayed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Exhausted, Self::Permanent, Self::Undecodable, Self::Panicked, Self::Parked]
            .into_iter()
            .find(|reason| reason.to_string() == text)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exhausted => "exhausted",
            Self::Permanent => "permanent",
            Self::Undecodable => "undecodable",
            Self::Panicked => "panicked",
            Self::Parked => "parked",
        })
    }
}

fn remember(envelope: &mut Envelope, attempt: u32, cause: &str, at: Timestamp) {
    let mut history = history(envelope);
    let excess = (history.len() + 1).saturating_sub(HISTORY_MAX);
    history.drain(..excess);
    history.push(Attempted { attempt, at, cause: shortened(cause).to_owned() });
    if let Ok(text) = serde_json::to_string(&history) {
        envelope.headers.insert(HISTORY.to_owned(), text);
    }
}

fn history(envelope: &Envelope) -> Vec<Attempted> {
    let text = envelope.headers.get(HISTORY);
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn number(envelope: &Envelope, name: &str) -> u32 {
    envelope.headers.get(name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Headers are no place for a stack trace.
fn shortened(cause: &str) -> &str {
    let mut end = cause.len().min(CAUSE_BYTES_MAX);
    while !cause.is_char_boundary(end) {
        end -= 1;
    }
    cause.get(..end).unwrap_or_default()
}

/// How often a message was sent back from the dead letters.
pub(crate) fn redrives(envelope: &Envelope) -> u32 {
    number(envelope, REDRIVES)
}

/// Whether it is the last of its key that was sent back: later ones need not be set aside any more.
pub(crate) fn ends_parking(envelope: &Envelope) -> bool {
    envelope.headers.contains_key(UNPARK)
}

/// The header that counts failed attempts.
pub const ATTEMPT: &str = "ottla-attempt";
const HISTORY: &str = "ottla-history";
const SOURCE: &str = "ottla-dead-source";
const GROUP: &str = "ottla-dead-group";
const REASON: &str = "ottla-dead-reason";
const CAUSE: &str = "ottla-dead-cause";
const DEAD_AT: &str = "ottla-dead-at";
const REDRIVES: &str = "ottla-redrives";
/// On the last message of a key that is sent back.
pub(crate) const UNPARK: &str = "ottla-unpark";
/// Failed attempts that a message remembers.
const HISTORY_MAX: usize = 10;
const CAUSE_BYTES_MAX: usize = 1_000;
