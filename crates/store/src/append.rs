//! Appending: offsets and places under the locks, everything else before or after.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use crate::admission::Reservation;
use crate::core::Core;
use crate::frame::{Appended, Frame, Item, StreamKind};
use crate::limits::FRAME_BYTES_MAX;
use crate::streams::{Partition, PartitionState, Stream, segment_path};
use crate::wal::layout::{FRAME_HEADER_BYTES, ITEM_HEADER_BYTES};
use crate::wal::prepare::{prepare, stamp};
use crate::wal::stage::{StagedFrame, StagedItem};
use crate::young::YoungBatch;
use crate::{Lsn, Offset, StreamId};

type Partitions = BTreeMap<StreamId, Arc<Partition>>;

impl Core {
    /// See [`Store::append`](crate::Store::append).
    pub(crate) fn append(&self, reservation: Reservation, frame: &Frame) -> Appended {
        assert!(!frame.items.is_empty(), "an empty frame says nothing");
        let mut staged: Vec<StagedItem> = frame.items.iter().map(prepare).collect();
        let (touched, created) = self.touched(frame);
        // Ascending ids: a BTreeMap's order. Held from the first offset until the index knows.
        let mut locked: BTreeMap<StreamId, MutexGuard<'_, PartitionState>> =
            touched.iter().map(|(id, partition)| (*id, partition.lock())).collect();
        let offsets = assign_offsets(frame, &mut staged, &mut locked);
        let sizes: Vec<u32> = staged.iter().map(|item| item.header.payload_bytes).collect();
        let staged = StagedFrame::new(staged);
        let bytes = staged.bytes;
        assert!(bytes <= 2 * FRAME_BYTES_MAX as u64, "frame larger than its reservation may be");
        let lsn = Lsn(self.wal.staging.push(staged, frame.is_patient));
        let items = places(lsn, &sizes);
        self.index(frame, &items, &offsets, &mut locked);
        drop(locked);
        self.change_table(frame, created);
        reservation.staged(usize::try_from(bytes).unwrap_or(usize::MAX));
        Appended { lsn, items, offsets }
    }

    /// The partitions that the frame touches, and the streams it creates.
    fn touched(&self, frame: &Frame) -> (Partitions, Vec<(StreamId, Stream)>) {
        let mut touched = Partitions::new();
        let mut created = Vec::new();
        for item in &frame.items {
            match item {
                Item::Create { stream, kind: StreamKind::Partition } => {
                    let partition = Arc::new(Partition::new(PartitionState::default()));
                    touched.insert(*stream, Arc::clone(&partition));
                    created.push((*stream, Stream::Partition(partition)));
                }
                Item::Create { stream, kind: StreamKind::Queue } => {
                    created.push((*stream, Stream::Queue));
                }
                Item::Batch { stream, .. } | Item::Trim { stream, .. } => {
                    if !touched.contains_key(stream)
                        && let Some(partition) = self.streams.partition(*stream)
                    {
                        touched.insert(*stream, partition);
                    }
                }
                _ => {}
            }
        }
        (touched, created)
    }

    fn index(
        &self,
        frame: &Frame,
        items: &[Lsn],
        offsets: &[Offset],
        locked: &mut BTreeMap<StreamId, MutexGuard<'_, PartitionState>>,
    ) {
        let mut bases = offsets.iter();
        let mut entries = 0;
        for (item, lsn) in frame.items.iter().zip(items) {
            match item {
                Item::Batch { stream, batch } => {
                    let base = bases.next().copied();
                    entries += 1;
                    if let (Some(state), Some(base)) = (locked.get_mut(stream), base) {
                        state.young.push(young(base, *lsn, batch));
                        state.changed = *lsn;
                    }
                }
                Item::Trim { stream, start } => {
                    if let Some(state) = locked.get_mut(stream) {
                        let dropped = state.trim(*start, *lsn);
                        self.garbage
                            .add(dropped.iter().map(|file| segment_path(*stream, file.file)));
                    }
                }
                Item::Create { stream, .. } => {
                    if let Some(state) = locked.get_mut(stream) {
                        state.changed = *lsn;
                    }
                }
                Item::Message { .. } => entries += 1,
                _ => {}
            }
        }
        self.young_entries.fetch_add(entries, Ordering::Relaxed);
    }

    /// After staging, so that whoever sees the change also sees an end of the log behind it.
    fn change_table(&self, frame: &Frame, created: Vec<(StreamId, Stream)>) {
        for (id, stream) in created {
            self.streams.insert(id, stream);
        }
        for item in &frame.items {
            if let Item::Delete { stream } = item
                && let Some(Stream::Partition(partition)) = self.streams.remove(*stream)
            {
                let segments = Arc::clone(&partition.lock().segments);
                self.garbage.add(segments.iter().map(|file| segment_path(*stream, file.file)));
            }
        }
    }
}

/// Gives every batch its base offset. A batch of a stream that does not exist gets -1: it is logged
/// for nothing, as it would be had the stream been deleted a moment later.
fn assign_offsets(
    frame: &Frame,
    staged: &mut [StagedItem],
    locked: &mut BTreeMap<StreamId, MutexGuard<'_, PartitionState>>,
) -> Vec<Offset> {
    let mut offsets = Vec::new();
    for (item, staged) in frame.items.iter().zip(staged) {
        if let Item::Batch { stream, batch } = item {
            let base = match locked.get_mut(stream) {
                Some(state) => {
                    let base = state.end;
                    state.end = after(base, batch.header().last_offset_delta);
                    base
                }
                None => Offset(-1),
            };
            stamp(staged, base);
            offsets.push(base);
        }
    }
    offsets
}

fn young(base: Offset, lsn: Lsn, batch: &crate::batch::PreparedBatch) -> YoungBatch {
    let header = batch.header();
    YoungBatch {
        base,
        next: after(base, header.last_offset_delta),
        max_timestamp: header.max_timestamp,
        lsn,
        bytes: u32::try_from(batch.bytes_len()).unwrap_or(u32::MAX),
    }
}

pub(crate) fn after(base: Offset, last_offset_delta: i32) -> Offset {
    Offset(base.0 + i64::from(last_offset_delta) + 1)
}

fn places(frame: Lsn, payload_bytes: &[u32]) -> Vec<Lsn> {
    let mut place = frame.advance(FRAME_HEADER_BYTES as u64);
    let mut places = Vec::with_capacity(payload_bytes.len());
    for bytes in payload_bytes {
        places.push(place);
        place = place.advance(ITEM_HEADER_BYTES as u64 + u64::from(*bytes));
    }
    places
}
