//! Producing: the ids of producers, and batches on their way to a partition.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ottla_store::batch::PreparedBatch;
use ottla_store::frame::{Frame, Item};
use ottla_store::{Lsn, Purpose, Refused};

use super::Engine;
use crate::clock::Now;
use crate::fact::{Fact, encode};
use crate::topic::{Partition, ProduceError, Produced};
use crate::txn::ProducerId;

/// Producer ids come in blocks: one fact of the log for a thousand producers.
#[derive(Debug, Default)]
pub(super) struct ProducerIds {
    block: Mutex<Block>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    next: i64,
    end: i64,
    /// The fact that reserves the block.
    lsn: Lsn,
}

impl ProducerIds {
    /// Ids below `next` were given out before the start.
    pub(super) fn from(next: i64) -> Self {
        Self { block: Mutex::new(Block { next, end: next, lsn: Lsn::ZERO }) }
    }
}

/// Ids to draw from, at least one.
pub(super) struct ReadyIds<'a> {
    block: MutexGuard<'a, Block>,
}

impl ReadyIds<'_> {
    /// The next id; called once for each time the ids were made ready.
    pub(super) fn draw(&mut self) -> ProducerId {
        let id = ProducerId(self.block.next);
        self.block.next += 1;
        id
    }

    /// Where the ids were reserved.
    pub(super) fn lsn(&self) -> Lsn {
        self.block.lsn
    }
}

impl Engine {
    /// An id that no producer ever had. The reply waits for the returned place.
    pub fn new_producer(&self) -> Result<(ProducerId, Lsn), Refused> {
        let mut ids = self.producer_ids_ready()?;
        Ok((ids.draw(), ids.lsn()))
    }

    /// At least one id that can be drawn at once.
    pub(super) fn producer_ids_ready(&self) -> Result<ReadyIds<'_>, Refused> {
        let mut block = self.producer_ids.block.lock().unwrap_or_else(PoisonError::into_inner);
        if block.next == block.end {
            let end = block.end + PRODUCER_IDS_BLOCK;
            let payload = Bytes::from(encode(&Fact::ProducerIds { next: end }));
            let reservation = self.store.reserve(Purpose::Shrink, 1, payload.len())?;
            let lsn = self.store.append(reservation, Frame::of(Item::State { payload })).lsn;
            *block = Block { next: block.next, end, lsn };
        }
        Ok(ReadyIds { block })
    }

    /// The first producer id that was not reserved, for snapshots.
    pub(super) fn producer_ids_end(&self) -> (i64, Lsn) {
        let block = self.producer_ids.block.lock().unwrap_or_else(PoisonError::into_inner);
        (block.end, block.lsn)
    }

    /// Appends a client's checked batch to a partition.
    pub fn produce(
        &self,
        partition: &Partition,
        batch: PreparedBatch,
        now: Now,
    ) -> Result<Produced, ProduceError> {
        partition.produce(&self.store, batch, now.wall)
    }
}

/// Ids reserved by one fact.
const PRODUCER_IDS_BLOCK: i64 = 1000;
