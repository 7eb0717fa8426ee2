//! Reads below the WAL: segments by offset and time, old logs by place.

use std::sync::Arc;

use bytes::Bytes;

use crate::core::Core;
use crate::files::FileError;
use crate::index::SegmentIndex;
use crate::index_cache::Covers;
use crate::reading::{Batches, Depth, Fetched, ReadLimit};
use crate::segment::{SegmentMeta, SegmentReader};
use crate::streams::segment_path;
use crate::wal::layout::{Kind, split_message};
use crate::young::YoungBatch;
use crate::{Lsn, Offset, ReadError, StreamId};

/// A partition's start, segments and durable young batches.
type Everything = (Offset, Arc<Vec<SegmentMeta>>, Vec<YoungBatch>);

impl Core {
    pub(crate) fn read_old(
        &self,
        id: StreamId,
        segments: &[SegmentMeta],
        from: Offset,
        limit: ReadLimit,
    ) -> Result<Batches, ReadError> {
        let mut batches = Batches::default();
        let first = segments.partition_point(|segment| segment.next <= from);
        for meta in segments.iter().skip(first) {
            let room = limit.bytes_max.saturating_sub(batches.bytes);
            if meta.base >= limit.end || (batches.bytes > 0 && room == 0) {
                break;
            }
            let piece = self
                .segment(id, meta, Covers::Offset(from))
                .and_then(|(reader, index)| {
                    reader.read(&self.buffers, &index, from, limit.end, room)
                })
                .map_err(|error| self.unreadable(id, error))?;
            // The first piece may be larger than asked for, a further one may not.
            if batches.bytes > 0 && piece.len() > room {
                break;
            }
            if !piece.is_empty() {
                batches.push(piece);
            }
        }
        Ok(batches)
    }

    fn segment(
        &self,
        id: StreamId,
        meta: &SegmentMeta,
        covers: Covers,
    ) -> Result<(SegmentReader, Arc<SegmentIndex>), FileError> {
        let path = segment_path(id, meta.file);
        let index = self.indexes.of(&*self.disk, &path, meta, covers)?;
        Ok((SegmentReader::open(&*self.disk, &path, meta.clone())?, index))
    }

    /// A damaged segment quarantines its partition alone.
    pub(crate) fn unreadable(&self, id: StreamId, error: FileError) -> ReadError {
        match error {
            FileError::Io { doing, path, source } => {
                ReadError::Io { doing: format!("{doing} {path}"), source }
            }
            damaged => {
                let what = damaged.to_string();
                self.report(id, Lsn::ZERO, what.clone());
                if let Some(partition) = self.streams.partition(id) {
                    partition.lock().damaged = Some(what.clone());
                }
                ReadError::Corrupt { what }
            }
        }
    }

    pub(crate) fn find_timestamp(
        &self,
        id: StreamId,
        timestamp_ms: i64,
    ) -> Result<Option<Bytes>, ReadError> {
        let (start, segments, young) = self.all_of(id)?;
        for meta in segments.iter().filter(|meta| meta.max_timestamp >= timestamp_ms) {
            let found = self
                .segment(id, meta, Covers::Everything)
                .and_then(|(reader, index)| reader.find_timestamp(&index, timestamp_ms, start))
                .map_err(|error| self.unreadable(id, error))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        match young.iter().find(|batch| batch.max_timestamp >= timestamp_ms) {
            Some(batch) => self.whole(id, batch),
            None => Ok(None),
        }
    }

    pub(crate) fn max_timestamp(&self, id: StreamId) -> Result<Option<Bytes>, ReadError> {
        let (start, segments, young) = self.all_of(id)?;
        let mut old: Option<(i64, &SegmentMeta)> = None;
        for meta in segments.iter() {
            let largest = match meta.base < start {
                true => self.largest_from(id, meta, start)?, // what the file knows may be trimmed
                false => Some(meta.max_timestamp),
            };
            // The first of several equal ones.
            if let Some(largest) = largest
                && old.is_none_or(|(before, _)| largest > before)
            {
                old = Some((largest, meta));
            }
        }
        let new = young.iter().rev().max_by_key(|batch| batch.max_timestamp);
        match (old, new) {
            (Some((largest, meta)), new) if new.is_none_or(|new| new.max_timestamp <= largest) => {
                self.segment(id, meta, Covers::Everything)
                    .and_then(|(reader, index)| reader.find_timestamp(&index, largest, start))
                    .map_err(|error| self.unreadable(id, error))
            }
            (_, Some(new)) => self.whole(id, new),
            _ => Ok(None),
        }
    }

    fn largest_from(
        &self,
        id: StreamId,
        meta: &SegmentMeta,
        from: Offset,
    ) -> Result<Option<i64>, ReadError> {
        self.segment(id, meta, Covers::Everything)
            .and_then(|(reader, index)| reader.max_timestamp(&index, from))
            .map_err(|error| self.unreadable(id, error))
    }

    /// Everything durable of a partition, oldest first.
    fn all_of(&self, id: StreamId) -> Result<Everything, ReadError> {
        let partition = self.streams.partition(id).ok_or(ReadError::UnknownStream(id))?;
        let durable = self.durable();
        let state = partition.lock();
        if let Some(what) = &state.damaged {
            return Err(ReadError::Corrupt { what: what.clone() });
        }
        let start = state.start;
        let young = state.young.below(durable).filter(|batch| batch.next > start).copied();
        Ok((start, Arc::clone(&state.segments), young.collect()))
    }

    fn whole(&self, id: StreamId, batch: &YoungBatch) -> Result<Option<Bytes>, ReadError> {
        if let Fetched::Whole(bytes) = self.fetch(id, batch, Depth::Disk)? {
            return Ok(Some(bytes));
        }
        // Retired and recycled meanwhile.
        let limit = ReadLimit { end: batch.next, bytes_max: 1 };
        let read = self.read_batches(id, batch.base, limit, Depth::Disk)?;
        Ok(read.and_then(|batches| batches.pieces.into_iter().next()))
    }

    /// The body of the message at `lsn`.
    pub(crate) fn message(&self, lsn: Lsn) -> Result<Bytes, ReadError> {
        if !lsn.is_durable(self.durable()) {
            return Err(ReadError::UnknownMessage(lsn));
        }
        let cached = self.cached_item(lsn);
        if let Some((header, payload)) =
            cached.map_or_else(|| self.read_item(lsn, 0), |item| Ok(Some(item)))?
        {
            if header.kind != Kind::Message {
                return Err(ReadError::UnknownMessage(lsn));
            }
            let (_, body) =
                split_message(header.aux, &payload).ok_or(ReadError::UnknownMessage(lsn))?;
            return Ok(payload.slice_ref(body));
        }
        match self.old_logs.body(&*self.disk, lsn) {
            Ok(body) => body.ok_or(ReadError::UnknownMessage(lsn)),
            Err(FileError::Io { doing, path, source }) => {
                Err(ReadError::Io { doing: format!("{doing} {path}"), source })
            }
            Err(damaged) => Err(ReadError::Corrupt { what: damaged.to_string() }),
        }
    }
}
