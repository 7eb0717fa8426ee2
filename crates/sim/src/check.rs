//! Holds what a store answers against the model.

use bytes::Bytes;
use ottla_store::batch::BatchHeader;
use ottla_store::records::Records;
use ottla_store::{Offset, ReadError, ReadLimit, Store, StreamId};

use crate::model::{Partition, Truth};

/// Every answer about streams, records and messages. `durable` is what may be shown, `now` what was
/// appended; after a recovery they are the same.
pub fn reads(store: &Store, durable: &Truth, now: &Truth) -> Result<(), String> {
    for (stream, partition) in &now.partitions {
        let shown = durable.partitions.get(stream).cloned().unwrap_or_default();
        extent(store, *stream, &shown, partition)?;
        records(store, *stream, &shown, partition)?;
        timestamps(store, *stream, &shown, partition)?;
    }
    for (queue, entries) in &now.queues {
        for (message, (body, frame)) in &entries.live {
            if frame.is_durable(store.durable()) {
                let read = store.message(*message);
                let read = read.map_err(|error| format!("{queue} message {message}: {error}"))?;
                if read != *body {
                    return Err(format!("{queue} message {message}: other bytes"));
                }
            }
        }
    }
    for stream in now.deleted.iter() {
        if store.extent(*stream).is_some() {
            return Err(format!("{stream} was deleted and exists"));
        }
        match store.read(*stream, Offset::ZERO, everything()) {
            Err(ReadError::UnknownStream(_)) => {}
            other => return Err(format!("{stream} was deleted; reading it gives {other:?}")),
        }
    }
    Ok(())
}

fn extent(
    store: &Store,
    stream: StreamId,
    shown: &Partition,
    now: &Partition,
) -> Result<(), String> {
    let Some(extent) = store.extent(stream) else { return Err(format!("{stream} is missing")) };
    if extent.end != now.end {
        return Err(format!("{stream} ends at {}, not {}", extent.end, now.end));
    }
    if extent.durable_end != shown.end {
        let (found, expected) = (extent.durable_end, shown.end);
        return Err(format!("{stream} has high watermark {found}, not {expected}"));
    }
    if extent.start != now.start && extent.start != shown.start {
        let (found, expected) = (extent.start, now.start);
        return Err(format!("{stream} starts at {found}, not {expected}"));
    }
    if extent.changed < now.changed {
        let (found, expected) = (extent.changed, now.changed);
        return Err(format!("{stream} changed at {found}, not {expected}"));
    }
    Ok(())
}

fn records(
    store: &Store,
    stream: StreamId,
    shown: &Partition,
    now: &Partition,
) -> Result<(), String> {
    // Below the high watermark and not trimmed.
    let batches = now.batches.iter().filter(|batch| batch.next <= shown.end).collect::<Vec<_>>();
    let all = batches.iter().map(|batch| batch.bytes.clone()).collect::<Vec<_>>();
    let read = |from: Offset, limit: ReadLimit| {
        let found = store.read(stream, from, limit);
        found
            .map(|found| found.pieces.concat())
            .map_err(|error| format!("{stream} from {from}: {error}"))
    };
    let mut from = now.start;
    let mut found = Vec::new();
    for _ in 0..=all.len() {
        let piece = read(from, everything())?;
        if piece.is_empty() {
            break;
        }
        from = next_offset(&piece).ok_or_else(|| format!("{stream} from {from}: no batches"))?;
        found.extend_from_slice(&piece);
    }
    if now.compacted > now.start {
        return compacted(stream, now, shown.end, &found);
    }
    if found != all.concat() {
        return Err(format!("{stream} has other bytes: {}", describe(&found, &all.concat())));
    }
    // One batch from the middle, with a limit that is too small for it.
    if let Some(batch) = batches.get(batches.len() / 2) {
        let one = ReadLimit { end: everything().end, bytes_max: 1 };
        let within = Offset((batch.next.0 - 1).max(now.start.0));
        if read(within, one)? != batch.bytes {
            return Err(format!("{stream} at {within}: not the batch that contains it"));
        }
    }
    match store.read(stream, Offset(shown.end.0.max(now.end.0) + 1), everything()) {
        Err(ReadError::OutOfRange { .. }) => Ok(()),
        other => Err(format!("{stream} above its end: {other:?}")),
    }
}

/// After a compaction: nothing that was not written, nothing missing that the compaction did not see
/// or that no later record of its key supersedes.
fn compacted(stream: StreamId, now: &Partition, end: Offset, found: &[u8]) -> Result<(), String> {
    let written = now.batches.iter().filter(|batch| batch.next <= end);
    let written = written.flat_map(|batch| entries(&batch.bytes)).collect::<Vec<_>>();
    let mut left = entries(found).into_iter().peekable();
    for (at, entry) in written.iter().enumerate() {
        if left.next_if(|found| found == entry).is_some() || entry.offset < now.start {
            continue;
        }
        let later = written.get(at + 1..).unwrap_or_default();
        let is_superseded =
            later.iter().any(|later| later.key == entry.key && later.offset < now.compacted);
        if entry.offset >= now.compacted || !(is_superseded || entry.is_marker) {
            return Err(format!("{stream} lost the record at {} to a compaction", entry.offset));
        }
    }
    match left.next() {
        Some(other) => Err(format!("{stream} shows another record at {}", other.offset)),
        None => Ok(()),
    }
}

