//! One partition: what it accepts, in which order, what of it can be seen.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use ottla_store::batch::{BatchHeader, PreparedBatch, TimestampType};
use ottla_store::frame::{Frame, Item};
use ottla_store::{Batches, Lsn, Offset, Purpose, ReadError, ReadLimit, Refused, Store, StreamId};
use serde::{Deserialize, Serialize};

use super::{PartitionId, TopicId};
use crate::clock::Wall;
use crate::txn::producers::{
    Aborted, End, Place, ProducedBatch, ProducerError, Producers, Verdict,
};
use crate::txn::{ProducerEpoch, ProducerId};
use crate::waiters::Waiters;

/// One partition of a topic. Its lock orders appends: offsets are given in the order of their places
/// in the log.
#[derive(Debug)]
pub struct Partition {
    topic_name: Arc<str>,
    topic: TopicId,
    id: PartitionId,
    stream: StreamId,
    closed: AtomicBool,
    state: Mutex<PartitionState>,
    waiters: Waiters,
}

/// What a partition remembers beside its records: idempotence and transactions.
#[derive(Debug, Default)]
pub struct PartitionState {
    /// The five-batch windows, open transactions and aborted ranges.
    pub producers: Producers,
    /// The place of the newest fact that is contained in this state.
    pub applied: Lsn,
}

/// A partition in a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub struct PartitionImage {
    /// See [`PartitionState::producers`].
    pub producers: Producers,
}

/// What a produce brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The broker's time, if the topic carries it.
    pub log_append_time: Option<Wall>,
    /// The first offset that exists.
    pub log_start: Offset,
    /// The reply waits for this place.
    pub lsn: Lsn,
}

/// Why a batch was not appended. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// The topic was deleted. Kafka: `UNKNOWN_TOPIC_OR_PARTITION` (3).
    #[error("the topic does not exist any more")]
    Gone,
    /// The producer's epoch or sequence does not fit.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// The log takes nothing now.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Which records a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// All that are durable.
    ReadUncommitted,
    /// Those below the first open transaction; what was aborted is named.
    ReadCommitted,
}

/// What a reader may see of a partition, and a piece of it.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Whole batches, from the one that contains the asked offset on.
    pub batches: Batches,
    /// After the last durable record.
    pub high_watermark: Offset,
    /// After the last record that no open transaction holds back.
    pub last_stable: Offset,
    /// The first offset that exists.
    pub log_start: Offset,
    /// Aborted transactions in the piece; `None` when uncommitted records are read.
    pub aborted: Option<Vec<Aborted>>,
}

impl Partition {
    /// A partition over an existing stream.
    #[must_use]
    pub fn new(topic_name: Arc<str>, topic: TopicId, id: PartitionId, stream: StreamId) -> Self {
        Self {
            topic_name,
            topic,
            id,
            stream,
            closed: AtomicBool::new(false),
            state: Mutex::default(),
            waiters: Waiters::default(),
        }
    }

    /// Its topic's name.
    #[must_use]
    pub fn topic_name(&self) -> &Arc<str> {
        &self.topic_name
    }

    /// Its topic's identity.
    #[must_use]
    pub const fn topic(&self) -> TopicId {
        self.topic
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> PartitionId {
        self.id
    }

    /// Its stream in the store.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        self.stream
    }

    /// Its state under its lock. Several partitions are locked in ascending stream id.
    pub fn lock(&self) -> MutexGuard<'_, PartitionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its topic was deleted.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Appends a checked batch of a client.
    ///
    /// A duplicate of one of the producer's last five batches is not appended again: it answers with
    /// the first copy's offset and place, so that its reply too waits until that copy is durable
    /// (store.md rule 17).
    pub fn produce(
        &self,
        store: &Store,
        batch: PreparedBatch,
        now: Wall,
    ) -> Result<Produced, ProduceError> {
        let header = batch.header();
        let reservation = store.reserve(Purpose::Grow, 1, batch.bytes_len())?;
        let log_append_time =
            (header.timestamp_type() == TimestampType::LogAppendTime).then_some(now);
        let mut state = self.lock();
        if self.is_closed() {
            return Err(ProduceError::Gone);
        }
        let log_start = store.extent(self.stream).ok_or(ProduceError::Gone)?.start;
        let produced = produced(&header);
        if let Some(produced) = &produced
            && let Verdict::Duplicate(first) = state.producers.check(produced)?
        {
            let log_append_time = log_append_time.map(|_| first.at);
            let (base_offset, lsn) = (first.offset, first.lsn);
            return Ok(Produced { base_offset, log_append_time, log_start, lsn });
        }
        let frame = Frame::of(Item::Batch { stream: self.stream, batch });
        let appended = store.append(reservation, frame);
        let base_offset = appended.offsets.first().copied().unwrap_or_default();
        if let Some(produced) = produced {
            let place = Place { offset: base_offset, lsn: appended.lsn, at: now };
            state.producers.appended(&produced, place);
        }
        state.applied = appended.lsn;
        Ok(Produced { base_offset, log_append_time, log_start, lsn: appended.lsn })
    }

