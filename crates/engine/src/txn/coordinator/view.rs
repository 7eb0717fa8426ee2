//! What ListTransactions and DescribeTransactions show.

use std::fmt;
use std::sync::Arc;

use super::Transactions;
use super::record::{Identity, Transaction, TxnPartition, TxnState};
use crate::clock::{Monotonic, Wall};

/// A transactional id as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionView<'a> {
    /// `transactional.id`.
    pub id: &'a Arc<str>,
    /// Where it stands; printed with Kafka's names.
    pub state: TxnState,
    /// The producer.
    pub identity: Identity,
    /// Milliseconds.
    pub timeout_ms: u32,
    /// When the open transaction began.
    pub started: Option<Wall>,
    /// In the open transaction.
    pub partitions: Vec<&'a TxnPartition>,
    /// Names of the groups in the open transaction.
    pub groups: Vec<&'a Arc<str>>,
}

impl fmt::Display for TxnState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        })
    }
}

impl Transactions {
    /// One transactional id; `TRANSACTIONAL_ID_NOT_FOUND` (105) if there is none.
    #[must_use]
    pub fn describe(&self, id: &str) -> Option<TransactionView<'_>> {
        self.remembered.0.get_key_value(id).map(view)
    }

    /// Open transactions whose time is over, those that have waited longest first.
    pub fn due(&self, now: Monotonic) -> impl Iterator<Item = TransactionView<'_>> {
        let due = self.due.iter().take_while(move |(at, _)| *at <= now);
        due.filter_map(|(_, id)| self.describe(id))
    }

    /// Every transactional id, by name.
    pub fn iter(&self) -> impl Iterator<Item = TransactionView<'_>> {
        self.remembered.0.iter().map(view)
    }
}

fn view<'a>((id, known): (&'a Arc<str>, &'a Transaction)) -> TransactionView<'a> {
    TransactionView {
        id,
        state: known.state,
        identity: known.identity,
        timeout_ms: known.timeout_ms,
        started: known.started,
        partitions: known.partitions.iter().collect(),
        groups: known.groups.iter().collect(),
    }
}
