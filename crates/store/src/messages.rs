//! Where messages are once the WAL lets go of them: one old-log file a stride.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;

use crate::disk::Disk;
use crate::files::FileError;
use crate::oldlog::OldLogReader;
use crate::state::State;
use crate::wal::layout::{ItemHeader, Kind, queues_of, split_message, u64_at};
use crate::{Lsn, StreamId};

/// One old-log file: what was alive in `[from, to)` of the WAL when that stride was retired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OldLogMeta {
    pub(crate) file: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
}

/// All old-log files, by the stride they cover.
#[derive(Debug, Default)]
pub(crate) struct OldLogs {
    by_from: RwLock<BTreeMap<u64, Arc<OldLogMeta>>>,
    /// Open files, by number; at most [`OPEN_MAX`].
    open: Mutex<HashMap<u64, Arc<OldLogReader>>>,
}

impl OldLogs {
    pub(crate) fn new(metas: impl IntoIterator<Item = OldLogMeta>) -> Self {
        let by_from = metas.into_iter().map(|meta| (meta.from, Arc::new(meta))).collect();
        Self { by_from: RwLock::new(by_from), open: Mutex::default() }
    }

    pub(crate) fn find(&self, lsn: u64) -> Option<Arc<OldLogMeta>> {
        let by_from = self.by_from.read().unwrap_or_else(PoisonError::into_inner);
        let (_, meta) = by_from.range(..=lsn).next_back()?;
        (lsn < meta.to).then(|| Arc::clone(meta))
    }

    pub(crate) fn insert(&self, meta: OldLogMeta) {
        let mut by_from = self.by_from.write().unwrap_or_else(PoisonError::into_inner);
        let before = by_from.insert(meta.from, Arc::new(meta));
        drop(by_from);
        self.close(before);
    }

    pub(crate) fn remove(&self, from: u64) {
        let mut by_from = self.by_from.write().unwrap_or_else(PoisonError::into_inner);
        let before = by_from.remove(&from);
        drop(by_from);
        self.close(before);
    }

    /// A file that is held open keeps its bytes on the disk though it has no name any more.
    fn close(&self, gone: Option<Arc<OldLogMeta>>) {
        if let Some(meta) = gone {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&meta.file);
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<OldLogMeta>> {
        self.by_from.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl OldLogs {
    /// The body of the message at `lsn`; `None` if no old log has it.
    pub(crate) fn body(&self, disk: &dyn Disk, lsn: Lsn) -> Result<Option<Bytes>, FileError> {
        let Some(meta) = self.find(lsn.0) else { return Ok(None) };
        let found = self.reader(disk, &meta)?.get(lsn)?;
        Ok(found.and_then(|bytes| body_of(&bytes)))
    }

    fn reader(&self, disk: &dyn Disk, meta: &OldLogMeta) -> Result<Arc<OldLogReader>, FileError> {
        let lock = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(&meta.file).cloned();
        if let Some(reader) = known {
            return Ok(reader);
        }
        let path = old_log_path(meta.file);
        let reader = Arc::new(OldLogReader::open(disk, &path, meta.bytes)?);
        let mut open = lock();
        if open.len() >= OPEN_MAX {
            open.clear();
        }
        open.insert(meta.file, Arc::clone(&reader));
        Ok(reader)
    }
}

/// A message as an old log keeps it: first queue and number of queues, then the log's payload.
pub(crate) fn old_bytes(header: &ItemHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(OLD_PREFIX_BYTES + payload.len());
    bytes.extend_from_slice(&header.stream.to_le_bytes());
    bytes.extend_from_slice(&header.aux.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Whether any of the queues it was routed to still holds a message of an old log.
pub(crate) fn is_alive(state: &dyn State, lsn: Lsn, bytes: &[u8]) -> bool {
    let Some((header, payload)) = parts(bytes) else { return true };
    queues_of(&header, payload).any(|queue| state.holds(StreamId(queue), lsn))
}

fn body_of(bytes: &Bytes) -> Option<Bytes> {
    let (header, payload) = parts(bytes)?;
    let (_, body) = split_message(header.aux, payload)?;
    Some(bytes.slice_ref(body))
}

fn parts(bytes: &[u8]) -> Option<(ItemHeader, &[u8])> {
    let (stream, aux) = (u64_at(bytes, 0)?, u64_at(bytes, 8)?);
    let payload = bytes.get(OLD_PREFIX_BYTES..)?;
    let kind = Kind::Message;
    Some((ItemHeader { kind, payload_bytes: 0, payload_crc: 0, stream, aux }, payload))
}

const OLD_PREFIX_BYTES: usize = 16;
/// Open old logs kept.
const OPEN_MAX: usize = 256;

/// The path of an old-log file.
pub(crate) fn old_log_path(file: u64) -> String {
    format!("{OLD_LOG_DIR}/{file:016x}.old")
}

pub(crate) const OLD_LOG_DIR: &str = "oldlog";
