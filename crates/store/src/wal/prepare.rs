//! Facts made ready before any lock: payloads laid out, their CRCs computed.

use bytes::Bytes;

use super::layout::{BATCH_UNCOVERED_BYTES, ItemHeader, Kind};
use super::stage::StagedItem;
use crate::frame::{Item, StreamKind};
use crate::{Offset, StreamId};

/// Lays out one fact.
pub(crate) fn prepare(item: &Item) -> StagedItem {
    match item {
        Item::Create { stream, kind } => {
            let aux = match kind {
                StreamKind::Partition => 0,
                StreamKind::Queue => 1,
            };
            staged(Kind::Create, *stream, aux, Vec::new(), Bytes::new())
        }
        Item::Delete { stream } => staged(Kind::Delete, *stream, 0, Vec::new(), Bytes::new()),
        Item::Trim { stream, start } => {
            staged(Kind::Trim, *stream, offset_bits(*start), Vec::new(), Bytes::new())
        }
        Item::Batch { stream, batch } => {
            let (head, body) = batch.stamp(Offset::ZERO);
            let header = ItemHeader {
                kind: Kind::Batch,
                payload_bytes: u32_len(head.len() + body.len()),
                payload_crc: batch.payload_crc(),
                stream: stream.0,
                aux: 0,
            };
            StagedItem { header, head: head.to_vec(), body }
        }
        Item::Message { queues, body } => {
            let first = queues.first().copied().unwrap_or_default();
            let more: Vec<u8> =
                queues.iter().skip(1).flat_map(|queue| queue.0.to_le_bytes()).collect();
            staged(Kind::Message, first, queues.len() as u64, more, body.clone())
        }
        Item::Settle { queue, messages } => {
            let places: Vec<u8> =
                messages.iter().flat_map(|message| message.0.to_le_bytes()).collect();
            staged(Kind::Settle, *queue, messages.len() as u64, Vec::new(), places.into())
        }
        Item::State { payload } => staged(Kind::State, StreamId(0), 0, Vec::new(), payload.clone()),
    }
}

/// Writes the base offset into a batch and its item header.
pub(crate) fn stamp(item: &mut StagedItem, base: Offset) {
    item.header.aux = offset_bits(base);
    if let Some(front) = item.head.get_mut(..BATCH_UNCOVERED_BYTES) {
        front.copy_from_slice(&base.0.to_be_bytes());
    }
}

pub(crate) fn staged(
    kind: Kind,
    stream: StreamId,
    aux: u64,
    head: Vec<u8>,
    body: Bytes,
) -> StagedItem {
    let payload_crc = crc32c::crc32c_append(crc32c::crc32c(&head), &body);
    let payload_bytes = u32_len(head.len() + body.len());
    let header = ItemHeader { kind, payload_bytes, payload_crc, stream: stream.0, aux };
    StagedItem { header, head, body }
}

pub(crate) fn offset_bits(offset: Offset) -> u64 {
    offset.0.cast_unsigned()
}

#[expect(clippy::expect_used, reason = "the reservation bounds the frame below 4 GiB")]
fn u32_len(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("an item is below 4 GiB")
}
