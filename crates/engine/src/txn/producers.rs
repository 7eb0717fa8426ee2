//! What a partition knows of its producers: sequences, duplicates, open and aborted transactions
//! (research/kafka.md 2.3, 2.4). Knows no coordinator.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ottla_store::{Lsn, Offset};
use serde::{Deserialize, Serialize};

use crate::clock::Wall;
use crate::txn::ids::{Outcome, ProducerEpoch, ProducerId};

/// Batches of a producer that are recognised when they come again; Kafka's clients have at most
/// this many in flight.
pub const WINDOW_MAX: usize = 5;

/// Producers that a partition remembers; beyond it the one that was idle longest is forgotten, as
/// if it had expired. Those with an open transaction are never forgotten.
pub const PRODUCERS_MAX: usize = 100_000;

/// Kafka's `producer.id.expiration.ms`, 24 hours, in milliseconds.
pub const EXPIRATION_MS: u64 = 24 * 60 * 60 * 1000;

/// A batch of an idempotent producer: the fields of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducedBatch {
    /// Who wrote it; not negative.
    pub producer: ProducerId,
    /// As which incarnation.
    pub epoch: ProducerEpoch,
    /// Number of its first record in the producer's sequence; not negative.
    pub first_sequence: i32,
    /// Records; at least 1.
    pub count: u32,
    /// Whether it belongs to a transaction.
    pub transactional: bool,
}

/// What is to happen with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the next: append it, then call [`Producers::appended`].
    Append,
    /// It is here already: answer with its first place once that is durable (store.md rule 17).
    Duplicate(Place),
}

/// Where a batch was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of its first record.
    pub offset: Offset,
    /// The frame.
    pub lsn: Lsn,
    /// When.
    pub at: Wall,
}

/// Why a batch of an idempotent producer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProducerError {
    /// `INVALID_PRODUCER_EPOCH` (47): a newer incarnation has written or was announced.
    #[error("a newer incarnation of the producer exists")]
    InvalidEpoch,
    /// `OUT_OF_ORDER_SEQUENCE_NUMBER` (45).
    #[error("the sequence has a gap")]
    OutOfOrder,
    /// `INVALID_TXN_STATE` (48): a batch outside the producer's open transaction.
    #[error("the producer's transaction is open, and the batch not part of it")]
    InvalidTransactionState,
}

/// An aborted transaction on this partition, as read_committed consumers need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aborted {
    /// Whose.
    pub producer: ProducerId,
    /// Offset of its first record.
    pub first: i64,
    /// Offset of its marker.
    pub last: i64,
    /// The last stable offset once it had ended; never decreases from entry to entry.
    pub last_stable: i64,
}

/// A producer as DescribeProducers shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerView {
    /// Its number.
    pub producer: ProducerId,
    /// Its incarnation.
    pub epoch: ProducerEpoch,
    /// -1 if it has written nothing as this incarnation.
    pub last_sequence: i32,
    /// When it last wrote or a transaction of its ended.
    pub last_at: Wall,
    /// -1 if no transaction of its has ended here.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub transaction_start: Option<Offset>,
}

/// The producers of one partition. Also its part of a snapshot; fields are only added at the end.
///
/// Invariants: `open` and `Producer::transaction` say the same; `idle` holds each producer once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producers {
    producers: BTreeMap<ProducerId, Producer>,
    /// First offset of each open transaction.
    open: BTreeMap<i64, ProducerId>,
    /// Ended transactions whose marker may not be durable yet: first offset and marker.
    ending: VecDeque<(i64, i64)>,
    /// Ascending by marker.
    aborted: VecDeque<Aborted>,
    /// By last use.
    idle: BTreeSet<(Wall, ProducerId)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Producer {
    epoch: ProducerEpoch,
    /// The newest last; at most [`WINDOW_MAX`].
    window: VecDeque<Written>,
    /// First offset of the open transaction.
    transaction: Option<i64>,
    coordinator_epoch: i32,
    last_at: Wall,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    first_sequence: i32,
    last_sequence: i32,
    offset: i64,
    lsn: u64,
    at: Wall,
}

