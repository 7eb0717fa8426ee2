//! Reads of partitions: young batches from the cache or the WAL, old ones from segments.

use std::sync::Arc;

use bytes::Bytes;

use crate::core::Core;
use crate::disk::read_exact_at;
use crate::segment::SegmentMeta;
use crate::streams::Partition;
use crate::wal::layout::{ITEM_HEADER_BYTES, ItemHeader, Kind};
use crate::young::YoungBatch;
use crate::{Lsn, Offset, ReadError, StreamId};

/// How much a read may bring.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// Batches starting at or above this offset are left out (high watermark or last stable offset).
    pub end: Offset,
    /// Bytes to bring at most; the first batch comes whole even if it is larger (KIP-74).
    pub bytes_max: usize,
}

/// Batches as they were appended, stamped, in offset order, each whole.
#[derive(Clone, Debug, Default)]
pub struct Batches {
    /// One or more whole batches each; to be written one after the other.
    pub pieces: Vec<Bytes>,
    /// The sum of their lengths.
    pub bytes: usize,
}

impl Batches {
    pub(crate) fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        self.pieces.push(piece);
    }
}

/// Where to look, decided under the partition's lock.
enum Place {
    Nothing,
    Young(Vec<YoungBatch>),
    /// With the offset at which the WAL takes over.
    Old(Arc<Vec<SegmentMeta>>, Offset),
}

/// Whether the disk may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    Memory,
    Disk,
}

/// A young batch that is gone from the WAL: it was retired meanwhile, look again.
pub(crate) enum Fetched {
    Whole(Bytes),
    NotInMemory,
    Retired,
}

impl Core {
    pub(crate) fn read_batches(
        &self,
        id: StreamId,
        from: Offset,
        limit: ReadLimit,
        depth: Depth,
    ) -> Result<Option<Batches>, ReadError> {
        let partition = self.streams.partition(id).ok_or(ReadError::UnknownStream(id))?;
        let mut from = from;
        // Each round that ends in `Retired` means that the keeper retired a whole stride meanwhile.
        for _ in 0..ROUNDS_MAX {
            match self.place(&partition, from, limit)? {
                Place::Nothing => return Ok(Some(Batches::default())),
                Place::Old(..) if depth == Depth::Memory => return Ok(None),
                Place::Old(segments, retired_end) => {
                    let batches = self.read_old(id, &segments, from, limit)?;
                    if batches.bytes > 0 || retired_end >= limit.end {
                        return Ok(Some(batches));
                    }
                    from = retired_end; // compaction left nothing up to there
                }
                Place::Young(batches) => match self.read_young(id, &batches, depth)? {
                    Some(batches) => return Ok(Some(batches)),
                    None if depth == Depth::Memory => return Ok(None),
                    None => {}
                },
            }
        }
        Err(ReadError::Corrupt { what: format!("stream {id}: batch at {from} cannot be found") })
    }

    fn place(
        &self,
        partition: &Partition,
        from: Offset,
        limit: ReadLimit,
    ) -> Result<Place, ReadError> {
        let durable = self.durable();
        let state = partition.lock();
        if let Some(what) = &state.damaged {
            return Err(ReadError::Corrupt { what: what.clone() });
        }
        let end = state.durable_end(durable);
        if from < state.start || from > end {
            return Err(ReadError::OutOfRange { start: state.start, end });
        }
        if from >= end.min(limit.end) {
            return Ok(Place::Nothing);
        }
        if from < state.retired_end {
            return Ok(Place::Old(Arc::clone(&state.segments), state.retired_end));
        }
        let mut bytes = 0;
        let mut batches = Vec::new();
        for batch in state.young.from(from) {
            if !batch.lsn.is_durable(durable) || batch.base >= limit.end {
                break;
            }
            bytes += batch.bytes as usize;
            if !batches.is_empty() && bytes > limit.bytes_max {
                break;
            }
            batches.push(*batch);
        }
        Ok(Place::Young(batches))
    }

