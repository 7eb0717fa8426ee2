//! An engine whose disk forgets and whose clock stands still until it is moved.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ottla_engine::batch::{BatchBuilder, BatchRules, PreparedBatch, RecordDraft};
use ottla_engine::clock::{Clock, Monotonic, Now, Wall};
use ottla_engine::codec::Codec;
use ottla_engine::records::Records;
use ottla_engine::topic::{Isolation, Partition, PartitionId, Topic};
use ottla_engine::txn::coordinator::Identity;
use ottla_engine::{Durability, DurableObserver, Engine, Lsn, NewTopic, Offset, Options, StreamId};
use ottla_sim::disk::SimDisk;
use ottla_store::disk::Disk;

/// A broker that can lose its power.
pub(crate) struct Rig {
    disk: SimDisk,
    clock: Arc<TestClock>,
    pub(crate) engine: Engine,
    pub(crate) woken: Arc<Woken>,
    starts: u64,
}

/// A clock that moves when it is told to.
#[derive(Debug, Default)]
pub(crate) struct TestClock {
    ms: AtomicU64,
    /// How far the wall clock has jumped besides.
    jumped_ms: AtomicU64,
}

/// The partitions that the log said got durable batches.
#[derive(Debug, Default)]
pub(crate) struct Woken(pub(crate) Mutex<Vec<StreamId>>);

struct Observer(Arc<Woken>);

impl DurableObserver for Observer {
    fn durable(&self, _upto: Lsn, partitions: &[StreamId]) {
        self.0.0.lock().unwrap().extend_from_slice(partitions);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        let ms = self.ms.load(Ordering::Relaxed);
        let since = ms + self.jumped_ms.load(Ordering::Relaxed);
        let wall = Wall(1_700_000_000_000 + i64::try_from(since).unwrap());
        Now { monotonic: Monotonic(ms), wall }
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::over(SimDisk::new(), Arc::new(TestClock::default()), 1)
    }

    /// A broker over a disk that has something on it.
    pub(crate) fn on(disk: SimDisk) -> Self {
        Self::over(disk, Arc::new(TestClock::default()), 2)
    }

    /// A broker that takes only so many bytes before they are synced.
    pub(crate) fn narrow(unsynced_bytes_max: usize) -> Self {
        Self::opened(SimDisk::new(), Arc::new(TestClock::default()), 1, unsynced_bytes_max)
    }

    fn over(disk: SimDisk, clock: Arc<TestClock>, starts: u64) -> Self {
        Self::opened(disk, clock, starts, 64 << 20)
    }

    fn opened(disk: SimDisk, clock: Arc<TestClock>, starts: u64, unsynced_bytes: usize) -> Self {
        let mut options = Options::new(Durability::Sync, starts);
        options.store.unsynced_bytes_max = unsynced_bytes;
        options.store.wal_segment_bytes = 32 << 10;
        options.store.wal_window_bytes = 96 << 10;
        options.store.disk_reserve_bytes = 0;
        options.store.ballast_bytes = 64 << 10;
        let woken = Arc::new(Woken::default());
        let observer = Box::new(Observer(Arc::clone(&woken)));
        let clock_dyn: Arc<dyn Clock> = Arc::<TestClock>::clone(&clock);
        let engine = Engine::open(disk.as_disk(), clock_dyn, options, observer).unwrap();
        let rig = Self { disk, clock, engine, woken, starts };
        rig.sync();
        rig
    }

    /// From now on the disk holds only so much.
    pub(crate) fn limit_disk(&self, bytes: u64) {
        let faults = ottla_sim::disk::Faults { capacity_bytes: Some(bytes), ..Default::default() };
        self.disk.set_faults(faults);
    }

