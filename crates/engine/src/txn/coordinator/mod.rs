//! The transaction coordinator (research/kafka.md 2.4): a pure machine. Knows no partition's log.
//!
//! An end is one frame (store.md rule 18): the decision, every marker, the groups' offsets and the
//! next epoch become durable together. So there are no Prepare states, and nobody is ever told
//! `CONCURRENT_TRANSACTIONS` (51): InitProducerId over an open transaction aborts it and answers.

mod end;
mod init;
mod record;
mod view;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use end::{EndError, EndRequest, EndVersion};
pub use init::{InitError, InitRequest};
pub use record::{
    Identity, RememberedTransactions, Transaction, TxnPartition, TxnRecord, TxnState,
};
pub use view::TransactionView;

use crate::clock::{Monotonic, Now, Wall};
use crate::txn::ids::{Outcome, ProducerEpoch, ProducerId};

/// What the operator decides about transactions, and the bounds; Kafka's names in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Longest timeout that a client may ask for, in milliseconds (`transaction.max.timeout.ms`).
    pub timeout_max_ms: u32,
    /// An id unused for so many milliseconds is forgotten (`transactional.id.expiration.ms`).
    pub expiration_ms: u64,
    /// Transactional ids; a new one beyond is refused.
    pub ids_max: usize,
    /// Partitions and groups in one transaction; more are refused, so that its end fits into a frame.
    pub parts_max: usize,
    /// Written into the markers; constant, as there is one coordinator.
    pub coordinator_epoch: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout_max_ms: 900_000,
            expiration_ms: 7 * 24 * 60 * 60 * 1000,
            ids_max: 100_000,
            parts_max: 50_000,
            coordinator_epoch: 0,
        }
    }
}

/// What the coordinator asks its caller to do, in order. The state has changed already: the caller
/// reserves its space before it asks (store.md rule 3). Every answer about the same transactional
/// id, this one included, waits for the newest effect of that id to be durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnEffect {
    /// Append this record to the log.
    Persist(TxnRecord),
    /// Append the end of a transaction as one frame.
    End(TxnEnd),
}

/// The end of a transaction: one frame of a marker for each partition, the end of the producer's
/// pending offsets for each group, and the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnEnd {
    /// The producer that the markers are for.
    pub producer: ProducerId,
    /// The markers' epoch; with `transaction.version` 2, or fencing, one above the producer's.
    pub epoch: ProducerEpoch,
    /// How it ends.
    pub outcome: Outcome,
    /// Written into the markers.
    pub coordinator_epoch: i32,
    /// Where markers go; a partition that no longer exists gets none.
    pub partitions: Vec<TxnPartition>,
    /// Groups whose pending offsets of this producer end.
    pub groups: Vec<Arc<str>>,
    /// The coordinator's own part.
    pub record: TxnRecord,
}

/// An answer and what has to be done for it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<T, E> {
    /// The answer.
    pub answer: Result<T, E>,
    /// To be carried out in order.
    pub effects: Vec<TxnEffect>,
}

/// Why partitions or a group were not added, or a write is not part of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// `INVALID_REQUEST` (42): the transactional id is empty.
    #[error("the transactional id is empty")]
    EmptyId,
    /// `INVALID_PRODUCER_ID_MAPPING` (49): the id is unknown or belongs to another producer.
    #[error("the transactional id does not belong to this producer")]
    WrongProducer,
    /// `PRODUCER_FENCED` (90); `INVALID_PRODUCER_EPOCH` (47) for AddPartitionsToTxn and
    /// AddOffsetsToTxn below version 2, and for Produce and TxnOffsetCommit.
    #[error("a newer incarnation of the producer exists")]
    Fenced,
    /// `INVALID_TXN_STATE` (48), or `TRANSACTION_ABORTABLE` (120) for Produce v11+ and
    /// TxnOffsetCommit v4+: not part of an open transaction. Only [`Transactions::verify_partition`]
    /// and [`Transactions::verify_group`] say so.
    #[error("not part of an open transaction")]
    NotInTransaction,
    /// `POLICY_VIOLATION` (44): the transaction has too many partitions and groups.
    #[error("too many partitions and groups in one transaction")]
    TooMany,
}

/// The coordinator of every transactional id.
///
/// Invariants: `remembered` is the fold of every record in the effects; each open transaction has a
/// deadline; each other id its place in `idle`.
#[derive(Debug)]
pub struct Transactions {
    settings: Settings,
    remembered: RememberedTransactions,
    /// When each open transaction times out.
    deadlines: BTreeMap<Arc<str>, Monotonic>,
    due: BTreeSet<(Monotonic, Arc<str>)>,
    /// Ids without an open transaction, by last use.
    idle: BTreeSet<(Wall, Arc<str>)>,
}