impl Producers {
    /// Judges a batch before it is appended; changes nothing. The table of research/kafka.md 2.3.
    pub fn check(&self, batch: &ProducedBatch) -> Result<Verdict, ProducerError> {
        let Some(known) = self.producers.get(&batch.producer) else {
            return Ok(Verdict::Append); // expired or never seen: any sequence may start
        };
        if batch.epoch < known.epoch {
            return Err(ProducerError::InvalidEpoch);
        }
        if batch.epoch == known.epoch
            && let Some(written) = known.window.iter().find(|written| written.is(batch))
        {
            // librdkafka counts on where it purged what it had sent: its next transaction would then be
            // told that its record is there, and an abort has removed it
            let ended =
                batch.transactional && known.transaction.is_none_or(|at| written.offset < at);
            let duplicate = Verdict::Duplicate(written.place());
            return if ended { Err(ProducerError::OutOfOrder) } else { Ok(duplicate) };
        }
        let newest = known.window.back().filter(|_| batch.epoch == known.epoch);
        let expected = newest.map_or(0, |written| sequence_after(written.last_sequence, 1));
        if batch.first_sequence != expected {
            return Err(ProducerError::OutOfOrder);
        }
        if !batch.transactional && known.transaction.is_some() {
            return Err(ProducerError::InvalidTransactionState);
        }
        Ok(Verdict::Append)
    }

    /// Whether anything is remembered of a producer.
    #[must_use]
    pub fn knows(&self, producer: ProducerId) -> bool {
        self.producers.contains_key(&producer)
    }

    /// A batch was appended: live after [`check`](Self::check) said so, or read from the log. At
    /// boot `at.at` may be the time of the boot: a producer then expires later, never earlier.
    pub fn appended(&mut self, batch: &ProducedBatch, at: Place) {
        let producer = self.touch(batch.producer, batch.epoch, at.at);
        if producer.window.len() == WINDOW_MAX {
            producer.window.pop_front();
        }
        producer.window.push_back(Written {
            first_sequence: batch.first_sequence,
            last_sequence: batch.last_sequence(),
            offset: at.offset.0,
            lsn: at.lsn.0,
            at: at.at,
        });
        if batch.transactional && producer.transaction.is_none() {
            producer.transaction = Some(at.offset.0);
            self.open.insert(at.offset.0, batch.producer);
        }
        self.forget_beyond(PRODUCERS_MAX);
    }

    /// The marker of a transaction's end was appended at `marker`. `epoch` is the marker's: with
    /// `transaction.version` 2 the next one, which fences what is still on its way.
    pub fn ended(&mut self, end: &End, marker: Offset, high_watermark: Offset) {
        let producer = self.touch(end.producer, end.epoch, end.at);
        producer.coordinator_epoch = end.coordinator_epoch;
        let Some(first) = producer.transaction.take() else { return };
        self.open.remove(&first);
        self.ending.retain(|(_, marker)| *marker >= high_watermark.0);
        self.ending.push_back((first, marker.0));
        if end.outcome == Outcome::Abort {
            let next_open = self.open.first_key_value().map(|(first, _)| *first);
            let last_stable = next_open.unwrap_or(marker.0 + 1);
            let (producer, last) = (end.producer, marker.0);
            self.aborted.push_back(Aborted { producer, first, last, last_stable });
        }
    }

    /// The offset below which every transaction has ended and its end is durable: what
    /// read_committed consumers may see.
    #[must_use]
    pub fn last_stable(&self, high_watermark: Offset) -> Offset {
        let open = self.open.first_key_value().map(|(first, _)| *first);
        let unsure = self.ending.iter().filter(|(_, marker)| *marker >= high_watermark.0);
        let first = unsure.map(|(first, _)| *first).chain(open).min();
        Offset(first.unwrap_or(high_watermark.0).min(high_watermark.0))
    }

    /// Aborted transactions that concern a read from `from` up to but without `upto`.
    pub fn aborted(&self, from: Offset, upto: Offset) -> impl Iterator<Item = &Aborted> {
        let start = self.aborted.partition_point(|entry| entry.last < from.0);
        let mut done = false;
        let concerned = self.aborted.range(start..).take_while(move |entry| {
            let before = done;
            done = entry.last_stable >= upto.0; // whatever ended later began at or above `upto`
            !before
        });
        concerned.filter(move |entry| entry.first < upto.0)
    }