    /// Moves both clocks, and nothing else.
    pub(crate) fn elapse(&self, ms: u64) {
        self.clock.ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Sets the wall clock forwards.
    pub(crate) fn jump(&self, ms: u64) {
        self.clock.jumped_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// The files under a directory of the disk.
    pub(crate) fn files(&self, prefix: &str) -> Vec<String> {
        let files = self.disk.files().into_iter().map(|(path, _)| path);
        files.filter(|path| path.starts_with(prefix)).collect()
    }

    /// Every file with its bytes.
    pub(crate) fn image(&self) -> Vec<(String, Vec<u8>)> {
        let read = |(path, len): (String, u64)| {
            let mut bytes = vec![0; usize::try_from(len).unwrap()];
            let file = self.disk.open_read(&path).unwrap();
            assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
            (path, bytes)
        };
        self.disk.files().into_iter().map(read).collect()
    }

    /// Syncs everything that was appended.
    pub(crate) fn sync(&self) {
        while self.engine.store().commit().unwrap().is_some() {}
    }

    /// Syncs, and lets the keeper retire, take snapshots and recycle until it has nothing to do.
    pub(crate) fn keep(&self) {
        loop {
            self.sync();
            if !self.engine.store().keep(&self.engine).unwrap() {
                return;
            }
        }
    }

    /// The power goes; what was not synced is lost in part or whole. The broker starts again.
    pub(crate) fn power_cut(self) -> Self {
        let seed = self.starts * 7919;
        self.power_cut_as(seed)
    }

    /// The same, with another choice of what is lost.
    pub(crate) fn power_cut_as(self, seed: u64) -> Self {
        Self::over(self.disk.crash(seed), self.clock, self.starts + 1)
    }

    /// Time passes, and the timers run.
    pub(crate) fn pass(&self, ms: u64) {
        self.clock.ms.fetch_add(ms, Ordering::Relaxed);
        self.engine.tick();
        self.engine.bury();
        self.sync();
    }

    pub(crate) fn topic(&self, name: &str, partitions: i32) -> Arc<Topic> {
        let new = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            overrides: Default::default(),
        };
        let topic = self.engine.create_topic(&new).unwrap().0;
        self.sync();
        topic
    }

    /// The first partition of an existing topic.
    pub(crate) fn partition(&self, topic: &str) -> Arc<Partition> {
        let catalog = self.engine.catalog();
        catalog.topic(topic).unwrap().partition(PartitionId(0)).unwrap()
    }

    /// The values that a reader sees from `from` on.
    pub(crate) fn read(
        &self,
        partition: &Partition,
        from: i64,
        isolation: Isolation,
    ) -> Vec<String> {
        let mut values = Vec::new();
        let mut next = Offset(from);
        loop {
            let store = self.engine.store();
            let fetched = partition.fetch(store, next, 1 << 20, isolation, false).unwrap().unwrap();
            if fetched.batches.bytes == 0 {
                return values;
            }
            for piece in fetched.batches.pieces {
                for batch in ottla_engine::batch::split(piece) {
                    let batch = batch.unwrap();
                    let records = Records::open(&batch).unwrap();
                    next = records.header().next_offset();
                    if records.header().is_control() {
                        continue;
                    }
                    for record in records.iter() {
                        let value = record.unwrap().value.unwrap_or_default().to_vec();
                        values.push(String::from_utf8(value).unwrap());
                    }
                }
            }
        }
    }

    /// All durable values.
    pub(crate) fn read_all(&self, topic: &str) -> Vec<String> {
        self.read(&self.partition(topic), 0, Isolation::ReadUncommitted)
    }
}

/// A checked batch without a producer.
pub(crate) fn batch(values: &[&str]) -> PreparedBatch {
    check(build(values, None))
}

/// A checked batch of an idempotent producer.
pub(crate) fn idempotent(values: &[&str], producer: i64, sequence: i32) -> PreparedBatch {
    check(build(values, Some((producer, sequence))))
}

/// A checked batch of a transaction.
pub(crate) fn transactional(values: &[&str], who: Identity, sequence: i32) -> PreparedBatch {
    let mut builder = BatchBuilder::new(Codec::None).transactional();
    builder = builder.producer(who.producer.0, who.epoch.0, sequence);
    for value in values {
        let value = Some(value.as_bytes());
        let timestamp_ms = 1_700_000_000_000;
        builder.push(&RecordDraft { timestamp_ms, key: None, value, headers: &[] });
    }
    check(builder.build())
}

/// A checked batch whose records have this timestamp and the key `key`.
pub(crate) fn batch_at(values: &[&str], timestamp_ms: i64) -> PreparedBatch {
    let mut builder = BatchBuilder::new(Codec::None);
    for value in values {
        let (key, value) = (Some(b"key".as_slice()), Some(value.as_bytes()));
        builder.push(&RecordDraft { timestamp_ms, key, value, headers: &[] });
    }
    let bytes = builder.build().to_bytes(Offset::ZERO);
    PreparedBatch::check(bytes, &BatchRules::default(), timestamp_ms).unwrap()
}

fn build(values: &[&str], producer: Option<(i64, i32)>) -> PreparedBatch {
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some((producer, sequence)) = producer {
        builder = builder.producer(producer, 0, sequence);
    }
    for value in values {
        let value = Some(value.as_bytes());
        let timestamp_ms = 1_700_000_000_000;
        builder.push(&RecordDraft { timestamp_ms, key: None, value, headers: &[] });
    }
    builder.build()
}

fn check(batch: PreparedBatch) -> PreparedBatch {
    let bytes = batch.to_bytes(Offset::ZERO);
    PreparedBatch::check(bytes, &BatchRules::default(), 1_700_000_000_000).unwrap()
}