impl Transactions {
    /// No transactional id is known.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::restore(settings, RememberedTransactions::default(), Now::default())
    }

    /// The coordinator after a restart: every open transaction has its whole timeout again.
    #[must_use]
    pub fn restore(settings: Settings, remembered: RememberedTransactions, now: Now) -> Self {
        let ids: Vec<Arc<str>> = remembered.0.keys().cloned().collect();
        let (deadlines, due, idle) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let mut transactions = Self { settings, remembered, deadlines, due, idle };
        for id in ids {
            transactions.schedule(&id, now);
        }
        transactions
    }

    /// The coordinator's part of a snapshot.
    #[must_use]
    pub fn remembered(&self) -> &RememberedTransactions {
        &self.remembered
    }

    /// AddPartitionsToTxn, and the implicit addition by Produce v12 (`transaction.version` 2).
    /// Partitions that are in already are no error and cost nothing.
    pub fn add_partitions(
        &mut self,
        id: &str,
        who: Identity,
        partitions: Vec<TxnPartition>,
        now: Now,
    ) -> Decision<(), AddError> {
        self.add(id, who, partitions, Vec::new(), now)
    }

    /// AddOffsetsToTxn, and the implicit addition by TxnOffsetCommit v5 (`transaction.version` 2).
    pub fn add_group(
        &mut self,
        id: &str,
        who: Identity,
        group: Arc<str>,
        now: Now,
    ) -> Decision<(), AddError> {
        self.add(id, who, Vec::new(), vec![group], now)
    }

    /// Whether a transactional batch for this partition belongs to the open transaction: a lost one
    /// is never begun again by a late batch (store.md rule 18).
    pub fn verify_partition(
        &self,
        id: &str,
        who: Identity,
        partition: &TxnPartition,
    ) -> Result<(), AddError> {
        let found = self.owned_by(id, who)?;
        let contained = found.partitions.contains(partition);
        if contained { Ok(()) } else { Err(AddError::NotInTransaction) }
    }

    /// Whether offsets of this group belong to the open transaction (TxnOffsetCommit below v5).
    pub fn verify_group(&self, id: &str, who: Identity, group: &str) -> Result<(), AddError> {
        let found = self.owned_by(id, who)?;
        let contained = found.groups.contains(group);
        if contained { Ok(()) } else { Err(AddError::NotInTransaction) }
    }

    /// The earliest time at which a transaction is [`due`](Self::due).
    #[must_use]
    pub fn deadline(&self) -> Option<Monotonic> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Aborts the open transaction of an id if its time is over ([`due`](Self::due)), with an epoch bump that
    /// fences its producer.
    pub fn time_out(&mut self, id: &Arc<str>, now: Now) -> Vec<TxnEffect> {
        let mut effects = Vec::new();
        if self.deadlines.get(id).is_some_and(|at| *at <= now.monotonic) {
            self.fence(id, now, &mut effects);
        }
        effects
    }

    /// Forgets ids that were not used for long; asked for now and then.
    pub fn expire(&mut self, now: Wall) -> Vec<TxnEffect> {
        let mut effects = Vec::new();
        let after = self.settings.expiration_ms;
        while let Some((_, id)) = self.idle.first().filter(|(at, _)| at.after(after) <= now) {
            let id = Arc::clone(id);
            let now = Now { monotonic: Monotonic::default(), wall: now };
            self.persist(TxnRecord::Expired { id }, now, &mut effects);
        }
        effects
    }

    fn add(
        &mut self,
        id: &str,
        who: Identity,
        mut partitions: Vec<TxnPartition>,
        mut groups: Vec<Arc<str>>,
        now: Now,
    ) -> Decision<(), AddError> {
        let mut effects = Vec::new();
        let known = match self.owned_by(id, who) {
            Ok(known) => known,
            Err(error) => return Decision { answer: Err(error), effects },
        };
        partitions.retain(|partition| !known.partitions.contains(partition));
        groups.retain(|group| !known.groups.contains(group));
        if partitions.is_empty() && groups.is_empty() {
            return Decision { answer: Ok(()), effects };
        }
        let parts = known.partitions.len() + known.groups.len() + partitions.len() + groups.len();
        if parts > self.settings.parts_max {
            return Decision { answer: Err(AddError::TooMany), effects };
        }
        let record = TxnRecord::Added { id: id.into(), partitions, groups, at: now.wall };
        self.persist(record, now, &mut effects);
        Decision { answer: Ok(()), effects }
    }

    fn owned_by(&self, id: &str, who: Identity) -> Result<&Transaction, AddError> {
        if id.is_empty() {
            return Err(AddError::EmptyId);
        }
        let known = self.remembered.0.get(id).ok_or(AddError::WrongProducer)?;
        if known.identity.producer != who.producer {
            return Err(AddError::WrongProducer);
        }
        if known.identity.epoch != who.epoch {
            return Err(AddError::Fenced);
        }
        Ok(known)
    }

    /// Applies a record and asks for it to be logged.
    fn persist(&mut self, record: TxnRecord, now: Now, effects: &mut Vec<TxnEffect>) {
        self.applied(&record, now);
        effects.push(TxnEffect::Persist(record));
    }

    fn applied(&mut self, record: &TxnRecord, now: Now) {
        let id = Arc::clone(record.id());
        if let Some(before) = self.remembered.0.get(&id) {
            self.idle.remove(&(before.at, Arc::clone(&id)));
        }
        self.remembered.replay(record.clone());
        self.schedule(&id, now);
    }

    /// Puts the id's deadline or its place among the idle where its state wants it.
    fn schedule(&mut self, id: &Arc<str>, now: Now) {
        let known = self.remembered.0.get(id);
        let open = known.filter(|known| known.state == TxnState::Ongoing);
        match (open, self.deadlines.contains_key(id)) {
            (Some(open), false) => {
                let at = now.monotonic.after(open.timeout_ms.into());
                self.deadlines.insert(Arc::clone(id), at);
                self.due.insert((at, Arc::clone(id)));
            }
            (None, true) => {
                if let Some(at) = self.deadlines.remove(id) {
                    self.due.remove(&(at, Arc::clone(id)));
                }
            }
            _ => {}
        }
        if let Some(known) = known.filter(|known| known.state != TxnState::Ongoing) {
            self.idle.insert((known.at, Arc::clone(id)));
        }
    }
}
