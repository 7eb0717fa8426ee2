//! The parts of an open store that its roles share.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::admission::Admission;
use crate::buffers::Buffers;
use crate::disk::Disk;
use crate::garbage::Garbage;
use crate::index_cache::Indexes;
use crate::messages::OldLogs;
use crate::options::Options;
use crate::state::{Damage, DurableObserver};
use crate::streams::Streams;
use crate::wal::writer::Wal;
use crate::{Lsn, StreamId};

/// An open store without its face.
pub(crate) struct Core {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) wal: Wal,
    pub(crate) streams: Streams,
    pub(crate) old_logs: OldLogs,
    pub(crate) indexes: Indexes,
    pub(crate) buffers: Arc<Buffers>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) garbage: Garbage,
    pub(crate) observer: OnceLock<Box<dyn DurableObserver>>,
    /// Everything below is retired: in segments, old logs and snapshots.
    pub(crate) floor: AtomicU64,
    /// Numbers files; never used twice.
    pub(crate) next_file: AtomicU64,
    /// Batches and messages in the WAL since the floor.
    pub(crate) young_entries: AtomicU64,
    pub(crate) damage: Mutex<Vec<Damage>>,
}

impl Core {
    pub(crate) fn durable(&self) -> Lsn {
        Lsn(self.wal.durable())
    }

    pub(crate) fn report(&self, stream: StreamId, lsn: Lsn, what: String) {
        let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        if damage.len() < DAMAGE_MAX {
            damage.push(Damage { stream, lsn, what });
        }
    }
}

/// Reports kept; the streams beyond are quarantined all the same.
const DAMAGE_MAX: usize = 10_000;
