//! Holds what a store answers against the model.

use bytes::Bytes;
use ottla_store::batch::BatchHeader;
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

fn timestamps(
    store: &Store,
    stream: StreamId,
    shown: &Partition,
    now: &Partition,
) -> Result<(), String> {
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