    /// Reads batches from `from` on, from memory alone if `cached_only`; then `None` means that the
    /// disk would have to be read.
    pub fn fetch(
        &self,
        store: &Store,
        from: Offset,
        bytes_max: usize,
        isolation: Isolation,
        cached_only: bool,
    ) -> Result<Option<Fetched>, ReadError> {
        let extent = store.extent(self.stream).ok_or(ReadError::UnknownStream(self.stream))?;
        let state = self.lock();
        let last_stable = state.producers.last_stable(extent.durable_end);
        drop(state);
        let end = match isolation {
            Isolation::ReadUncommitted => extent.durable_end,
            Isolation::ReadCommitted => last_stable,
        };
        if from < extent.start || from > extent.durable_end {
            return Err(ReadError::OutOfRange { start: extent.start, end: extent.durable_end });
        }
        let limit = ReadLimit { end, bytes_max };
        let batches = if from >= end {
            Batches::default()
        } else if cached_only {
            match store.read_cached(self.stream, from, limit)? {
                Some(batches) => batches,
                None => return Ok(None),
            }
        } else {
            store.read(self.stream, from, limit)?
        };
        let aborted = (isolation == Isolation::ReadCommitted)
            .then(|| self.lock().producers.aborted(from, end).copied().collect());
        Ok(Some(Fetched {
            batches,
            high_watermark: extent.durable_end,
            last_stable,
            log_start: extent.start,
            aborted,
        }))
    }

    /// After the last record that a reader of this isolation may see.
    pub fn visible_end(&self, store: &Store, isolation: Isolation) -> Option<Offset> {
        let extent = store.extent(self.stream)?;
        Some(match isolation {
            Isolation::ReadUncommitted => extent.durable_end,
            Isolation::ReadCommitted => self.lock().producers.last_stable(extent.durable_end),
        })
    }

    /// Wakes `waker` when records became visible or the topic was deleted.
    pub fn wait(&self, waker: &Waker) {
        self.waiters.register(waker);
    }

    /// `waker` waits no more.
    pub fn forget(&self, waker: &Waker) {
        self.waiters.forget(waker);
    }

    /// Tells who waits that something changed.
    pub fn wake(&self) {
        self.waiters.wake();
    }

    /// The topic was deleted.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.waiters.wake();
    }
}

impl PartitionState {
    /// Takes a batch that recovery found, unless this state already contains it.
    pub fn replay(&mut self, header: &BatchHeader, lsn: Lsn) {
        if lsn <= self.applied {
            return;
        }
        self.applied = lsn;
        let at = Wall(header.max_timestamp);
        if let Some(produced) = produced(header) {
            self.producers.appended(&produced, Place { offset: header.base_offset, lsn, at });
        }
    }

    /// Takes the end of a transaction that recovery found, unless this state already contains it.
    pub fn replay_end(&mut self, end: &End, marker: Offset, lsn: Lsn) {
        if lsn <= self.applied {
            return;
        }
        self.applied = lsn;
        self.producers.ended(end, marker, marker.next());
    }
}

/// What the producer table needs of a batch; `None` for batches without a producer and for markers.
fn produced(header: &BatchHeader) -> Option<ProducedBatch> {
    (header.has_producer() && !header.is_control()).then(|| ProducedBatch {
        producer: ProducerId(header.producer_id),
        epoch: ProducerEpoch(header.producer_epoch),
        first_sequence: header.base_sequence,
        count: u32::try_from(header.count).unwrap_or_default(),
        transactional: header.is_transactional(),
    })
}
