//! Transactions in the engine: the coordinator behind one lock, its facts in the log, and the end of a
//! transaction as one frame (store.md rule 18).
//!
//! Whether a batch or an offset belongs to an open transaction is checked under the same lock that
//! ends it, and appended before the lock is given back: nothing lands behind the marker.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ottla_store::batch::{Marker, PreparedBatch, control_marker};
use ottla_store::frame::{Frame, Item};
use ottla_store::{Lsn, Purpose, Refused, Reservation};

use super::Engine;
use super::groups::{CommitRefused, Commits, GroupCell};
use super::open::PlantedBug;
use crate::clock::{Monotonic, Now};
use crate::fact::{Fact, TransactionEnded, encode};
use crate::group::GroupId;
use crate::group::classic::Committer;
use crate::group::offsets::Commit;
use crate::topic::{Partition, ProduceError, Produced};
use crate::txn::Outcome;
use crate::txn::coordinator::{
    AddError, EndError, EndRequest, Identity, InitError, InitRequest, RememberedTransactions,
    Settings, Transactions, TxnEffect, TxnEnd, TxnPartition, TxnRecord,
};
use crate::txn::producers::ProducerError;

/// The coordinator of every transactional id.
#[derive(Debug)]
pub(super) struct Txns {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    machine: Transactions,
    /// The place of the newest fact.
    changed: Lsn,
    /// When unused ids are looked for next.
    expires: Monotonic,
}

/// An answer of the coordinator, and the place that its reply waits for, also when it is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided<T, E> {
    /// The answer.
    pub answer: Result<T, E>,
    /// The newest fact of the coordinator.
    pub lsn: Lsn,
}

/// Who writes in a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// `transactional.id`.
    pub id: &'a str,
    /// The producer.
    pub who: Identity,
    /// `transaction.version` 2: what is written joins the transaction by itself (KIP-890).
    pub implicit: bool,
}

