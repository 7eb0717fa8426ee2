//! What the coordinator remembers over a restart: the records and their replay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_store::StreamId;
use serde::{Deserialize, Serialize};

use crate::clock::Wall;
use crate::txn::ids::{Outcome, ProducerEpoch, ProducerId};

/// A producer's number and incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub producer: ProducerId,
    /// Its incarnation.
    pub epoch: ProducerEpoch,
}

/// A partition in a transaction, by its stream: a topic that was deleted and created again under
/// the same name is another (store.md rule 12).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TxnPartition {
    stream: u64,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
}

/// One fact of the coordinator. Append-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnRecord {
    /// InitProducerId: no transaction is open.
    Initialised {
        /// `transactional.id`.
        id: Arc<str>,
        /// The producer from here on.
        identity: Identity,
        /// Who asked for it by name, so that its repetition is recognised (KIP-360).
        previous: Option<Identity>,
        /// Milliseconds that a transaction may take.
        timeout_ms: u32,
        /// When.
        at: Wall,
    },
    /// Partitions and groups have joined the transaction; the first opens it.
    Added {
        /// `transactional.id`.
        id: Arc<str>,
        /// Those that were not in it.
        partitions: Vec<TxnPartition>,
        /// Names of groups that were not in it.
        groups: Vec<Arc<str>>,
        /// When.
        at: Wall,
    },
    /// The transaction has ended; part of the one frame of EndTxn (store.md rule 18).
    Ended {
        /// `transactional.id`.
        id: Arc<str>,
        /// How.
        outcome: Outcome,
        /// The producer from here on.
        identity: Identity,
        /// Who ended it, so that its repetition is recognised; `None` if it was fenced.
        previous: Option<Identity>,
        /// When.
        at: Wall,
    },
    /// The id was not used for long.
    Expired {
        /// `transactional.id`.
        id: Arc<str>,
    },
}

/// Where a transaction stands. Append-only. Kafka's Prepare states do not exist: an end is one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TxnState {
    /// None was begun.
    Empty,
    /// Open.
    Ongoing,
    /// The last was committed.
    CompleteCommit,
    /// The last was aborted.
    CompleteAbort,
}

/// One transactional id, as it is remembered. Fields are only added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// The producer.
    pub identity: Identity,
    /// Whose repeated request is answered as the first.
    pub previous: Option<Identity>,
    /// Milliseconds that a transaction may take.
    pub timeout_ms: u32,
    /// Where it stands.
    pub state: TxnState,
    /// In the open transaction.
    pub partitions: BTreeSet<TxnPartition>,
    /// Names of the groups in the open transaction.
    pub groups: BTreeSet<Arc<str>>,
    /// When the open transaction began.
    pub started: Option<Wall>,
    /// When something was last changed.
    pub at: Wall,
}

/// The fold of the coordinator's records, also its part of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedTransactions(pub(super) BTreeMap<Arc<str>, Transaction>);

impl TxnPartition {
    /// A partition of a topic.
    #[must_use]
    pub fn new(stream: StreamId, topic: Arc<str>, partition: i32) -> Self {
        Self { stream: stream.0, topic, partition }
    }

    /// The partition's stream.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        StreamId(self.stream)
    }
}

impl TxnRecord {
    /// The transactional id that the record is about.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        match self {
            Self::Initialised { id, .. }
            | Self::Added { id, .. }
            | Self::Ended { id, .. }
            | Self::Expired { id } => id,
        }
    }
}

impl RememberedTransactions {
    /// A planted mistake: no transaction is open any more, and nobody has ended it.
    pub(crate) fn forget_open(&mut self) {
        for transaction in self.0.values_mut() {
            if transaction.state == TxnState::Ongoing {
                transaction.state = TxnState::Empty;
                transaction.partitions.clear();
                transaction.groups.clear();
            }
        }
    }

    /// Adds the next record.
    pub fn replay(&mut self, record: TxnRecord) {
        match record {
            TxnRecord::Initialised { id, identity, previous, timeout_ms, at } => {
                let fresh = Transaction {
                    identity,
                    previous,
                    timeout_ms,
                    state: TxnState::Empty,
                    partitions: BTreeSet::new(),
                    groups: BTreeSet::new(),
                    started: None,
                    at,
                };
                self.0.insert(id, fresh);
            }
            TxnRecord::Added { id, partitions, groups, at } => {
                if let Some(found) = self.0.get_mut(&id) {
                    found.state = TxnState::Ongoing;
                    found.partitions.extend(partitions);
                    found.groups.extend(groups);
                    found.started.get_or_insert(at);
                    found.at = at;
                }
            }
            TxnRecord::Ended { id, outcome, identity, previous, at } => {
                if let Some(found) = self.0.get_mut(&id) {
                    found.state = match outcome {
                        Outcome::Commit => TxnState::CompleteCommit,
                        Outcome::Abort => TxnState::CompleteAbort,
                    };
                    found.identity = identity;
                    found.previous = previous;
                    found.partitions.clear();
                    found.groups.clear();
                    found.started = None;
                    found.at = at;
                }
            }
            TxnRecord::Expired { id } => {
                self.0.remove(&id);
            }
        }
    }
}
