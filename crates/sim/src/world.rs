//! A store under a seeded workload, with everything it answers held against the model.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_store::batch::{BatchBuilder, Marker, PreparedBatch, RecordDraft, control_marker};
use ottla_store::codec::Codec;
use ottla_store::disk::Disk;
use ottla_store::frame::{Appended, StreamKind};
use ottla_store::{
    CompactTask, Durability, Fatal, Lsn, Offset, Options, Purpose, ReadError, Refused, Store,
    StreamId,
};

use crate::disk::Faults;
use crate::history::{Bounds, History, Step};
use crate::model::{self, Command, Engine, Fact, Truth};
use crate::{Chance, SimDisk, check};

/// How a store is put together for a run, and which mistake is planted in it.
#[derive(Clone, Debug)]
pub struct Rig {
    /// What stands between the store and the disk.
    pub wrap: fn(SimDisk) -> Arc<dyn Disk>,
    /// The engine's mistake.
    pub engine: model::Planted,
    /// Whether acknowledgements wait for the durable position.
    pub patience: Patience,
    /// Whether a transaction's markers go in one frame.
    pub markers: Markers,
    /// What a retried batch waits for.
    pub duplicates: Duplicates,
    /// Which id a stream gets that is made anew.
    pub namesakes: Namesakes,
    /// The store's own mistake.
    pub options: fn(Options) -> Options,
    /// What acknowledged commands survive.
    pub promise: Promise,
}

/// What acknowledged commands survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// The loss of power (`Durability::Sync`).
    PowerCuts,
    /// The end of the process (`Durability::Os`): after the loss of power some earlier state is there,
    /// exactly.
    Kills,
}

/// When the workload counts a command as acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Once it is durable.
    WaitsForDurable,
    /// Once it is appended: a planted mistake.
    AcknowledgesAtOnce,
}

/// How the end of a transaction is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Markers {
    /// All markers in one frame.
    OneFrame,
    /// A frame for each: a planted mistake.
    FrameEach,
}

/// When a batch that is there already is acknowledged to whoever sent it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// With its first copy (store.md rule 17).
    WaitForTheFirstCopy,
    /// At once: a planted mistake.
    AreAnsweredEarly,
}

/// Which id a stream gets that is deleted and made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namesakes {
    /// A new one (store.md rule 12).
    HaveNewIds,
    /// The old one: a planted mistake.
    InheritTheId,
}

impl Default for Rig {
    fn default() -> Self {
        Self {
            wrap: |disk| Arc::new(disk),
            engine: model::Planted::Nothing,
            patience: Patience::WaitsForDurable,
            markers: Markers::OneFrame,
            duplicates: Duplicates::WaitForTheFirstCopy,
            namesakes: Namesakes::HaveNewIds,
            options: |options| options,
            promise: Promise::PowerCuts,
        }
    }
}

impl Rig {
    /// A store that never waits for the disk.
    #[must_use]
    pub fn unsynced() -> Self {
        let options = |options| Options { durability: Durability::Os, ..options };
        Self { options, promise: Promise::Kills, ..Self::default() }
    }
}

/// A running store, its disk, the engine above it and the ledger of what it promised.
#[derive(Debug)]
pub struct World {
    rig: Rig,
    disk: SimDisk,
    store: Store,
    engine: Engine,
    history: History,
    chance: Chance,
    /// Makes every body and batch different from every other of the run.
    serial: u64,
    /// The last commit brought frames: parking would end with a group that proves it.
    unproven: bool,
    /// A fatal error of the log: nothing more is acknowledged.
    failed: Option<String>,
    /// Compactions that took place.
    compactions: u64,
}

impl World {
    /// Opens what `disk` holds. The engine is what the store's replay made of it.
    pub fn open(rig: &Rig, disk: &SimDisk, seed: u64) -> Result<(Store, Engine), String> {
        let mut engine = Engine::with_planted(rig.engine);
        let options = (rig.options)(tiny_options(seed));
        let store = Store::open((rig.wrap)(disk.clone()), options, &mut engine);
        store.map(|store| (store, engine)).map_err(|error| format!("does not open: {error}"))
    }

