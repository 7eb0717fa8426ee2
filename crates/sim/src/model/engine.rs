//! The smallest engine: its state is objects, each with the place of its newest fact; a replay of
//! the log over their snapshot must give them again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes};
use ottla_store::frame::{Appended, Item, StreamKind};
use ottla_store::{Lsn, Replay, ReplayFact, ReplayItem, State, StreamId};

use super::truth::WINDOW_MAX;
use super::{Fact, Truth};

/// An engine without a wire: a catalogue, the entries of queues, duplicate windows, registers.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    streams: BTreeMap<StreamId, StreamKind>,
    catalog_applied: Lsn,
    queues: BTreeMap<StreamId, Entries>,
    windows: BTreeMap<StreamId, Window>,
    registers: BTreeMap<u8, Register>,
    /// The newest place it has heard of.
    newest: Lsn,
    planted: Planted,
}

/// Mistakes an engine can make with a store that makes none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Planted {
    /// None.
    #[default]
    Nothing,
    /// Leaves the duplicate windows out of the snapshot.
    DuplicateWindowLost,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entries {
    applied: Lsn,
    live: BTreeSet<Lsn>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Window {
    applied: Lsn,
    batches: Vec<Lsn>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Register {
    applied: Lsn,
    value: Bytes,
}

/// What a fact says to the engine.
#[derive(Debug)]
enum Change<'a> {
    Create(StreamId, StreamKind),
    Delete(StreamId),
    Batch(StreamId),
    Trim(StreamId),
    Message(&'a [StreamId]),
    Settle(StreamId, &'a [Lsn]),
    Register(u8, &'a [u8]),
    Nothing,
}

/// What is snapshotted as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Object {
    Catalog,
    Queue(StreamId),
    Window(StreamId),
    Register(u8),
}

impl Engine {
    /// An engine that makes this mistake.
    #[must_use]
    pub fn with_planted(planted: Planted) -> Self {
        Self { planted, ..Self::default() }
    }

    /// The newest place that a snapshot or a frame told it of.
    #[must_use]
    pub const fn newest(&self) -> Lsn {
        self.newest
    }

    /// Applies what it has just appended.
    pub fn appended(&mut self, facts: &[Fact], appended: &Appended) {
        let payloads = facts.iter().map(Fact::to_item).collect::<Vec<_>>();
        let items = payloads.iter().zip(&appended.items);
        let changes = items.map(|(item, lsn)| (*lsn, Change::of_item(item))).collect::<Vec<_>>();
        self.apply(appended.lsn, &changes);
    }

    /// What it holds that `truth` does not, or the other way round.
    #[must_use]
    pub fn difference(&self, truth: &Truth) -> Option<String> {
        let streams = self.streams.keys().copied().collect::<BTreeSet<_>>();
        let expected = truth.streams().into_iter().collect::<BTreeSet<_>>();
        if streams != expected {
            return Some(format!("streams {streams:?}, expected {expected:?}"));
        }
        for (stream, queue) in &truth.queues {
            let live = queue.live.keys().copied().collect::<BTreeSet<_>>();
            let found = self.queues.get(stream).map(|entries| &entries.live);
            if found != Some(&live) {
                return Some(format!("queue {stream} holds {found:?}, expected {live:?}"));
            }
        }
        for (stream, partition) in &truth.partitions {
            let found = self.windows.get(stream).map(|window| &window.batches);
            if found != Some(&partition.window) {
                let expected = &partition.window;
                return Some(format!("window of {stream}: {found:?}, expected {expected:?}"));
            }
        }
        let registers = self.registers.iter();
        let found = registers.map(|(number, register)| (*number, register.value.clone()));
        let expected = truth.registers.iter().map(|(number, (_, value))| (*number, value.clone()));
        let (found, expected) =
            (found.collect::<BTreeMap<_, _>>(), expected.collect::<BTreeMap<_, _>>());
        (found != expected).then(|| format!("registers {found:?}, expected {expected:?}"))
    }

    /// Applies a frame to each object it touches whose newest fact is older (store.md rule 14).
    fn apply(&mut self, frame: Lsn, changes: &[(Lsn, Change<'_>)]) {
        self.newest = self.newest.max(frame);
        let current = changes
            .iter()
            .flat_map(|(_, change)| change.objects())
            .filter(|object| self.applied(*object).is_some_and(|applied| applied >= frame))
            .collect::<BTreeSet<_>>();
        for (item, change) in changes {
            for object in change.objects() {
                if !current.contains(&object) {
                    self.change(object, frame, *item, change);
                }
            }
        }
    }

    fn applied(&self, object: Object) -> Option<Lsn> {
        match object {
            Object::Catalog => Some(self.catalog_applied),
            Object::Queue(queue) => self.queues.get(&queue).map(|entries| entries.applied),
            Object::Window(stream) => self.windows.get(&stream).map(|window| window.applied),
            Object::Register(number) => self.registers.get(&number).map(|found| found.applied),
        }
    }

    fn change(&mut self, object: Object, frame: Lsn, item: Lsn, change: &Change<'_>) {
        match (object, change) {
            (Object::Catalog, Change::Create(stream, kind)) => {
                self.catalog_applied = frame;
                self.create(*stream, *kind, frame);
            }
            (Object::Catalog, Change::Delete(stream)) => {
                self.catalog_applied = frame;
                self.delete(*stream);
            }
            (Object::Queue(queue), Change::Message(_)) => {
                if let Some(entries) = self.queues.get_mut(&queue) {
                    entries.applied = frame;
                    entries.live.insert(item);
                }
            }
            (Object::Queue(queue), Change::Settle(_, messages)) => {
                self.settle(queue, messages, frame);
            }
            (Object::Window(stream), Change::Trim(_)) => {
                if let Some(window) = self.windows.get_mut(&stream) {
                    window.applied = frame;
                }
            }
            (Object::Window(stream), _) => {
                if let Some(window) = self.windows.get_mut(&stream) {
                    window.applied = frame;
                    window.batches.push(frame);
                    if window.batches.len() > WINDOW_MAX {
                        window.batches.remove(0);
                    }
                }
            }
            (Object::Register(number), Change::Register(_, value)) => {
                let value = Bytes::copy_from_slice(value);
                self.registers.insert(number, Register { applied: frame, value });
            }
            _ => {}
        }
    }

    fn create(&mut self, stream: StreamId, kind: StreamKind, frame: Lsn) {
        self.streams.insert(stream, kind);
        match kind {
            StreamKind::Partition => {
                let window = Window { applied: frame, ..Window::default() };
                self.windows.insert(stream, window);
            }
            StreamKind::Queue => {
                let entries = Entries { applied: frame, ..Entries::default() };
                self.queues.insert(stream, entries);
            }
        }
    }

    fn delete(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
        self.windows.remove(&stream);
        self.queues.remove(&stream);
    }

    fn settle(&mut self, queue: StreamId, messages: &[Lsn], frame: Lsn) {
        let Some(entries) = self.queues.get_mut(&queue) else { return };
        entries.applied = frame;
        for message in messages {
            entries.live.remove(message);
        }
    }
}

impl State for Engine {
    fn snapshot(&self, sink: &mut dyn FnMut(&[u8], Lsn, &[u8])) {
        let mut catalog = Vec::new();
        for (stream, kind) in &self.streams {
            catalog.put_u64(stream.0);
            catalog.put_u8(u8::from(*kind == StreamKind::Queue));
        }
        sink(b"c", self.catalog_applied, &catalog);
        for (stream, entries) in &self.queues {
            sink(&key(b'q', *stream), entries.applied, &places(&entries.live));
        }
        if self.planted != Planted::DuplicateWindowLost {
            for (stream, window) in &self.windows {
                sink(&key(b'w', *stream), window.applied, &places(&window.batches));
            }
        }
        for (number, register) in &self.registers {
            sink(&[b'r', *number], register.applied, &register.value);
        }
    }

    fn holds(&self, queue: StreamId, message: Lsn) -> bool {
        self.queues.get(&queue).is_some_and(|entries| entries.live.contains(&message))
    }

    /// Half of the partitions close segments by time as well.
    fn segment_ms(&self, partition: StreamId) -> Option<i64> {
        partition.0.is_multiple_of(2).then_some(SEGMENT_MS)
    }
}

/// The workload's timestamps lie within 5,000 ms.
const SEGMENT_MS: i64 = 4_000;

impl Replay for Engine {
    fn object(&mut self, key: &[u8], applied: Lsn, mut bytes: &[u8]) -> Result<(), String> {
        self.newest = self.newest.max(applied);
        let (kind, mut rest) = key.split_first().ok_or("an object without a key")?;
        let malformed = || format!("malformed object {key:?}");
        match kind {
            b'c' => {
                self.catalog_applied = applied;
                while let (Ok(stream), Ok(kind)) = (bytes.try_get_u64(), bytes.try_get_u8()) {
                    let kind = if kind == 0 { StreamKind::Partition } else { StreamKind::Queue };
                    self.create(StreamId(stream), kind, Lsn::ZERO);
                }
            }
            b'q' => {
                let queue = StreamId(rest.try_get_u64().map_err(|_| malformed())?);
                let live = read_places(bytes).into_iter().collect();
                self.queues.insert(queue, Entries { applied, live });
            }
            b'w' => {
                let stream = StreamId(rest.try_get_u64().map_err(|_| malformed())?);
                self.windows.insert(stream, Window { applied, batches: read_places(bytes) });
            }
            b'r' => {
                let number = rest.try_get_u8().map_err(|_| malformed())?;
                let value = Bytes::copy_from_slice(bytes);
                self.registers.insert(number, Register { applied, value });
            }
            _ => return Err(malformed()),
        }
        Ok(())
    }

    fn frame(&mut self, lsn: Lsn, items: &[ReplayItem<'_>]) -> Result<(), String> {
        let changes = items.iter().map(|item| (item.lsn, Change::of_fact(&item.fact)));
        self.apply(lsn, &changes.collect::<Vec<_>>());
        Ok(())
    }
}

impl<'a> Change<'a> {
    fn of_item(item: &'a Item) -> Self {
        match item {
            Item::Create { stream, kind } => Self::Create(*stream, *kind),
            Item::Delete { stream } => Self::Delete(*stream),
            Item::Batch { stream, .. } => Self::Batch(*stream),
            Item::Message { queues, .. } => Self::Message(queues),
            Item::Settle { queue, messages } => Self::Settle(*queue, messages),
            Item::State { payload } => Self::of_state(payload),
            Item::Trim { stream, .. } => Self::Trim(*stream),
        }
    }

    fn of_fact(fact: &'a ReplayFact<'_>) -> Self {
        match fact {
            ReplayFact::Create(stream, kind) => Self::Create(*stream, *kind),
            ReplayFact::Delete(stream) => Self::Delete(*stream),
            ReplayFact::Batch(stream, _) => Self::Batch(*stream),
            ReplayFact::Message(queues, _) => Self::Message(queues),
            ReplayFact::Settle(queue, messages) => Self::Settle(*queue, messages),
            ReplayFact::State(payload) => Self::of_state(payload),
            ReplayFact::Trim(stream, _) => Self::Trim(*stream),
        }
    }

    fn of_state(payload: &'a [u8]) -> Self {
        payload
            .split_first()
            .map_or(Self::Nothing, |(number, value)| Self::Register(*number, value))
    }

    fn objects(&self) -> Vec<Object> {
        match self {
            Self::Create(..) | Self::Delete(_) => vec![Object::Catalog],
            Self::Batch(stream) | Self::Trim(stream) => vec![Object::Window(*stream)],
            Self::Message(queues) => queues.iter().copied().map(Object::Queue).collect(),
            Self::Settle(queue, _) => vec![Object::Queue(*queue)],
            Self::Register(number, _) => vec![Object::Register(*number)],
            Self::Nothing => Vec::new(),
        }
    }
}

fn key(kind: u8, stream: StreamId) -> [u8; 9] {
    let mut key = [kind; 9];
    key[1..].copy_from_slice(&stream.0.to_be_bytes());
    key
}

fn places<'a>(places: impl IntoIterator<Item = &'a Lsn>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for place in places {
        bytes.put_u64(place.0);
    }
    bytes
}

fn read_places(mut bytes: &[u8]) -> Vec<Lsn> {
    let mut places = Vec::new();
    while let Ok(place) = bytes.try_get_u64() {
        places.push(Lsn(place));
    }
    places
}