/// Why a transactional batch was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TxnProduceError {
    /// By the coordinator.
    #[error(transparent)]
    Add(#[from] AddError),
    /// By the partition or the log.
    #[error(transparent)]
    Produce(#[from] ProduceError),
}

/// Why offsets were not taken into a transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TxnCommitRefused {
    /// By the coordinator.
    #[error(transparent)]
    Add(#[from] AddError),
    /// By the group or the log.
    #[error(transparent)]
    Commit(#[from] CommitRefused),
}

impl From<Refused> for TxnProduceError {
    fn from(refused: Refused) -> Self {
        Self::Produce(refused.into())
    }
}

impl From<Refused> for TxnCommitRefused {
    fn from(refused: Refused) -> Self {
        Self::Commit(refused.into())
    }
}

impl Engine {
    /// InitProducerId with a transactional id. What was open is aborted in the same step.
    pub fn init_transactions(
        &self,
        request: InitRequest,
    ) -> Result<Decided<Identity, InitError>, Refused> {
        let now = self.now();
        let mut txns = self.txns.lock();
        let id = request.id.clone().unwrap_or_default();
        let mut room = self.room(&txns, &id, 2)?;
        let mut ids = self.producer_ids_ready()?;
        let decision = txns.machine.init(request, &mut || ids.draw(), now);
        let drawn = ids.lsn();
        drop(ids);
        self.carry_out_txn(&mut txns, decision.effects, &mut room, now);
        Ok(Decided { answer: decision.answer, lsn: txns.changed.max(drawn) })
    }

    /// AddPartitionsToTxn.
    pub fn add_partitions(
        &self,
        id: &str,
        who: Identity,
        partitions: &[Arc<Partition>],
    ) -> Result<Decided<(), AddError>, Refused> {
        let now = self.now();
        let mut txns = self.txns.lock();
        let partitions: Vec<TxnPartition> = partitions.iter().map(|p| txn_partition(p)).collect();
        let bytes: usize = partitions.iter().map(|p| p.topic.len() + PARTITION_BYTES).sum();
        let mut room = vec![self.store.reserve(Purpose::Grow, 1, bytes + id.len() + FACT_BYTES)?];
        let decision = txns.machine.add_partitions(id, who, partitions, now);
        self.carry_out_txn(&mut txns, decision.effects, &mut room, now);
        Ok(Decided { answer: decision.answer, lsn: txns.changed })
    }

    /// Whether partitions are in a transaction (AddPartitionsToTxn with `verify_only`).
    pub fn verify_partitions(
        &self,
        id: &str,
        who: Identity,
        partitions: &[Arc<Partition>],
    ) -> Vec<Result<(), AddError>> {
        let txns = self.txns.lock();
        let verify = |p: &Arc<Partition>| txns.machine.verify_partition(id, who, &txn_partition(p));
        partitions.iter().map(verify).collect()
    }

    /// AddOffsetsToTxn.
    pub fn add_group(
        &self,
        id: &str,
        who: Identity,
        group: &GroupId,
    ) -> Result<Decided<(), AddError>, Refused> {
        let mut txns = self.txns.lock();
        let answer = self.join_group(&mut txns, id, who, group)?;
        Ok(Decided { answer, lsn: txns.changed })
    }

    fn join_group(
        &self,
        txns: &mut Inner,
        id: &str,
        who: Identity,
        group: &GroupId,
    ) -> Result<Result<(), AddError>, Refused> {
        let now = self.now();
        let bytes = id.len() + group.as_str().len() + FACT_BYTES;
        let mut room = vec![self.store.reserve(Purpose::Grow, 1, bytes)?];
        let decision = txns.machine.add_group(id, who, group.as_str().into(), now);
        self.carry_out_txn(txns, decision.effects, &mut room, now);
        Ok(decision.answer)
    }

    /// Appends a client's checked batch as part of a transaction.
    pub fn produce_in_transaction(
        &self,
        writer: Writer<'_>,
        partition: &Partition,
        batch: PreparedBatch,
        now: Now,
    ) -> Result<Produced, TxnProduceError> {
        let mut txns = self.txns.lock();
        let part = txn_partition(partition);
        match txns.machine.verify_partition(writer.id, writer.who, &part) {
            Err(AddError::NotInTransaction) if writer.implicit => {
                let bytes = part.topic.len() + PARTITION_BYTES + writer.id.len() + FACT_BYTES;
                let mut room = vec![self.store.reserve(Purpose::Grow, 1, bytes)?];
                let decision = txns.machine.add_partitions(writer.id, writer.who, vec![part], now);
                self.carry_out_txn(&mut txns, decision.effects, &mut room, now);
                decision.answer?;
            }
            verified => verified?,
        }
        // Of the older kind any number may be the first, as outside of transactions.
        let is_middle = writer.implicit && batch.header().base_sequence != 0;
        if is_middle && !partition.lock().producers.knows(writer.who.producer) {
            return Err(ProduceError::from(ProducerError::OutOfOrder).into());
        }
        Ok(partition.produce(&self.store, batch, now.wall)?)
    }

    /// TxnOffsetCommit: offsets that become visible with the transaction.
    pub fn commit_in_transaction(
        &self,
        writer: Writer<'_>,
        group: &GroupId,
        member: &Committer,
        commits: Vec<Commit>,
    ) -> Result<Commits, TxnCommitRefused> {
        let mut txns = self.txns.lock();
        match txns.machine.verify_group(writer.id, writer.who, group.as_str()) {
            Err(AddError::NotInTransaction) if writer.implicit => {
                self.join_group(&mut txns, writer.id, writer.who, group)??;
            }
            verified => verified?,
        }
        let changed = txns.changed;
        let (results, lsn) = self.commit_pending(group, member, commits, writer.who.producer)?;
        Ok((results, lsn.max(changed)))
    }

    /// EndTxn.
    pub fn end_transaction(
        &self,
        request: &EndRequest,
    ) -> Result<Decided<Identity, EndError>, Refused> {
        let now = self.now();
        let mut txns = self.txns.lock();
        let mut room = self.room(&txns, &request.id, 1)?;
        let mut ids = self.producer_ids_ready()?;
        let decision = txns.machine.end(request, &mut || ids.draw(), now);
        let drawn = ids.lsn();
        drop(ids);
        self.carry_out_txn(&mut txns, decision.effects, &mut room, now);
        Ok(Decided { answer: decision.answer, lsn: txns.changed.max(drawn) })
    }

    /// Reads what the coordinator knows. The reply waits for the returned place.
    pub fn read_transactions<T>(&self, read: impl FnOnce(&Transactions) -> T) -> (T, Lsn) {
        let txns = self.txns.lock();
        (read(&txns.machine), txns.changed)
    }

    /// Ends transactions whose time is over, and now and then forgets unused ids.
    pub(super) fn tick_txns(&self, now: Now) {
        let mut txns = self.txns.lock();
        if txns.machine.deadline().is_some_and(|at| at <= now.monotonic) {
            let due: Vec<Arc<str>> =
                txns.machine.due(now.monotonic).map(|view| Arc::clone(view.id)).collect();
            for id in due {
                // one that finds no room is still due at the next tick, and keeps no other from ending
                let Ok(mut room) = self.room(&txns, &id, 1) else { continue };
                let effects = txns.machine.time_out(&id, now);
                self.carry_out_txn(&mut txns, effects, &mut room, now);
            }
        }
        if now.monotonic >= txns.expires {
            txns.expires = now.monotonic.after(EXPIRY_ROUND_MS);
            self.expire_transactions(&mut txns, now);
        }
    }

    fn expire_transactions(&self, txns: &mut Inner, now: Now) {
        let bytes: usize = txns.machine.iter().map(|view| view.id.len() + 16).sum();
        let room = self.store.reserve(Purpose::Shrink, 1, bytes + FACT_BYTES);
        let Ok(reservation) = room else { return };
        let records: Vec<TxnRecord> = txns
            .machine
            .expire(now.wall)
            .into_iter()
            .filter_map(|effect| match effect {
                TxnEffect::Persist(record) => Some(record),
                TxnEffect::End(_) => None,
            })
            .collect();
        if !records.is_empty() {
            self.log_txn(txns, reservation, records);
        }
    }

    /// Room for `count` facts about an id, each as large as the end of its open transaction.
    fn room(&self, txns: &Inner, id: &str, count: usize) -> Result<Vec<Reservation>, Refused> {
        let (items, bytes) = match txns.machine.describe(id) {
            None => (1, 0),
            Some(view) => {
                let groups: usize = view.groups.iter().map(|group| group.len() + 8).sum();
                (view.partitions.len() + 1, view.partitions.len() * MARKER_BYTES + groups)
            }
        };
        let bytes = bytes + id.len() + FACT_BYTES;
        (0..count).map(|_| self.store.reserve(Purpose::Shrink, items, bytes)).collect()
    }

    fn carry_out_txn(
        &self,
        txns: &mut Inner,
        effects: Vec<TxnEffect>,
        room: &mut Vec<Reservation>,
        now: Now,
    ) {
        for effect in effects {
            let Some(reservation) = room.pop() else {
                tracing::error!(?effect, "a fact of the coordinator for which no room was taken");
                continue;
            };
            match effect {
                TxnEffect::Persist(record) => self.log_txn(txns, reservation, vec![record]),
                TxnEffect::End(end) => self.log_end(txns, reservation, end, now),
            }
        }
    }

    fn log_txn(&self, txns: &mut Inner, reservation: Reservation, records: Vec<TxnRecord>) {
        let payload = Bytes::from(encode(&Fact::Transactions(records)));
        txns.changed = self.store.append(reservation, Frame::of(Item::State { payload })).lsn;
    }

    /// Decision, markers and offsets: one frame, under the locks of all whom it concerns.
    fn log_end(&self, txns: &mut Inner, reservation: Reservation, end: TxnEnd, now: Now) {
        let mut partitions: Vec<Arc<Partition>> = {
            let catalog = self.catalog();
            let streams = end.partitions.iter().map(TxnPartition::stream);
            streams.filter_map(|stream| catalog.partition(stream).cloned()).collect()
        };
        partitions.sort_by_key(|partition| partition.stream());
        if self.options.planted == PlantedBug::MarkerOfOnePartition {
            partitions.truncate(1);
        }
        let mut groups: Vec<GroupId> = end.groups.iter().map(|name| (&**name).into()).collect();
        groups.sort();
        let cells: Vec<Arc<GroupCell>> =
            groups.iter().filter_map(|id| self.groups.find(id)).collect();
        let mut members: Vec<_> = cells.iter().map(|cell| cell.lock()).collect();
        let mut states: Vec<_> =
            partitions.iter().map(|p| (p, p.lock())).filter(|(p, _)| !p.is_closed()).collect();
        let at = now.wall;
        let marker = match end.outcome {
            Outcome::Commit => Marker::Commit,
            Outcome::Abort => Marker::Abort,
        };
        let mut frame = Frame::new();
        for (partition, _) in &states {
            let (producer, epoch) = (end.producer.0, end.epoch.0);
            let batch = control_marker(producer, epoch, marker, end.coordinator_epoch, at.0);
            frame.push(Item::Batch { stream: partition.stream(), batch });
        }
        let ended = TransactionEnded {
            record: end.record,
            producer: end.producer,
            epoch: end.epoch,
            outcome: end.outcome,
            coordinator_epoch: end.coordinator_epoch,
            at,
            groups,
        };
        let fact = ended.end();
        let payload = Bytes::from(encode(&Fact::TransactionEnded(ended)));
        frame.push(Item::State { payload });
        let appended = self.store.append(reservation, frame);
        for ((partition, state), marker) in states.iter_mut().zip(&appended.offsets) {
            let extent = self.store.extent(partition.stream());
            let high_watermark = extent.map(|extent| extent.durable_end).unwrap_or_default();
            state.producers.ended(&fact, *marker, high_watermark);
            state.applied = appended.lsn;
        }
        for group in &mut members {
            if group.machine.offsets_mut().end(fact.producer, fact.outcome).is_some() {
                group.changed = appended.lsn;
            }
        }
        txns.changed = appended.lsn;
    }

    /// The coordinator for a snapshot.
    pub(super) fn remembered_transactions(&self) -> (Vec<u8>, Lsn) {
        let txns = self.txns.lock();
        (encode(txns.machine.remembered()), txns.changed)
    }
}

impl Txns {
    /// The coordinator after a start: every open transaction has its whole timeout again.
    pub(super) fn restore(
        settings: Settings,
        remembered: RememberedTransactions,
        changed: Lsn,
        now: Now,
    ) -> Self {
        let machine = Transactions::restore(settings, remembered, now);
        let expires = now.monotonic.after(EXPIRY_ROUND_MS);
        Self { inner: Mutex::new(Inner { machine, changed, expires }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn txn_partition(partition: &Partition) -> TxnPartition {
    let topic = Arc::clone(partition.topic_name());
    TxnPartition::new(partition.stream(), topic, partition.id().0)
}

/// A marker with its headers.
const MARKER_BYTES: usize = 128;
/// A partition in a fact, beside its topic's name.
const PARTITION_BYTES: usize = 24;
/// Room for the fixed parts of a fact.
const FACT_BYTES: usize = 256;
/// How often unused transactional ids are looked for.
const EXPIRY_ROUND_MS: u64 = 3_600_000;