    /// A new store on an empty disk.
    pub fn begin(rig: &Rig, disk: &SimDisk, seed: u64) -> Result<Self, String> {
        let (store, engine) = Self::open(rig, disk, seed)?;
        let history = History::from(Truth::default(), Lsn::ZERO, disk.calls());
        Ok(Self::go_on(rig, disk, (store, engine), history, seed))
    }

    /// Goes on with a recovered store whose content was found to be that of `history`.
    #[must_use]
    pub fn go_on(
        rig: &Rig,
        disk: &SimDisk,
        recovered: (Store, Engine),
        history: History,
        seed: u64,
    ) -> Self {
        let (store, engine) = recovered;
        let chance = Chance::new(seed);
        Self {
            rig: rig.clone(),
            disk: disk.clone(),
            store,
            engine,
            history,
            serial: seed << 20,
            chance,
            unproven: false,
            failed: None,
            compactions: 0,
        }
    }

    /// Compactions that took place.
    #[must_use]
    pub const fn compactions(&self) -> u64 {
        self.compactions
    }

    /// The ledger.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Why the log stopped, if it did.
    #[must_use]
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Runs `count` commands. An error is a finding: an answer that the model does not give.
    pub fn run(&mut self, count: usize) -> Result<(), String> {
        for _ in 0..count {
            if self.failed.is_some() {
                break;
            }
            self.step()?;
            self.note();
        }
        Ok(())
    }

    /// Holds everything the store answers now against the model.
    pub fn check_now(&self) -> Result<(), String> {
        check::reads(&self.store, &self.shown(), &self.history.now())
    }

    /// What may be shown now.
    fn shown(&self) -> Truth {
        self.history.truth(self.history.durable_at(self.store.durable()))
    }

    fn step(&mut self) -> Result<(), String> {
        let truth = self.history.now();
        match self.chance.below(100) {
            0..4 => self.create(&truth),
            4 => self.delete(&truth),
            5..25 => {
                let facts = self.batches(&truth, 1);
                self.append(facts)
            }
            25..31 => self.several(&truth),
            31..34 => self.trim(&truth),
            34..48 => self.message(&truth),
            48..57 => self.settle(&truth),
            57..61 => self.move_messages(&truth),
            61..64 => {
                let facts = vec![self.register()];
                self.append(facts)
            }
            64..67 => self.end_transaction(&truth),
            67..69 => self.check_now(),
            69 => self.retry(),
            70..84 => self.commit(),
            84..97 => self.keep(),
            97 => {
                // What can be compacted is in segments that two snapshots know.
                (0..PIECES_BEFORE_COMPACTION)
                    .try_for_each(|_| self.keep().and_then(|()| self.commit()))?;
                self.compact()
            }
            _ => self.idle(),
        }
    }

    fn append(&mut self, facts: Command) -> Result<(), String> {
        let frames = vec![facts];
        self.append_frames(frames)
    }

    /// Appends frames that belong together; more than one is a planted mistake.
    fn append_frames(&mut self, frames: Vec<Command>) -> Result<(), String> {
        let mut truth = self.history.now();
        let mut places = Vec::new();
        for facts in frames.into_iter().filter(|facts| !facts.is_empty()) {
            let purpose = match facts.iter().all(Fact::shrinks) {
                true => Purpose::Shrink,
                false => Purpose::Grow,
            };
            let bytes = facts.iter().map(Fact::payload_bytes).sum();
            let reservation = match self.store.reserve(purpose, facts.len(), bytes) {
                Ok(reservation) => reservation,
                Err(Refused::Busy) => return self.commit(),
                Err(Refused::DiskFull) if places.is_empty() => return Ok(()),
                Err(refused) => return Err(format!("reserve refused: {refused}")),
            };
            let end = self.store.end();
            let appended = self.store.append(reservation, model::frame_of(&facts));
            self.judge_places(&facts, &appended, end)?;
            truth.apply(&facts, &appended)?;
            self.engine.appended(&facts, &appended);
            places.push(appended.lsn);
            if self.rig.markers == Markers::FrameEach && self.chance.percent(50) {
                self.commit()?;
            }
        }
        if let (Some(first), Some(last)) = (places.first(), places.last()) {
            self.history.push(Step { first: *first, last: *last, truth });
        }
        Ok(())
    }

