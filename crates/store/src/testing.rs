//! Helpers of the crate's own tests: a disk in memory and a model of the engine's state.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::batch::{BatchBuilder, RecordDraft};
use crate::codec::Codec;
use crate::disk::{Disk, DiskFile};
use crate::frame::{Appended, Frame, Item, StreamKind};
use crate::state::{Purpose, Replay, ReplayFact, ReplayItem, State};
use crate::{Lsn, Offset, OpenError, Options, ReadLimit, Store, StreamId};

#[derive(Debug, Default)]
struct MemFile {
    /// What programs see, and what survives the loss of power.
    now: Mutex<Vec<u8>>,
    synced: Mutex<Vec<u8>>,
    /// Syncs until one fails; negative: never.
    syncs_left: AtomicI64,
}

/// Files in memory; names are durable at once, bytes when synced.
#[derive(Debug)]
pub(crate) struct MemDisk {
    files: Mutex<BTreeMap<String, Arc<MemFile>>>,
    dirs: Mutex<BTreeSet<String>>,
    pub(crate) free: AtomicU64,
    /// Files that may still be created under `partitions/`; negative: any number.
    pub(crate) full_after: AtomicI64,
}

impl MemDisk {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            files: Mutex::default(),
            dirs: Mutex::default(),
            free: AtomicU64::new(1 << 40),
            full_after: AtomicI64::new(-1),
        })
    }

    /// The disk as it is after the loss of power.
    pub(crate) fn after_power_loss(&self) -> Arc<Self> {
        self.copied(|file| file.synced.lock().unwrap().clone())
    }

    /// The disk as it is after the process was killed.
    pub(crate) fn after_kill(&self) -> Arc<Self> {
        self.copied(|file| file.now.lock().unwrap().clone())
    }

    fn copied(&self, bytes: impl Fn(&MemFile) -> Vec<u8>) -> Arc<Self> {
        let files = self.files.lock().unwrap();
        let copy = |(name, file): (&String, &Arc<MemFile>)| {
            let bytes = bytes(file);
            let file = MemFile {
                now: Mutex::new(bytes.clone()),
                synced: Mutex::new(bytes),
                syncs_left: AtomicI64::new(-1),
            };
            (name.clone(), Arc::new(file))
        };
        Arc::new(Self {
            files: Mutex::new(files.iter().map(copy).collect()),
            dirs: Mutex::new(self.dirs.lock().unwrap().clone()),
            free: AtomicU64::new(self.free.load(Ordering::Relaxed)),
            full_after: AtomicI64::new(-1),
        })
    }

    /// Changes the bytes of a file, on the disk and in memory.
    pub(crate) fn damage(&self, name: &str, change: impl Fn(&mut Vec<u8>)) {
        let files = self.files.lock().unwrap();
        let file = &files[name];
        change(&mut file.now.lock().unwrap());
        change(&mut file.synced.lock().unwrap());
    }

    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let files = self.files.lock().unwrap();
        files.keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        self.files.lock().unwrap()[name].now.lock().unwrap().clone()
    }

    /// Syncs of files under `prefix` fail from now on.
    pub(crate) fn fail_syncs(&self, prefix: &str) {
        let files = self.files.lock().unwrap();
        for (name, file) in files.iter() {
            if name.starts_with(prefix) {
                file.syncs_left.store(0, Ordering::Relaxed);
            }
        }
    }

    fn file(&self, path: &str) -> io::Result<Arc<MemFile>> {
        let files = self.files.lock().unwrap();
        files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for MemDisk {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.dirs.lock().unwrap().insert(path.to_owned());
        Ok(())
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        if path.starts_with("partitions/") {
            match self.full_after.load(Ordering::Relaxed) {
                0 => return Err(io::ErrorKind::StorageFull.into()),
                left => self.full_after.store((left - 1).max(-1), Ordering::Relaxed),
            }
        }
        let mut files = self.files.lock().unwrap();
        if files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(MemFile { syncs_left: AtomicI64::new(-1), ..MemFile::default() });
        files.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path)?)
    }

    fn open_read(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(path)?)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let inside = if path.is_empty() { String::new() } else { format!("{path}/") };
        let mut names = BTreeSet::new();
        let files = self.files.lock().unwrap();
        let dirs = self.dirs.lock().unwrap();
        if !path.is_empty() && !dirs.contains(path) && !files.keys().any(|k| k.starts_with(&inside))
        {
            return Err(io::ErrorKind::NotFound.into());
        }
        for name in files.keys().chain(dirs.iter()) {
            if let Some(rest) = name.strip_prefix(&inside) {
                names.insert(rest.split('/').next().unwrap().to_owned());
            }
        }
        Ok(names.into_iter().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.file(from)?;
        let mut files = self.files.lock().unwrap();
        files.remove(from);
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let removed = self.files.lock().unwrap().remove(path);
        removed.map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.dirs.lock().unwrap().remove(path);
        Ok(())
    }

    fn sync_dir(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.free.load(Ordering::Relaxed))
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let now = self.now.lock().unwrap();
        let position = usize::try_from(position).unwrap().min(now.len());
        let bytes = buffer.len().min(now.len() - position);
        buffer[..bytes].copy_from_slice(&now[position..position + bytes]);
        Ok(bytes)
    }

    fn write_at(&self, parts: &[io::IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut now = self.now.lock().unwrap();
        let mut position = usize::try_from(position).unwrap();
        for part in parts {
            let end = position + part.len();
            if now.len() < end {
                now.resize(end, 0);
            }
            now[position..end].copy_from_slice(part);
            position = end;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.syncs_left.load(Ordering::Relaxed) == 0 {
            return Err(io::Error::other("bad sector"));
        }
        self.synced.lock().unwrap().clone_from(&self.now.lock().unwrap());
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.now.lock().unwrap().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.now.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<bool> {
        self.set_len(len).map(|()| false)
    }
}

/// A broker's state as small as can be: which messages each queue holds, and the last note.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) queues: Mutex<HashMap<StreamId, BTreeSet<Lsn>>>,
    pub(crate) note: Mutex<(Lsn, Vec<u8>)>,
    pub(crate) bodies: HashMap<Lsn, Vec<u8>>,
    pub(crate) batches: Vec<(StreamId, Offset)>,
}

impl State for Model {
    fn snapshot(&self, sink: &mut dyn FnMut(&[u8], Lsn, &[u8])) {
        let note = self.note.lock().unwrap();
        sink(b"note", note.0, &note.1);
        for (queue, messages) in self.queues.lock().unwrap().iter() {
            let bytes: Vec<u8> = messages.iter().flat_map(|lsn| lsn.0.to_le_bytes()).collect();
            let applied = messages.iter().next_back().copied().unwrap_or_default();
            sink(format!("queue {}", queue.0).as_bytes(), applied, &bytes);
        }
    }

    fn holds(&self, queue: StreamId, message: Lsn) -> bool {
        self.queues.lock().unwrap().get(&queue).is_some_and(|queue| queue.contains(&message))
    }
}

impl Replay for Model {
    fn object(&mut self, key: &[u8], applied: Lsn, bytes: &[u8]) -> Result<(), String> {
        if key == b"note" {
            *self.note.get_mut().unwrap() = (applied, bytes.to_vec());
            return Ok(());
        }
        let key = std::str::from_utf8(key).unwrap();
        let queue = StreamId(key.strip_prefix("queue ").unwrap().parse().unwrap());
        let words = bytes.chunks(8).map(|word| Lsn(u64::from_le_bytes(word.try_into().unwrap())));
        self.queues.get_mut().unwrap().insert(queue, words.collect());
        Ok(())
    }

    fn frame(&mut self, _lsn: Lsn, items: &[ReplayItem<'_>]) -> Result<(), String> {
        let queues = self.queues.get_mut().unwrap();
        for item in items {
            match &item.fact {
                ReplayFact::Create(stream, StreamKind::Queue) => {
                    queues.entry(*stream).or_default();
                }
                ReplayFact::Delete(stream) => {
                    queues.remove(stream);
                }
                ReplayFact::Message(to, body) => {
                    for queue in to {
                        queues.entry(*queue).or_default().insert(item.lsn);
                    }
                    self.bodies.insert(item.lsn, body.to_vec());
                }
                ReplayFact::Settle(queue, messages) => {
                    for message in messages {
                        queues.entry(*queue).or_default().remove(message);
                    }
                }
                ReplayFact::State(payload) => {
                    *self.note.get_mut().unwrap() = (item.lsn, payload.to_vec());
                }
                ReplayFact::Batch(stream, header) => {
                    self.batches.push((*stream, header.base_offset));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A store over a memory disk with the model as its engine.
pub(crate) struct Broker {
    pub(crate) disk: Arc<MemDisk>,
    pub(crate) store: Store,
    pub(crate) model: Model,
}

impl Broker {
    pub(crate) fn start(disk: &Arc<MemDisk>) -> Self {
        Self::try_start(disk, 1).unwrap()
    }

    pub(crate) fn try_start(disk: &Arc<MemDisk>, seed: u64) -> Result<Self, OpenError> {
        Self::start_with(disk, tiny(seed))
    }

    pub(crate) fn start_with(disk: &Arc<MemDisk>, options: Options) -> Result<Self, OpenError> {
        let mut model = Model::default();
        let store = Store::open(Arc::clone(disk) as Arc<dyn Disk>, options, &mut model)?;
        Ok(Self { disk: Arc::clone(disk), store, model })
    }

    pub(crate) fn append(&self, frame: Frame) -> Appended {
        let room = self.store.reserve(Purpose::Grow, 8, 1 << 16).unwrap();
        self.store.append(room, frame)
    }

    pub(crate) fn create(&self, kind: StreamKind) -> StreamId {
        let stream = self.store.new_stream_id();
        self.append(Frame::of(Item::Create { stream, kind }));
        if kind == StreamKind::Queue {
            self.model.queues.lock().unwrap().insert(stream, BTreeSet::new());
        }
        stream
    }

    pub(crate) fn produce(&self, stream: StreamId, value: &[u8]) -> Offset {
        let batch = batch_of(value);
        self.append(Frame::of(Item::Batch { stream, batch })).offsets[0]
    }

    pub(crate) fn publish(&self, queues: &[StreamId], body: &[u8]) -> Lsn {
        let body = Bytes::copy_from_slice(body);
        let item = Item::Message { queues: queues.to_vec(), body };
        let lsn = self.append(Frame::of(item)).items[0];
        for queue in queues {
            self.model.queues.lock().unwrap().entry(*queue).or_default().insert(lsn);
        }
        lsn
    }

    pub(crate) fn settle(&self, queue: StreamId, message: Lsn) {
        self.append(Frame::of(Item::Settle { queue, messages: vec![message] }));
        self.model.queues.lock().unwrap().get_mut(&queue).unwrap().remove(&message);
    }

    pub(crate) fn note(&self, text: &str) {
        let payload = Bytes::copy_from_slice(text.as_bytes());
        let lsn = self.append(Frame::of(Item::State { payload })).lsn;
        *self.model.note.lock().unwrap() = (lsn, text.as_bytes().to_vec());
    }

    pub(crate) fn commit(&self) {
        while self.store.commit().unwrap().is_some() {}
    }

    /// Commits and keeps house until there is nothing to do.
    pub(crate) fn settle_down(&self) {
        for _ in 0..1000 {
            self.commit();
            if !self.store.keep(&self.model).unwrap() {
                return;
            }
        }
        panic!("the keeper never comes to rest");
    }

    /// The values of all records from `from` on, in order.
    pub(crate) fn values(&self, stream: StreamId, from: i64) -> Vec<Vec<u8>> {
        let mut values = Vec::new();
        let mut from = Offset(from);
        loop {
            let limit = ReadLimit { end: Offset(i64::MAX), bytes_max: 300 };
            let read = self.store.read(stream, from, limit).unwrap();
            if read.bytes == 0 {
                return values;
            }
            for piece in read.pieces {
                for batch in crate::batch::split(piece) {
                    let batch = batch.unwrap();
                    let header = crate::batch::BatchHeader::parse(&batch).unwrap();
                    assert!(header.base_offset <= from, "a hole before {}", header.base_offset);
                    let records = crate::records::Records::open(&batch).unwrap();
                    for record in records.iter() {
                        values.push(record.unwrap().value.unwrap().to_vec());
                    }
                    from = header.next_offset();
                }
            }
        }
    }
}

/// A batch of one record.
pub(crate) fn batch_of(value: &[u8]) -> crate::batch::PreparedBatch {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(&RecordDraft { timestamp_ms: 1000, key: None, value: Some(value), headers: &[] });
    builder.build()
}

/// So small that every test recycles.
pub(crate) fn tiny(seed: u64) -> Options {
    Options {
        wal_segment_bytes: 16 << 10,
        wal_window_bytes: 64 << 10,
        cache_bytes: 8 << 10,
        disk_reserve_bytes: 0,
        segment_bytes: 64 << 10,
        seed,
        ..Options::default()
    }
}