    /// `None` when nothing could be had: not in memory, or retired meanwhile.
    fn read_young(
        &self,
        id: StreamId,
        young: &[YoungBatch],
        depth: Depth,
    ) -> Result<Option<Batches>, ReadError> {
        let mut batches = Batches::default();
        for batch in young {
            match self.fetch(id, batch, depth)? {
                Fetched::Whole(bytes) => batches.push(bytes),
                // What was found so far is an answer.
                Fetched::NotInMemory | Fetched::Retired if batches.bytes > 0 => break,
                Fetched::NotInMemory | Fetched::Retired => return Ok(None),
            }
        }
        Ok(Some(batches))
    }

    pub(crate) fn fetch(
        &self,
        id: StreamId,
        batch: &YoungBatch,
        depth: Depth,
    ) -> Result<Fetched, ReadError> {
        let payload = batch.lsn.0 + ITEM_HEADER_BYTES as u64;
        if let Some(bytes) = self.wal.cache.read(payload, batch.bytes as usize) {
            return Ok(Fetched::Whole(bytes));
        }
        if depth == Depth::Memory {
            return Ok(Fetched::NotInMemory);
        }
        let Some((header, bytes)) = self.read_item(batch.lsn, batch.bytes as usize)? else {
            return Ok(Fetched::Retired);
        };
        if header.kind != Kind::Batch
            || header.stream != id.0
            || bytes.len() as u64 != u64::from(batch.bytes)
        {
            return Err(self.damaged_item(id, batch.lsn));
        }
        Ok(Fetched::Whole(bytes))
    }

    /// The item at `lsn`, if all of it is in memory.
    pub(crate) fn cached_item(&self, lsn: Lsn) -> Option<(ItemHeader, Bytes)> {
        let head = self.wal.cache.read(lsn.0, ITEM_HEADER_BYTES)?;
        let header = ItemHeader::decode(&head)?;
        let payload = lsn.0 + ITEM_HEADER_BYTES as u64;
        let payload = self.wal.cache.read(payload, header.payload_bytes as usize)?;
        Some((header, payload))
    }

    /// The item at `lsn` in the WAL, verified; `None` if the WAL does not hold that place any more. With
    /// the length of its payload `expected`, it takes one read.
    pub(crate) fn read_item(
        &self,
        lsn: Lsn,
        expected: usize,
    ) -> Result<Option<(ItemHeader, Bytes)>, ReadError> {
        let Some(segment) = self.wal.segments.find(lsn.0) else { return Ok(None) };
        let io = |source| ReadError::Io { doing: format!("read {}", segment.path()), source };
        let left = usize::try_from(segment.end() - lsn.0).unwrap_or(usize::MAX);
        let mut item = self.buffers.take((ITEM_HEADER_BYTES + expected).min(left));
        read_exact_at(&*segment.file, item.bytes_mut(), segment.position(lsn.0)).map_err(io)?;
        let item = item.freeze();
        let damaged = || ReadError::Corrupt { what: format!("log item at {lsn}") };
        let head = item.get(..ITEM_HEADER_BYTES).ok_or_else(damaged)?;
        let header = ItemHeader::decode(head).ok_or_else(damaged)?;
        let payload = lsn.0 + ITEM_HEADER_BYTES as u64;
        if payload + u64::from(header.payload_bytes) > segment.end() {
            return Err(damaged());
        }
        let bytes = if header.payload_bytes as usize == expected {
            item.slice(ITEM_HEADER_BYTES..)
        } else {
            let mut bytes = self.buffers.take(header.payload_bytes as usize);
            read_exact_at(&*segment.file, bytes.bytes_mut(), segment.position(payload))
                .map_err(io)?;
            bytes.freeze()
        };
        if !header.covers(&bytes) {
            return Err(damaged());
        }
        Ok(Some((header, bytes)))
    }

    fn damaged_item(&self, id: StreamId, lsn: Lsn) -> ReadError {
        let what = format!("stream {id}: batch at {lsn} is not the one that was written");
        self.report(id, lsn, what.clone());
        ReadError::Corrupt { what }
    }
}

const ROUNDS_MAX: usize = 16;