/// What a reader sees of a record.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    offset: Offset,
    is_marker: bool,
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

fn entries(mut batches: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    while let Ok(header) = BatchHeader::parse(batches)
        && let Some((batch, rest)) = batches.split_at_checked(header.bytes)
        && let Ok(records) = Records::open(batch)
    {
        for record in records.iter().flatten() {
            entries.push(Entry {
                offset: record.offset,
                is_marker: header.is_control(),
                timestamp_ms: record.timestamp_ms,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
            });
        }
        batches = rest;
    }
    entries
}

fn timestamps(
    store: &Store,
    stream: StreamId,
    shown: &Partition,
    now: &Partition,
) -> Result<(), String> {
    if now.compacted > now.start {
        return Ok(()); // a search finds what is left, and what is left is not told exactly
    }
    let batches = now.batches.iter().filter(|batch| batch.next <= shown.end);
    let stamps = batches
        .filter_map(|batch| Some((BatchHeader::parse(&batch.bytes).ok()?.max_timestamp, batch)))
        .collect::<Vec<_>>();
    let Some((newest, _)) = stamps.iter().max_by_key(|(stamp, _)| *stamp) else { return Ok(()) };
    let expected = stamps.iter().find(|(stamp, _)| stamp >= newest).map(|(_, batch)| &batch.bytes);
    let found = store.find_timestamp(stream, *newest);
    let found = found.map_err(|error| format!("{stream} by timestamp: {error}"))?;
    if found.as_ref() != expected {
        return Err(format!("{stream} by timestamp {newest}: not the first batch that reaches it"));
    }
    let largest = store.max_timestamp(stream);
    let largest = largest.map_err(|error| format!("{stream} largest timestamp: {error}"))?;
    let largest = largest.as_ref().and_then(|bytes| BatchHeader::parse(bytes).ok());
    if largest.map(|header| header.max_timestamp) != Some(*newest) {
        return Err(format!("{stream}: the largest timestamp is {newest}, found {largest:?}"));
    }
    Ok(())
}

/// Reads that may fail because something rotted, but must never show anything else.
pub fn reads_of_rotten(store: &Store, truth: &Truth) -> Result<(), String> {
    for (stream, partition) in &truth.partitions {
        let all = partition.batches.iter().map(|batch| batch.bytes.clone()).collect::<Vec<_>>();
        match store.read(*stream, partition.start, everything()) {
            Ok(found) if partition.compacted > partition.start => {
                not_foreign(*stream, partition, &found.pieces.concat())?;
            }
            Ok(found) => {
                let mut found = found.pieces.concat();
                without_epochs(&mut found, &all);
                let mut expected = all.concat();
                without_epochs(&mut expected, &all);
                if !expected.starts_with(&found) || found.is_empty() && !all.is_empty() {
                    return Err(format!("{stream} shows other bytes after rot"));
                }
            }
            Err(ReadError::Corrupt { .. }) => {}
            Err(error) => return Err(format!("{stream} after rot: {error}")),
        }
    }
    for (queue, entries) in &truth.queues {
        for (message, (body, _)) in &entries.live {
            match store.message(*message) {
                Ok(found) if found == *body => {}
                Err(ReadError::Corrupt { .. }) => {}
                other => return Err(format!("{queue} {message} after rot: {other:?}")),
            }
        }
    }
    Ok(())
}

/// Every record was written, in this order.
fn not_foreign(stream: StreamId, partition: &Partition, found: &[u8]) -> Result<(), String> {
    let written = partition.batches.iter().flat_map(|batch| entries(&batch.bytes));
    let mut written = written.collect::<Vec<_>>().into_iter();
    for entry in entries(found) {
        if entry.offset >= partition.start && !written.any(|written| written == entry) {
            return Err(format!("{stream} shows another record at {} after rot", entry.offset));
        }
    }
    Ok(())
}

/// Blanks the leader epochs. A retired batch is stored verbatim under Kafka's own CRC, which leaves
/// them out: the one field of a segment whose rot nothing tells.
fn without_epochs(bytes: &mut [u8], batches: &[Bytes]) {
    let mut at = 0;
    for batch in batches {
        if let Some(epoch) = bytes.get_mut(at + 12..at + 16) {
            epoch.fill(0);
        }
        at += batch.len();
    }
}

fn everything() -> ReadLimit {
    ReadLimit { end: Offset(i64::MAX), bytes_max: 1 << 30 }
}

/// The offset after the last of the batches in `bytes`.
fn next_offset(mut bytes: &[u8]) -> Option<Offset> {
    let mut next = None;
    while !bytes.is_empty() {
        let header = BatchHeader::parse(bytes).ok()?;
        next = Some(header.next_offset());
        bytes = bytes.get(header.bytes..)?;
    }
    next
}

fn describe(found: &[u8], expected: &[u8]) -> String {
    let same = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
    format!("{} bytes, {} expected, the first {same} agree", found.len(), expected.len())
}
