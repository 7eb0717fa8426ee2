//! What can go wrong, and what a handler says of it.

use std::fmt;
use std::time::Duration;

/// Any cause.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;
/// The result of the toolkit's own calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the toolkit did not do what was asked. Each text says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A connection line or an address that cannot be meant.
    #[error("{given:?} is no address: {hint}")]
    Address {
        /// As given.
        given: String,
        /// What would be one.
        hint: String,
    },
    /// Nobody answers there, or not as expected. Trying again may help.
    #[error("{address} cannot be reached: {source}. {hint}")]
    Unreachable {
        /// Where.
        address: String,
        /// What was seen.
        source: Cause,
        /// What to look at.
        hint: String,
    },
    /// The broker or the store said no; the same again gets the same answer.
    #[error("{doing} was refused: {why}")]
    Refused {
        /// What was asked for.
        doing: String,
        /// In the words of who refused.
        why: String,
    },
    /// A body is not what its reader expects. Trying again does not help.
    #[error("a message {name:?} version {version} cannot be read: {source}")]
    Decode {
        /// The message's name.
        name: String,
        /// Its version.
        version: u16,
        /// What did not fit.
        source: Cause,
    },
    /// A value cannot be written as JSON.
    #[error("a message {name:?} cannot be written: {source}")]
    Encode {
        /// The message's name.
        name: &'static str,
        /// What did not fit.
        source: Cause,
    },
    /// A message's schema is not what its registry and its readers can agree to, or a value is not what its
    /// schema says. Trying again does not help.
    #[error("the schema of {subject} cannot be used: {why}. {hint}")]
    Schema {
        /// Which subject or message.
        subject: String,
        /// Which field, and what was changed.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// Somebody else was faster: read again and decide again.
    #[error("{what} is at {found}, expected was {expected}: load it again and decide again")]
    Conflict {
        /// Which stream, saga or checkpoint.
        what: String,
        /// What the caller had seen.
        expected: String,
        /// What is there.
        found: String,
    },
    /// What is stored in a database could not be read or written.
    #[error("the store failed while {doing}: {source}")]
    Store {
        /// What was tried.
        doing: String,
        /// What the database said.
        source: Cause,
    },
    /// The transport or the store cannot do this at all.
    #[error("{what} is not possible here: {hint}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// The connection, the feed or the service was closed.
    #[error("{0} is closed")]
    Closed(&'static str),
}

impl Error {
    /// Whether the same call may succeed a little later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Conflict { .. } | Self::Store { .. })
    }

    pub(crate) fn refused(doing: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::Refused { doing: doing.into(), why: why.to_string() }
    }

    pub(crate) fn address(given: &str, hint: impl Into<String>) -> Self {
        Self::Address { given: given.to_owned(), hint: hint.into() }
    }
}

/// Why a handler did not do its work, and what is to be done about it.
///
/// Any error becomes [`Transient`](Self::Transient) with `?`; say [`permanent`](Self::permanent) where
/// trying again cannot help.
///
/// ```
/// use ottla::Failure;
///
/// fn parse(text: &str) -> Result<u32, Failure> {
///     let number: u32 = text.parse().map_err(Failure::permanent)?; // never will be a number
///     Ok(number)
/// }
/// assert!(matches!(parse("x"), Err(Failure::Permanent(_))));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// May work later: tried again as the policy says.
    Transient(Cause),
    /// Never will: to the dead letters at once.
    Permanent(Cause),
    /// May work after this long, whatever the policy's backoff says; counts as an attempt.
    After(Duration, Cause),
    /// Not a failure of the message: given back without counting (shutdown, lost lease).
    Released,
}

impl Failure {
    /// Trying again cannot help.
    pub fn permanent(cause: impl Into<Cause>) -> Self {
        Self::Permanent(cause.into())
    }

    /// Try again, but not before this.
    pub fn after(wait: Duration, cause: impl Into<Cause>) -> Self {
        Self::After(wait, cause.into())
    }
}

impl<E: Into<Cause>> From<E> for Failure {
    fn from(cause: E) -> Self {
        let cause = cause.into();
        match cause.downcast_ref::<Error>() {
            Some(Error::Decode { .. } | Error::Unsupported { .. } | Error::Schema { .. }) => {
                Self::Permanent(cause)
            }
            _ => Self::Transient(cause),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transient(cause) | Self::Permanent(cause) | Self::After(_, cause) => {
                write!(f, "{cause}")?;
                let mut source = cause.source();
                while let Some(deeper) = source {
                    write!(f, ": {deeper}")?;
                    source = deeper.source();
                }
                Ok(())
            }
            Self::Released => f.write_str("given back"),
        }
    }
}