    fn judge_places(&self, facts: &[Fact], appended: &Appended, end: Lsn) -> Result<(), String> {
        let newest = self.history.steps().last().map_or(Lsn::ZERO, |step| step.last);
        if appended.lsn < end || appended.lsn < newest {
            return Err(format!("a frame at {}, behind {end} and {newest}", appended.lsn));
        }
        let ascending = appended.items.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        if appended.items.len() != facts.len() || !ascending {
            return Err(format!("{} items at {:?}", facts.len(), appended.items));
        }
        if appended.lsn.is_durable(self.store.durable()) {
            return Err(format!("a frame at {}, which is durable already", appended.lsn));
        }
        Ok(())
    }

    /// A producer sends its last batch again: the engine finds it in its window.
    fn retry(&mut self) -> Result<(), String> {
        if self.rig.duplicates == Duplicates::AreAnsweredEarly {
            self.history.mark(self.disk.calls(), self.store.end());
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), String> {
        let before = self.store.durable();
        let staged = before < self.store.end();
        match self.store.commit() {
            Ok(Some(durable)) if durable != self.store.durable() || durable <= before => {
                return Err(format!("commit says {durable} after {before}"));
            }
            Ok(Some(_)) => self.unproven = staged,
            Ok(None) => {}
            Err(fatal) => self.fail(&fatal)?,
        }
        Ok(())
    }

    /// The log or the keeper gave up: for an error of the disk it must, for want of room never.
    fn fail(&mut self, fatal: &Fatal) -> Result<(), String> {
        let what = format!("{fatal}: {}", fatal.source);
        self.failed = Some(what.clone());
        if is_full(&fatal.source) { Err(format!("a full disk stops it: {what}")) } else { Ok(()) }
    }

    /// The log role with nothing to do: the next commit proves the last group.
    fn idle(&mut self) -> Result<(), String> {
        self.commit()?;
        if self.unproven && self.failed.is_none() {
            self.store.park(Duration::ZERO);
            self.commit()?;
            self.unproven = false;
        }
        Ok(())
    }

    fn keep(&mut self) -> Result<(), String> {
        match self.store.keep(&self.engine) {
            Ok(_) => Ok(()),
            Err(fatal) => self.fail(&fatal),
        }
    }

    /// Someone gives the disk more room: without a restart the log takes new data again, and whatever
    /// waited for room is durable.
    pub fn with_room(&mut self) -> Result<(), String> {
        self.disk.set_faults(Faults::default());
        for _ in 0..ROUNDS_MAX {
            if self.failed.is_some() {
                return Ok(());
            }
            self.commit()?;
            self.keep()?;
            self.note();
        }
        let truth = self.history.now();
        let before = self.history.steps().len();
        let facts = self.batches(&truth, 1);
        if facts.is_empty() {
            return Ok(());
        }
        self.append(facts)?;
        self.note();
        if self.history.steps().len() == before {
            return Err("there is room, and new data is refused".to_owned());
        }
        self.commit()?;
        self.note();
        if self.failed.is_none() && self.store.durable() < self.store.end() {
            return Err("there is room, and what was appended is not durable".to_owned());
        }
        self.check_now()
    }

    /// Compacts a partition, whatever it holds.
    fn compact(&mut self) -> Result<(), String> {
        let shown = self.shown().partitions;
        let partitions = shown.iter().map(|(stream, found)| (*stream, found.end));
        // The one with the most segments; two, and there may be something to do.
        let most = partitions.max_by_key(|(stream, _)| self.store.segments(*stream).len());
        let Some((stream, below)) = most else { return Ok(()) };
        self.history.compact(stream, below);
        let task = CompactTask {
            below,
            older_than_ms: None,
            dirty_percent_min: 0,
            now_ms: 2_000_000,
            delete_retention_ms: 0,
            aborted: &|_| false,
            map_bytes_max: self.chance.pick(&[1_usize << 10, 1 << 20]).copied().unwrap_or(1 << 20),
            between: &|| true,
        };
        match self.store.compact(stream, &task) {
            // The stream may have been deleted, and the disk may have failed.
            Ok(done) => {
                self.compactions += u64::from(done.is_some());
                Ok(())
            }
            Err(ReadError::UnknownStream(_) | ReadError::Io { .. }) => Ok(()),
            Err(error) => Err(format!("{stream} is compacted: {error}")),
        }
    }

    fn note(&mut self) {
        let durable = match self.rig.patience {
            Patience::WaitsForDurable => self.store.durable(),
            Patience::AcknowledgesAtOnce => self.store.end(),
        };
        self.history.mark(self.disk.calls(), durable);
    }

    fn create(&mut self, truth: &Truth) -> Result<(), String> {
        let kind = match self.chance.percent(50) {
            true => StreamKind::Partition,
            false => StreamKind::Queue,
        };
        let exist = match kind {
            StreamKind::Partition => truth.partitions.len(),
            StreamKind::Queue => truth.queues.len(),
        };
        if exist >= STREAMS_MAX {
            return Ok(());
        }
        let stream = self.new_stream(truth)?;
        let mut facts = vec![Fact::Create(stream, kind), self.register()];
        if self.chance.percent(30) {
            facts.push(match kind {
                StreamKind::Partition => Fact::Batch(stream, self.batch()),
                StreamKind::Queue => Fact::Message(vec![stream], self.body()),
            });
        }
        self.append(facts)
    }

    fn new_stream(&self, truth: &Truth) -> Result<StreamId, String> {
        let stream = self.store.new_stream_id();
        if stream.0 <= truth.id_max && truth.id_max > 0 {
            return Err(format!("new stream {stream}, {} was given before", truth.id_max));
        }
        Ok(stream)
    }

    /// Deletes a stream, and half the time makes its namesake in the same frame.
    fn delete(&mut self, truth: &Truth) -> Result<(), String> {
        let streams = truth.streams();
        if streams.len() < 4 {
            return Ok(());
        }
        let Some(stream) = self.chance.pick(&streams).copied() else { return Ok(()) };
        let mut facts = vec![Fact::Delete(stream)];
        if self.chance.percent(50) {
            let kind = match truth.queues.contains_key(&stream) {
                true => StreamKind::Queue,
                false => StreamKind::Partition,
            };
            if self.rig.namesakes == Namesakes::InheritTheId {
                self.append(facts)?;
                return self.append(vec![Fact::Create(stream, kind)]);
            }
            facts.push(Fact::Create(self.new_stream(truth)?, kind));
        }
        self.append(facts)
    }

    fn batches(&mut self, truth: &Truth, count: usize) -> Command {
        let partitions = truth.partitions.keys().copied().collect::<Vec<_>>();
        let mut facts = Vec::new();
        for _ in 0..count {
            if let Some(partition) = self.chance.pick(&partitions).copied() {
                facts.push(Fact::Batch(partition, self.batch()));
            }
        }
        facts
    }

    /// One frame over several streams of both kinds.
    fn several(&mut self, truth: &Truth) -> Result<(), String> {
        let count = self.chance.between(1, 3);
        let mut facts = self.batches(truth, count);
        facts.extend(self.message_fact(truth));
        if self.chance.percent(50) {
            facts.push(self.register());
        }
        facts.extend(self.settle_fact(truth));
        self.append(facts)
    }

    fn trim(&mut self, truth: &Truth) -> Result<(), String> {
        let partitions = self.shown().partitions;
        let partitions = partitions.iter();
        let partitions = partitions.filter(|(stream, _)| truth.partitions.contains_key(stream));
        let partitions = partitions.map(|(s, found)| (*s, found.end)).collect::<Vec<_>>();
        let Some((stream, end)) = self.chance.pick(&partitions).copied() else { return Ok(()) };
        let start = truth.partitions.get(&stream).map_or(Offset::ZERO, |found| found.start);
        let count = u64::try_from(end.0 - start.0).unwrap_or(0);
        if count == 0 {
            return Ok(());
        }
        let by = match self.chance.percent(20) {
            true => count,
            false => 1 + self.chance.below(count),
        };
        self.append(vec![Fact::Trim(stream, start.advance(u32::try_from(by).unwrap_or(1)))])
    }

    fn message(&mut self, truth: &Truth) -> Result<(), String> {
        let facts = self.message_fact(truth).into_iter().collect();
        self.append(facts)
    }

    fn message_fact(&mut self, truth: &Truth) -> Option<Fact> {
        let mut queues = truth.queues.keys().copied().collect::<Vec<_>>();
        let count = self.chance.between(1, 3);
        while queues.len() > count {
            queues.remove(self.chance.index(queues.len()));
        }
        (!queues.is_empty()).then(|| Fact::Message(queues, self.body()))
    }

    fn settle(&mut self, truth: &Truth) -> Result<(), String> {
        let facts = self.settle_fact(truth).into_iter().collect();
        self.append(facts)
    }

    fn settle_fact(&mut self, truth: &Truth) -> Option<Fact> {
        let queues = truth.queues.keys().copied().collect::<Vec<_>>();
        let queue = self.chance.pick(&queues).copied()?;
        let oldest_first = self.chance.percent(70);
        let count = self.chance.between(1, 6);
        let mut live = truth.queues.get(&queue)?.live.keys().copied().collect::<Vec<_>>();
        while live.len() > count {
            let at = match oldest_first {
                true => live.len() - 1,
                false => self.chance.index(live.len()),
            };
            live.remove(at);
        }
        (!live.is_empty()).then_some(Fact::Settle(queue, live))
    }

    /// Dead-letters: what is settled in one queue appears in another, in one frame (rule 9).
    fn move_messages(&mut self, truth: &Truth) -> Result<(), String> {
        let queues = truth.queues.keys().copied().collect::<Vec<_>>();
        let Some(target) = self.chance.pick(&queues).copied() else { return Ok(()) };
        let Some(Fact::Settle(source, messages)) = self.settle_fact(truth) else { return Ok(()) };
        let bodies = truth.queues.get(&source).map(|queue| queue.live.clone()).unwrap_or_default();
        let moved = messages.iter().filter_map(|message| bodies.get(message));
        let moved = moved.map(|(body, _)| Fact::Message(vec![target], body.clone()));
        let moved = moved.collect::<Vec<_>>();
        let mut facts = vec![Fact::Settle(source, messages)];
        facts.extend(moved);
        self.append(facts)
    }

    /// Markers for several partitions and the coordinator's fact, in one frame (rule 18).
    fn end_transaction(&mut self, truth: &Truth) -> Result<(), String> {
        let serial = i64::try_from(self.next_serial() & 0xFFFF_FFFF).unwrap_or(0);
        let marker = control_marker(serial, 0, Marker::Commit, 0, 1_000);
        let partitions = truth.partitions.keys().copied();
        let mut facts =
            partitions.map(|found| Fact::Batch(found, marker.clone())).collect::<Command>();
        facts.push(self.register());
        match self.rig.markers {
            Markers::OneFrame => self.append(facts),
            Markers::FrameEach => {
                self.append_frames(facts.into_iter().map(|fact| vec![fact]).collect())
            }
        }
    }

    fn register(&mut self) -> Fact {
        let number = u8::try_from(self.chance.below(4)).unwrap_or(0);
        let serial = self.next_serial();
        Fact::Register(number, Bytes::copy_from_slice(&serial.to_be_bytes()))
    }

    fn batch(&mut self) -> PreparedBatch {
        let serial = self.next_serial();
        let mut builder = BatchBuilder::new(Codec::None);
        for record in 0..self.chance.between(1, 4) {
            let timestamp_ms = 1_000_000 + i64::try_from(self.chance.below(5_000)).unwrap_or(0);
            let value = self.filled(serial + u64::try_from(record).unwrap_or(0));
            let key = self.chance.pick(&KEYS).copied();
            builder.push(&RecordDraft { timestamp_ms, key, value: Some(&value), headers: &[] });
        }
        builder.build()
    }

    fn body(&mut self) -> Bytes {
        let serial = self.next_serial();
        self.filled(serial).into()
    }

    /// Bytes that no other body of the run has, of a length that is now and then awkward.
    fn filled(&mut self, serial: u64) -> Vec<u8> {
        let len = match self.chance.below(100) {
            0..70 => self.chance.between(8, 200),
            70..92 => self.chance.between(200, 1_500),
            92..98 => self.chance.between(3_900, 4_300),
            _ => self.chance.between(4_300, 12_000),
        };
        let mut bytes = Vec::with_capacity(len + 8);
        let mut word = Chance::new(serial);
        bytes.extend_from_slice(&serial.to_be_bytes());
        while bytes.len() < len {
            bytes.extend_from_slice(&word.next().to_be_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 8;
        self.serial
    }
}

/// Judges a recovered store: it must hold one of the states within `bounds`, exactly. Returns which.
pub fn judge(
    recovered: &(Store, Engine),
    history: &History,
    bounds: Bounds,
) -> Result<usize, String> {
    let (store, engine) = recovered;
    let found = history.state_at(engine.newest());
    if found < bounds.least {
        let (lost, least) = (bounds.least - found, bounds.least);
        return Err(format!(
            "{lost} acknowledged commands are missing: state {found}, not {least}"
        ));
    }
    if found > bounds.most {
        return Err(format!("state {found}, but only {} was written", bounds.most));
    }
    let truth = history.truth(found);
    if let Some(difference) = engine.difference(&truth) {
        return Err(format!("state {found} of {}..={}: {difference}", bounds.least, bounds.most));
    }
    check::reads(store, &truth, &truth)
        .map_err(|what| format!("state {found} of {}..={}: {what}", bounds.least, bounds.most))?;
    let next = store.new_stream_id();
    if truth.id_max > 0 && next.0 <= truth.id_max {
        return Err(format!("new stream {next}, but {} existed", truth.id_max));
    }
    Ok(found)
}

/// Everything small, so that every run rolls, retires, snapshots and recycles.
#[must_use]
pub fn tiny_options(seed: u64) -> Options {
    let mut chance = Chance::new(seed).fork(0x0B);
    let pages = chance.pick(&[2_u64, 4, 8, 16]).copied().unwrap_or(4);
    let segments = chance.pick(&[2_u64, 3, 4]).copied().unwrap_or(3);
    Options {
        durability: Durability::Sync,
        wal_segment_bytes: pages * 4096,
        wal_window_bytes: pages * 4096 * segments,
        wal_window_entries: chance.between(8, 60),
        cache_bytes: chance.pick(&[0_usize, 4096, 65_536]).copied().unwrap_or(0),
        unsynced_bytes_max: 256 << 10,
        disk_reserve_bytes: 0,
        ballast_bytes: chance.pick(&[0_u64, 16 << 10]).copied().unwrap_or(0),
        segment_bytes: chance.pick(&[2_u64 << 10, 8 << 10]).copied().unwrap_or(8 << 10),
        seed,
        ..Options::default()
    }
}

fn is_full(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::StorageFull
}

/// What records have for keys: few, so that a compaction finds something to take.
const KEYS: [&[u8]; 4] = [b"k", b"key", b"another key", b""];
/// Pieces of the keeper's work before a compaction is tried.
const PIECES_BEFORE_COMPACTION: usize = 12;
const STREAMS_MAX: usize = 4;
/// Rounds of commit and keep after which a disk with room counts as settled.
const ROUNDS_MAX: usize = 40;
