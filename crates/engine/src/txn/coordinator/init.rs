//! InitProducerId: who a transactional producer is from now on.

use std::sync::Arc;

use super::record::{Identity, Transaction, TxnRecord, TxnState};
use super::{Decision, Transactions, TxnEffect};
use crate::clock::Now;
use crate::txn::ids::{ProducerEpoch, ProducerId};

/// InitProducerId.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitRequest {
    /// `None` for a producer that is idempotent only.
    pub id: Option<Arc<str>>,
    /// Milliseconds that a transaction may take.
    pub timeout_ms: i32,
    /// v3+: who the producer believes to be (KIP-360); `None` for -1.
    pub expected: Option<Identity>,
}

/// Why a producer was not initialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// `INVALID_REQUEST` (42): the transactional id is empty.
    #[error("the transactional id is empty")]
    EmptyId,
    /// `INVALID_TRANSACTION_TIMEOUT` (50): not positive, or above `transaction.max.timeout.ms`.
    #[error("the transaction timeout is outside the broker's bounds")]
    InvalidTimeout,
    /// `PRODUCER_FENCED` (90); `INVALID_PRODUCER_EPOCH` (47) below version 4.
    #[error("a newer incarnation of the producer exists")]
    Fenced,
    /// `POLICY_VIOLATION` (44): no room for another transactional id.
    #[error("there are too many transactional ids")]
    TooManyIds,
}

impl Transactions {
    /// InitProducerId, every row of research/kafka.md 2.4. `fresh` draws from the durable counter of
    /// producer ids; the answer waits for what was drawn to be durable.
    ///
    /// An open transaction is aborted in the same step, its markers one epoch above the old producer.
    pub fn init(
        &mut self,
        request: InitRequest,
        fresh: &mut dyn FnMut() -> ProducerId,
        now: Now,
    ) -> Decision<Identity, InitError> {
        let mut effects = Vec::new();
        let answer = self.try_init(request, fresh, now, &mut effects);
        Decision { answer, effects }
    }

    fn try_init(
        &mut self,
        request: InitRequest,
        fresh: &mut dyn FnMut() -> ProducerId,
        now: Now,
        effects: &mut Vec<TxnEffect>,
    ) -> Result<Identity, InitError> {
        let Some(id) = request.id else {
            return Ok(Identity { producer: fresh(), epoch: FIRST });
        };
        if id.is_empty() {
            return Err(InitError::EmptyId);
        }
        let timeout = u32::try_from(request.timeout_ms).ok().filter(|ms| *ms > 0);
        let timeout_ms = timeout
            .filter(|ms| *ms <= self.settings.timeout_max_ms)
            .ok_or(InitError::InvalidTimeout)?;
        let (identity, previous) = match self.remembered.0.get(&id) {
            None if self.remembered.0.len() >= self.settings.ids_max => {
                return Err(InitError::TooManyIds);
            }
            None => (Identity { producer: fresh(), epoch: FIRST }, None),
            Some(known) => match judge(known, request.expected)? {
                Step::Repeat => return Ok(known.identity),
                Step::Next => self.next_identity(&id, request.expected, fresh, now, effects),
            },
        };
        let at = now.wall;
        let record = TxnRecord::Initialised { id, identity, previous, timeout_ms, at };
        self.persist(record, now, effects);
        Ok(identity)
    }

    /// Ends what is open and moves on.
    fn next_identity(
        &mut self,
        id: &Arc<str>,
        expected: Option<Identity>,
        fresh: &mut dyn FnMut() -> ProducerId,
        now: Now,
        effects: &mut Vec<TxnEffect>,
    ) -> (Identity, Option<Identity>) {
        let Some(known) = self.remembered.0.get(id) else {
            return (Identity { producer: fresh(), epoch: FIRST }, None);
        };
        let before = known.identity;
        let identity = if before.epoch.is_exhausted() {
            Identity { producer: fresh(), epoch: FIRST }
        } else {
            Identity { epoch: before.epoch.next(), ..before }
        };
        if known.state == TxnState::Ongoing {
            self.fence(id, now, effects);
        }
        (identity, expected.map(|_| before))
    }
}

enum Step {
    /// The request was carried out before, its answer was lost (KIP-360).
    Repeat,
    /// A new incarnation.
    Next,
}

fn judge(known: &Transaction, expected: Option<Identity>) -> Result<Step, InitError> {
    match expected {
        None => Ok(Step::Next),
        Some(expected) if expected == known.identity => Ok(Step::Next),
        Some(expected) if Some(expected) == known.previous && known.state != TxnState::Ongoing => {
            Ok(Step::Repeat)
        }
        Some(_) => Err(InitError::Fenced),
    }
}

const FIRST: ProducerEpoch = ProducerEpoch(0);
