//! EndTxn, and the aborts that nobody asked for.

use std::sync::Arc;

use super::record::{Identity, Transaction, TxnRecord, TxnState};
use super::{Decision, Transactions, TxnEffect, TxnEnd};
use crate::clock::Now;
use crate::txn::ids::{Outcome, ProducerEpoch, ProducerId};

/// EndTxn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndRequest {
    /// `transactional.id`.
    pub id: Arc<str>,
    /// Who asks.
    pub who: Identity,
    /// What is asked for.
    pub outcome: Outcome,
    /// By the version of the request.
    pub version: EndVersion,
}

/// Which flow the client follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndVersion {
    /// EndTxn below v5: the epoch stays.
    Old,
    /// EndTxn v5, `transaction.version` 2 (KIP-890): the epoch rises with every transaction.
    Bumping,
}

/// Why a transaction was not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndError {
    /// `INVALID_REQUEST` (42): the transactional id is empty.
    #[error("the transactional id is empty")]
    EmptyId,
    /// `INVALID_PRODUCER_ID_MAPPING` (49).
    #[error("the transactional id does not belong to this producer")]
    WrongProducer,
    /// `PRODUCER_FENCED` (90); `INVALID_PRODUCER_EPOCH` (47) below version 2.
    #[error("a newer incarnation of the producer exists")]
    Fenced,
    /// `INVALID_TXN_STATE` (48): none is open, or the last one ended otherwise.
    #[error("no transaction is open that could end so")]
    InvalidState,
}

impl Transactions {
    /// EndTxn, every row of research/kafka.md 2.4. The answer is who the producer is from now on:
    /// the reply of v5 returns it, older replies do not.
    pub fn end(
        &mut self,
        request: &EndRequest,
        fresh: &mut dyn FnMut() -> ProducerId,
        now: Now,
    ) -> Decision<Identity, EndError> {
        let mut effects = Vec::new();
        let answer = self.try_end(request, fresh, now, &mut effects);
        Decision { answer, effects }
    }

    fn try_end(
        &mut self,
        request: &EndRequest,
        fresh: &mut dyn FnMut() -> ProducerId,
        now: Now,
        effects: &mut Vec<TxnEffect>,
    ) -> Result<Identity, EndError> {
        if request.id.is_empty() {
            return Err(EndError::EmptyId);
        }
        let known = self.remembered.0.get(&request.id).ok_or(EndError::WrongProducer)?;
        if let Judgement::Repeated = judge(known, request)? {
            return Ok(known.identity);
        }
        let before = known.identity;
        let (marker, after, previous) = match request.version {
            EndVersion::Old => (before.epoch, before, None),
            EndVersion::Bumping => {
                let after = if before.epoch.is_exhausted() {
                    Identity { producer: fresh(), epoch: ProducerEpoch(0) }
                } else {
                    Identity { epoch: before.epoch.next(), ..before }
                };
                (before.epoch.next(), after, Some(before))
            }
        };
        self.finish(&request.id, request.outcome, marker, after, previous, now, effects);
        Ok(after)
    }

    /// Aborts an open transaction against its producer's will: the epoch rises, so that the producer
    /// is fenced. The highest epoch stays; InitProducerId then draws a new id.
    pub(super) fn fence(&mut self, id: &Arc<str>, now: Now, effects: &mut Vec<TxnEffect>) {
        let Some(known) = self.remembered.0.get(id) else { return };
        let after = Identity { epoch: known.identity.epoch.next(), ..known.identity };
        self.finish(id, Outcome::Abort, after.epoch, after, None, now, effects);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one record, used twice")]
    fn finish(
        &mut self,
        id: &Arc<str>,
        outcome: Outcome,
        marker: ProducerEpoch,
        identity: Identity,
        previous: Option<Identity>,
        now: Now,
        effects: &mut Vec<TxnEffect>,
    ) {
        let Some(known) = self.remembered.0.get(id) else { return };
        let producer = known.identity.producer;
        let partitions: Vec<_> = known.partitions.iter().cloned().collect();
        let groups: Vec<_> = known.groups.iter().cloned().collect();
        let at = now.wall;
        let record = TxnRecord::Ended { id: Arc::clone(id), outcome, identity, previous, at };
        self.applied(&record, now);
        effects.push(TxnEffect::End(TxnEnd {
            producer,
            epoch: marker,
            outcome,
            coordinator_epoch: self.settings.coordinator_epoch,
            partitions,
            groups,
            record,
        }));
    }
}

enum Judgement {
    /// The request was carried out before: the same answer again.
    Repeated,
    /// Carry it out.
    End,
}

fn judge(known: &Transaction, request: &EndRequest) -> Result<Judgement, EndError> {
    let ended_so = match known.state {
        TxnState::CompleteCommit => request.outcome == Outcome::Commit,
        TxnState::CompleteAbort => request.outcome == Outcome::Abort,
        TxnState::Empty | TxnState::Ongoing => false,
    };
    let complete = matches!(known.state, TxnState::CompleteCommit | TxnState::CompleteAbort);
    let bumping = request.version == EndVersion::Bumping;
    if bumping && complete && known.previous == Some(request.who) {
        return if ended_so { Ok(Judgement::Repeated) } else { Err(EndError::InvalidState) };
    }
    if known.identity.producer != request.who.producer {
        return Err(EndError::WrongProducer);
    }
    if known.identity.epoch != request.who.epoch {
        return Err(EndError::Fenced);
    }
    match known.state {
        TxnState::Ongoing => Ok(Judgement::End),
        // transaction.version 2: an abort may follow an error before anything was added
        _ if bumping && request.outcome == Outcome::Abort => Ok(Judgement::End),
        _ if !bumping && ended_so => Ok(Judgement::Repeated),
        _ => Err(EndError::InvalidState),
    }
}
