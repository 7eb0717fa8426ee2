//! What can go wrong between a program and its database, one variant for each reaction.

use std::time::Duration;

/// Why a database did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DbError {
    /// The address is of no known kind.
    #[error(
        "{url:?} is no database address: write sqlite:PATH, sqlite::memory: or postgres://USER:PASSWORD@HOST:PORT/DATABASE ({reason})"
    )]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The program was built without what this address needs.
    #[error(
        "{url} needs the feature `{feature}` of the crate ottla: add features = [\"{feature}\"] to it in Cargo.toml"
    )]
    Feature {
        /// What was given.
        url: String,
        /// The feature that is off.
        feature: &'static str,
    },
    /// It cannot be opened or reached. Trying again later may help.
    #[error(
        "cannot open the database {address}: {reason}. Is it running, does it exist, and may this user use it?"
    )]
    Unreachable {
        /// Where it was looked for, without a password.
        address: String,
        /// The database's own words.
        reason: String,
    },
    /// Nothing was done, because somebody else held on for too long. Trying again may help.
    #[error(
        "waited {waited:?} for {what}: another transaction is held open for too long ({advice})"
    )]
    Busy {
        /// How long.
        waited: Duration,
        /// For what.
        what: &'static str,
        /// What to look at.
        advice: &'static str,
    },
    /// This transaction was held open without a statement for too long and was rolled back.
    #[error(
        "the transaction was rolled back: it was open for {limit:?} without a statement, and on SQLite one transaction is the whole database. Do slow work before the first statement"
    )]
    Expired {
        /// The bound that was passed.
        limit: Duration,
    },
    /// Another transaction was first. Run the whole transaction again.
    #[error("another transaction was first: run this one again ({reason})")]
    Conflict {
        /// The database's own words.
        reason: String,
    },
    /// A UNIQUE, CHECK, NOT NULL or FOREIGN KEY said no. Running it again does not help.
    #[error("a constraint of the table refuses it: {reason} (in: {sql})")]
    Constraint {
        /// The database's own words.
        reason: String,
        /// The beginning of the statement.
        sql: String,
    },
    /// The statement is wrong, or a parameter does not fit. Running it again does not help.
    #[error("the database refuses the statement: {reason} (in: {sql})")]
    Statement {
        /// The database's own words.
        reason: String,
        /// The beginning of the statement.
        sql: String,
    },
    /// An earlier statement failed, and with it the transaction.
    #[error(
        "an earlier statement of this transaction failed, so nothing of it counts: roll back and begin again"
    )]
    Aborted,
    /// The connection or the file failed under a statement: it did nothing. Try again later.
    #[error("lost the database: {reason}")]
    Lost {
        /// The database's own words.
        reason: String,
    },
    /// The connection or the file failed under the commit: it may or may not have happened.
    #[error(
        "the database was lost while it committed: {reason}. Whether it did is unknown; run it again behind an inbox, which knows"
    )]
    Unknown {
        /// The database's own words.
        reason: String,
    },
    /// The tables are of a later release.
    #[error(
        "the tables of `{component}` are of version {found}, this program knows up to {known}: run the newer program"
    )]
    Newer {
        /// Whose tables.
        component: String,
        /// The version in the database.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// A column is not what the program reads it as.
    #[error(
        "column `{column}` is not {wanted}: change what it is read as, or cast it in the statement"
    )]
    Column {
        /// Its name.
        column: String,
        /// What it should be.
        wanted: &'static str,
    },
}

impl DbError {
    /// Whether the same transaction, run again from its beginning, may succeed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Busy { .. }
                | Self::Conflict { .. }
                | Self::Expired { .. }
                | Self::Lost { .. }
                | Self::Unknown { .. }
        )
    }
}

/// As much of a statement as an error shows.
pub(super) fn shown(sql: &str) -> String {
    let mut line: String = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(SHOWN_MAX) {
        line.truncate(end);
        line.push('…');
    }
    line
}

const SHOWN_MAX: usize = 120;
