//! What must be there after a prefix of the history: no files, no log, no clever structure.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ottla_store::batch::PreparedBatch;
use ottla_store::frame::{Appended, StreamKind};
use ottla_store::{Lsn, Offset, StreamId};

use super::Fact;

/// Everything that exists. Cloning shares the streams.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Every partition.
    pub partitions: BTreeMap<StreamId, Arc<Partition>>,
    /// Every queue.
    pub queues: BTreeMap<StreamId, Arc<Queue>>,
    /// Registers of the engine, by number, with the place of their newest value.
    pub registers: BTreeMap<u8, (Lsn, Bytes)>,
    /// Streams that were deleted.
    pub deleted: Arc<Vec<StreamId>>,
    /// The highest id any stream ever had.
    pub id_max: u64,
    /// The place of the newest create or delete.
    pub catalog_changed: Lsn,
}

/// A partition.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    /// The log start offset.
    pub start: Offset,
    /// The offset the next record gets.
    pub end: Offset,
    /// All batches that hold a record at or above `start`.
    pub batches: Vec<Stored>,
    /// The last batches whatever `start` is: what a producer's retry would be compared with.
    pub window: Vec<Lsn>,
    /// Below this a compaction may have taken records that a later one of their key supersedes.
    pub compacted: Offset,
    /// The place of the newest batch.
    pub appended: Lsn,
    /// The place of the newest fact about it.
    pub changed: Lsn,
}

/// A batch as it must be read back.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The offset of its first record.
    pub base: Offset,
    /// The offset after its last record.
    pub next: Offset,
    /// Its bytes, stamped.
    pub bytes: Bytes,
    /// The frame that brought it.
    pub lsn: Lsn,
}

/// A queue.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    /// Messages that are not settled, with their bodies and frames.
    pub live: BTreeMap<Lsn, (Bytes, Lsn)>,
    /// The place of the newest fact about it.
    pub changed: Lsn,
}

/// Batches that the duplicate window remembers, as Kafka does.
pub(super) const WINDOW_MAX: usize = 5;

impl Truth {
    /// Applies what was appended. An offset that is not the partition's next one is an error.
    pub fn apply(&mut self, facts: &[Fact], appended: &Appended) -> Result<(), String> {
        let mut offsets = appended.offsets.iter();
        for (fact, lsn) in facts.iter().zip(&appended.items) {
            match fact {
                Fact::Create(stream, kind) => self.create(*stream, *kind, appended.lsn),
                Fact::Delete(stream) => self.delete(*stream, appended.lsn),
                Fact::Trim(stream, start) => self.trim(*stream, *start, appended.lsn),
                Fact::Batch(stream, batch) => {
                    let base = offsets.next().ok_or("a batch without an offset")?;
                    self.batch(*stream, batch, *base, appended.lsn)?;
                }
                Fact::Message(queues, body) => {
                    for queue in queues {
                        self.queue(*queue, appended.lsn, |queue| {
                            queue.live.insert(*lsn, (body.clone(), appended.lsn));
                        });
                    }
                }
                Fact::Settle(queue, messages) => self.queue(*queue, appended.lsn, |queue| {
                    queue.live.retain(|message, _| !messages.contains(message));
                }),
                Fact::Register(number, value) => {
                    self.registers.insert(*number, (appended.lsn, value.clone()));
                }
            }
        }
        Ok(())
    }

    /// Notes that a compaction of `stream` below `below` was begun.
    pub fn compact(&mut self, stream: StreamId, below: Offset) {
        if let Some(partition) = self.partitions.get_mut(&stream)
            && partition.compacted < below
        {
            Arc::make_mut(partition).compacted = below;
        }
    }

    /// Every stream there is.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamId> {
        self.partitions.keys().chain(self.queues.keys()).copied().collect()
    }

    fn create(&mut self, stream: StreamId, kind: StreamKind, lsn: Lsn) {
        self.id_max = self.id_max.max(stream.0);
        self.catalog_changed = lsn;
        if self.deleted.contains(&stream) {
            Arc::make_mut(&mut self.deleted).retain(|deleted| *deleted != stream);
        }
        match kind {
            StreamKind::Partition => {
                let partition = Partition { changed: lsn, appended: lsn, ..Partition::default() };
                self.partitions.insert(stream, Arc::new(partition));
            }
            StreamKind::Queue => {
                self.queues.insert(stream, Arc::new(Queue { changed: lsn, ..Queue::default() }));
            }
        }
    }

    fn delete(&mut self, stream: StreamId, lsn: Lsn) {
        self.partitions.remove(&stream);
        self.queues.remove(&stream);
        self.catalog_changed = lsn;
        Arc::make_mut(&mut self.deleted).push(stream);
    }

    fn trim(&mut self, stream: StreamId, start: Offset, lsn: Lsn) {
        if let Some(partition) = self.partitions.get_mut(&stream) {
            let partition = Arc::make_mut(partition);
            partition.start = partition.start.max(start);
            partition.changed = lsn;
            let start = partition.start;
            partition.batches.retain(|batch| batch.next > start);
        }
    }

    fn batch(
        &mut self,
        stream: StreamId,
        batch: &PreparedBatch,
        base: Offset,
        lsn: Lsn,
    ) -> Result<(), String> {
        let Some(partition) = self.partitions.get_mut(&stream) else {
            return Err(format!("a batch for {stream}, which does not exist"));
        };
        let partition = Arc::make_mut(partition);
        if base != partition.end {
            return Err(format!("{stream}: offset {base} assigned, {} expected", partition.end));
        }
        let bytes = batch.to_bytes(base);
        let next = base.advance(u32::try_from(batch.header().count).unwrap_or(0));
        partition.batches.push(Stored { base, next, bytes, lsn });
        partition.end = next;
        partition.changed = lsn;
        partition.appended = lsn;
        partition.window.push(lsn);
        if partition.window.len() > WINDOW_MAX {
            partition.window.remove(0);
        }
        Ok(())
    }

    fn queue(&mut self, queue: StreamId, lsn: Lsn, change: impl FnOnce(&mut Queue)) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            let queue = Arc::make_mut(queue);
            queue.changed = lsn;
            change(queue);
        }
    }
}
