//! Regular expressions that operators write: compiled once, of bounded size, matched in linear time.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// A regular expression on names. Not anchored, as in RabbitMQ: `log` matches `catalog`.
#[derive(Clone)]
pub struct Pattern(Regex);

/// Text that is no regular expression, or one that would be too large.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid regular expression: {0}")]
pub struct BadPattern(String);

impl Pattern {
    /// Compiles a pattern of a policy.
    ///
    /// # Errors
    /// No regular expression, or one larger than 1 MiB compiled.
    pub fn new(text: &str) -> Result<Self, BadPattern> {
        let regex = RegexBuilder::new(text).size_limit(COMPILED_BYTES_MAX).build();
        regex.map(Self).map_err(|error| BadPattern(error.to_string()))
    }

    /// Compiles a pattern of a permission: the empty one means none, not all.
    ///
    /// # Errors
    /// As [`Pattern::new`].
    pub fn of_permission(text: &str) -> Result<Self, BadPattern> {
        Self::new(if text.is_empty() { "^$" } else { text })
    }

    /// Whether the name has a part that matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// A compiled pattern larger than this is refused.
const COMPILED_BYTES_MAX: usize = 1 << 20;