    /// Records below `start` are gone: entries that only concern them too.
    pub fn trim(&mut self, start: Offset) {
        while self.aborted.front().is_some_and(|entry| entry.last < start.0) {
            self.aborted.pop_front();
        }
    }

    /// Forgets producers that were idle for `after_ms`, unless a transaction of theirs is open.
    pub fn expire(&mut self, now: Wall, after_ms: u64) {
        let due: Vec<ProducerId> = self
            .idle
            .iter()
            .take_while(|(at, _)| at.after(after_ms) <= now)
            .map(|(_, producer)| *producer)
            .collect();
        for producer in due {
            self.forget(producer);
        }
    }

    /// First offset of the producer's open transaction.
    #[must_use]
    pub fn transaction_of(&self, producer: ProducerId) -> Option<Offset> {
        self.producers.get(&producer)?.transaction.map(Offset)
    }

    /// Whether there is nothing to remember.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Every producer, by number.
    pub fn iter(&self) -> impl Iterator<Item = ProducerView> {
        self.producers.iter().map(|(id, producer)| ProducerView {
            producer: *id,
            epoch: producer.epoch,
            last_sequence: producer.window.back().map_or(-1, |written| written.last_sequence),
            last_at: producer.last_at,
            coordinator_epoch: producer.coordinator_epoch,
            transaction_start: producer.transaction.map(Offset),
        })
    }

    /// The producer, at least at this epoch; a newer epoch starts with an empty window.
    fn touch(&mut self, id: ProducerId, epoch: ProducerEpoch, at: Wall) -> &mut Producer {
        let producer = self.producers.entry(id).or_insert_with(|| Producer {
            epoch,
            window: VecDeque::new(),
            transaction: None,
            coordinator_epoch: -1,
            last_at: at,
        });
        if epoch > producer.epoch {
            producer.epoch = epoch;
            producer.window.clear();
        }
        self.idle.remove(&(producer.last_at, id));
        producer.last_at = producer.last_at.max(at);
        self.idle.insert((producer.last_at, id));
        producer
    }

    fn forget_beyond(&mut self, max: usize) {
        if self.producers.len() <= max {
            return;
        }
        let quiet = |(_, id): &&(Wall, ProducerId)| self.transaction_of(*id).is_none();
        let oldest = self.idle.iter().find(quiet).map(|(_, id)| *id);
        if let Some(oldest) = oldest {
            self.forget(oldest);
        }
    }

    /// A planted mistake: nothing is recognised that comes again.
    pub(crate) fn forget_windows(&mut self) {
        let all: Vec<ProducerId> = self.producers.keys().copied().collect();
        all.into_iter().for_each(|id| self.forget(id));
    }

    fn forget(&mut self, id: ProducerId) {
        if self.transaction_of(id).is_none()
            && let Some(producer) = self.producers.remove(&id)
        {
            self.idle.remove(&(producer.last_at, id));
        }
    }
}

/// The end of a transaction on one partition: the fields of its marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Whose transaction.
    pub producer: ProducerId,
    /// The marker's epoch.
    pub epoch: ProducerEpoch,
    /// How it ended.
    pub outcome: Outcome,
    /// The coordinator's epoch, written into the marker.
    pub coordinator_epoch: i32,
    /// When.
    pub at: Wall,
}

impl ProducedBatch {
    /// Number of its last record; after `i32::MAX` comes 0.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        sequence_after(self.first_sequence, self.count.saturating_sub(1))
    }
}

impl Written {
    fn is(&self, batch: &ProducedBatch) -> bool {
        self.first_sequence == batch.first_sequence && self.last_sequence == batch.last_sequence()
    }

    fn place(&self) -> Place {
        Place { offset: Offset(self.offset), lsn: Lsn(self.lsn), at: self.at }
    }
}

/// The sequence number `steps` further on; after `i32::MAX` comes 0.
fn sequence_after(sequence: i32, steps: u32) -> i32 {
    let sum = (i64::from(sequence) + i64::from(steps)) % (i64::from(i32::MAX) + 1);
    i32::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests;
