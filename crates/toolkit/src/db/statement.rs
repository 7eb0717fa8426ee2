//! A statement on its way to either database, and what comes back.

use std::borrow::Cow;

use super::{Row, Value};

/// SQL with its parameters, `$1` being the first.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) params: Vec<Value>,
}

/// What the caller wants to hear.
#[derive(Debug, Clone, Copy)]
pub(super) enum Want {
    /// How many rows it changed.
    Count,
    /// The rows it found.
    Rows,
    /// Nothing: several statements without parameters.
    Script,
}

/// The answer to a [`Statement`].
#[derive(Debug)]
pub(super) enum Answer {
    Count(u64),
    Rows(Vec<Row>),
}

impl Answer {
    pub(super) fn count(self) -> u64 {
        match self {
            Self::Count(count) => count,
            Self::Rows(rows) => u64::try_from(rows.len()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn rows(self) -> Vec<Row> {
        match self {
            Self::Count(_) => Vec::new(),
            Self::Rows(rows) => rows,
        }
    }
}

/// PostgreSQL's `$1` as SQLite's `?1`, but for what stands in quotes and comments.
#[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "only SQLite needs it"))]
pub(super) fn numbered(sql: &str) -> Cow<'_, str> {
    if !sql.contains('$') {
        return Cow::Borrowed(sql);
    }
    let mut out = String::with_capacity(sql.len());
    let mut within: Option<char> = None;
    let mut characters = sql.chars().peekable();
    while let Some(character) = characters.next() {
        let next = characters.peek().copied();
        match within {
            Some(end) if character == end => within = None,
            Some(_) => {}
            None if character == '\'' || character == '"' => within = Some(character),
            None if character == '-' && next == Some('-') => within = Some('\n'),
            None if character == '$' && next.is_some_and(|digit| digit.is_ascii_digit()) => {
                out.push('?');
                continue;
            }
            None => {}
        }
        out.push(character);
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_as_sqlite_wants_them() {
        assert_eq!(numbered("SELECT 1"), "SELECT 1");
        assert_eq!(numbered("a=$2 AND b=$1"), "a=?2 AND b=?1");
        assert_eq!(numbered("a='$1' -- $2\nb=$3 \"$4\" '' $5"), "a='$1' -- $2\nb=?3 \"$4\" '' ?5");
    }
}
