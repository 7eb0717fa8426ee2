//! From the snapshot and the groups that count to what exists and what it holds. Two passes: what
//! exists at the end first, then the facts of what exists (rules 12 and 13).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::chain::Chain;
use crate::batch::{BatchHeader, HEADER_BYTES};
use crate::compacting::decode_replaced;
use crate::frame::StreamKind;
use crate::garbage::Garbage;
use crate::manifest::Manifest;
use crate::state::{Damage, Replay, ReplayFact, ReplayItem};
use crate::streams::{Partition, PartitionState, Stream, segment_path};
use crate::wal::layout::{Kind, split_message, words};
use crate::wal::scan::{ScannedFrame, ScannedGroup, ScannedItem, read_group};
use crate::young::YoungBatch;
use crate::{Lsn, Offset, OpenError, StreamId};

/// What the passes found.
#[derive(Debug)]
pub(super) struct Rebuilt {
    pub(super) partitions: HashMap<StreamId, PartitionState>,
    pub(super) queues: HashSet<StreamId>,
    pub(super) next_id: u64,
    /// Above every file that the snapshot or the log names.
    pub(super) next_file: u64,
    /// Files that only the log names: what compactions wrote.
    pub(super) outputs: Vec<String>,
    pub(super) young_entries: u64,
    /// Where the last batch of each partition ended that the second pass met.
    seen: HashMap<StreamId, Offset>,
    pub(super) damage: Vec<Damage>,
}

impl Rebuilt {
    /// The table of a running store.
    pub(super) fn table(self) -> HashMap<StreamId, Stream> {
        let partitions = self.partitions.into_iter().map(|(id, mut state)| {
            state.end = state.end.max(state.start);
            (id, Stream::Partition(Arc::new(Partition::new(state))))
        });
        partitions.chain(self.queues.into_iter().map(|id| (id, Stream::Queue))).collect()
    }
}

/// Runs both passes. Files that the facts drop go to `garbage`.
pub(super) fn rebuild(
    manifest: &Manifest,
    chain: &Chain,
    garbage: &Garbage,
    replay: &mut dyn Replay,
) -> Result<Rebuilt, OpenError> {
    let mut rebuilt = start(manifest);
    each_group(chain, |group| {
        rebuilt.existence(&group);
        Ok(())
    })?;
    for (id, partition) in &manifest.partitions {
        if !rebuilt.partitions.contains_key(id) {
            garbage.add(partition.segments.iter().map(|file| segment_path(*id, file.file)));
        }
    }
    let known_below = manifest.next_id;
    each_group(chain, |group| {
        for frame in group.frames() {
            rebuilt.frame(&frame, known_below, garbage, replay)?;
        }
        Ok(())
    })?;
    Ok(rebuilt)
}

fn start(manifest: &Manifest) -> Rebuilt {
    let partitions = manifest.partitions.iter().map(|(id, meta)| {
        let state = PartitionState {
            start: meta.start,
            end: meta.retired_end,
            changed: meta.changed,
            retired_end: meta.retired_end,
            segments: Arc::new(meta.segments.clone()),
            cleaned: meta.cleaned,
            damaged: meta.damaged.clone(),
            ..PartitionState::default()
        };
        (*id, state)
    });
    Rebuilt {
        partitions: partitions.collect(),
        queues: manifest.queues.iter().copied().collect(),
        next_id: manifest.next_id,
        next_file: manifest.next_file,
        outputs: Vec::new(),
        young_entries: 0,
        seen: HashMap::new(),
        damage: Vec::new(),
    }
}

fn each_group(
    chain: &Chain,
    mut take: impl FnMut(ScannedGroup) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    for place in &chain.groups {
        let group = read_group(&place.segment, place.base, chain.value_before(place))
            .map_err(|source| OpenError::Io {
                doing: format!("read {}", place.segment.path()),
                source,
            })?
            .ok_or_else(|| OpenError::Corrupt {
                what: "a group of the log reads differently the second time".into(),
                lsn: Lsn(place.base),
            })?;
        take(group)?;
    }
    Ok(())
}

impl Rebuilt {
    /// First pass: what exists at the end of the log.
    fn existence(&mut self, group: &ScannedGroup) {
        for item in group.frames().iter().flat_map(|frame| &frame.items) {
            let id = StreamId(item.header.stream);
            match item.header.kind {
                Kind::Create => {
                    self.next_id = self.next_id.max(id.0 + 1);
                    if kind_of(item) == StreamKind::Queue {
                        self.queues.insert(id);
                    } else {
                        self.partitions.entry(id).or_default();
                    }
                }
                Kind::Delete => {
                    self.partitions.remove(&id);
                    self.queues.remove(&id);
                }
                _ => {}
            }
        }
    }

    /// Second pass: the facts of a frame.
    fn frame(
        &mut self,
        frame: &ScannedFrame,
        known_below: u64,
        garbage: &Garbage,
        replay: &mut dyn Replay,
    ) -> Result<(), OpenError> {
        let mut items = Vec::with_capacity(frame.items.len());
        for item in &frame.items {
            self.judge_stream(item, known_below)?;
            if let Some(fact) = self.fact(item, garbage)? {
                items.push(ReplayItem { lsn: Lsn(item.lsn), fact });
            }
        }
        if items.is_empty() {
            return Ok(());
        }
        replay
            .frame(Lsn(frame.lsn), &items)
            .map_err(|what| OpenError::Corrupt { what, lsn: Lsn(frame.lsn) })
    }

    /// An id below the counter that does not exist was deleted; one above it never was (rule 12).
    fn judge_stream(&self, item: &ScannedItem, known_below: u64) -> Result<(), OpenError> {
        let id = item.header.stream;
        if item.header.kind == Kind::State || id < known_below.max(self.next_id) {
            return Ok(());
        }
        let what = format!("a fact of stream {}, which was never created", StreamId(id));
        Err(OpenError::Corrupt { what, lsn: Lsn(item.lsn) })
    }

    fn fact<'a>(
        &mut self,
        item: &'a ScannedItem,
        garbage: &Garbage,
    ) -> Result<Option<ReplayFact<'a>>, OpenError> {
        let (id, lsn) = (StreamId(item.header.stream), Lsn(item.lsn));
        if !item.is_whole() {
            return self.damaged(item, id, lsn).map(|()| None);
        }
        Ok(match item.header.kind {
            Kind::Create => {
                self.touch(id, lsn);
                self.exists(id).then(|| ReplayFact::Create(id, kind_of(item)))
            }
            Kind::Delete => Some(ReplayFact::Delete(id)),
            Kind::Trim => self.trim(item, id, lsn, garbage),
            Kind::Batch => self.batch(item, id, lsn)?,
            Kind::Message => {
                self.young_entries += 1;
                self.message(item)
            }
            Kind::Settle if self.queues.contains(&id) => {
                Some(ReplayFact::Settle(id, words(&item.payload).map(Lsn).collect()))
            }
            Kind::State => Some(ReplayFact::State(&item.payload)),
            Kind::Replaced => self.replaced(item, id, garbage)?,
            Kind::Settle => None,
        })
    }

    fn exists(&self, id: StreamId) -> bool {
        self.partitions.contains_key(&id) || self.queues.contains(&id)
    }

    fn touch(&mut self, id: StreamId, lsn: Lsn) {
        if let Some(state) = self.partitions.get_mut(&id) {
            state.changed = state.changed.max(lsn);
        }
    }

    fn trim(
        &mut self,
        item: &ScannedItem,
        id: StreamId,
        lsn: Lsn,
        garbage: &Garbage,
    ) -> Option<ReplayFact<'static>> {
        let state = self.partitions.get_mut(&id)?;
        let start = Offset(item.header.aux.cast_signed());
        let dropped = state.trim(start, lsn);
        garbage.add(dropped.iter().map(|file| segment_path(id, file.file)));
        Some(ReplayFact::Trim(id, start))
    }

    /// A compaction. A snapshot that was taken after it has the new segment already, or none of them.
    fn replaced(
        &mut self,
        item: &ScannedItem,
        id: StreamId,
        garbage: &Garbage,
    ) -> Result<Option<ReplayFact<'static>>, OpenError> {
        let Some((new, old)) = decode_replaced(&item.payload) else {
            let what = format!("stream {id}: a compaction that cannot be read");
            return Err(OpenError::Corrupt { what, lsn: Lsn(item.lsn) });
        };
        let path = segment_path(id, new.file);
        self.outputs.push(path.clone());
        self.next_file = self.next_file.max(new.file + 1);
        let state = self.partitions.get_mut(&id);
        let (is_new, is_there) = state.map_or((false, false), |state| {
            let is_new = state.replace(&old, &new);
            (is_new, state.segments.iter().any(|segment| segment.file == new.file))
        });
        if is_new {
            garbage.add(old.iter().map(|file| segment_path(id, *file)));
        } else if !is_there {
            garbage.add([path]);
        }
        Ok(None)
    }

    fn batch<'a>(
        &mut self,
        item: &'a ScannedItem,
        id: StreamId,
        lsn: Lsn,
    ) -> Result<Option<ReplayFact<'a>>, OpenError> {
        let Some(state) = self.partitions.get_mut(&id) else { return Ok(None) };
        let corrupt = |what: String| OpenError::Corrupt { what, lsn };
        let header = BatchHeader::parse(&item.payload).map_err(|e| corrupt(e.to_string()))?;
        let base = Offset(item.header.aux.cast_signed());
        let seen = self.seen.insert(id, next_of(base, &header));
        // On a full disk a snapshot may be taken while a stride is only partly retired: what has its
        // second home already stands in the log as well. What has half a home never was.
        let is_retired = next_of(base, &header) <= state.retired_end;
        let free_from = if is_retired { Offset::ZERO } else { state.retired_end };
        if base < seen.unwrap_or_default().max(free_from) {
            return Err(corrupt(format!("stream {id}: offset {base} was given twice")));
        }
        if !is_retired {
            index(state, base, &header, item);
        }
        state.changed = state.changed.max(lsn);
        self.young_entries += 1;
        Ok(Some(ReplayFact::Batch(id, BatchHeader { base_offset: base, ..header })))
    }

    fn message<'a>(&self, item: &'a ScannedItem) -> Option<ReplayFact<'a>> {
        let (more, body) = split_message(item.header.aux, &item.payload)?;
        let queues: Vec<StreamId> = std::iter::once(item.header.stream)
            .chain(words(more))
            .map(StreamId)
            .filter(|queue| self.queues.contains(queue))
            .collect();
        (!queues.is_empty()).then_some(ReplayFact::Message(queues, body))
    }

    /// A payload that is not what was written, below what was durable.
    fn damaged(&mut self, item: &ScannedItem, id: StreamId, lsn: Lsn) -> Result<(), OpenError> {
        let what = format!("stream {id}: the log's copy at {lsn} is damaged");
        if item.header.kind == Kind::State {
            let what = "a fact of the broker's own state is damaged".into();
            return Err(OpenError::Corrupt { what, lsn });
        }
        if let Some(state) = self.partitions.get_mut(&id) {
            state.damaged = Some(what.clone());
            if item.header.kind == Kind::Batch
                && let Some(header) = item.payload.first_chunk::<HEADER_BYTES>()
            {
                // The count may be damaged too; nothing is served from here any more.
                index(
                    state,
                    Offset(item.header.aux.cast_signed()),
                    &BatchHeader::decode(header),
                    item,
                );
            }
        }
        self.damage.push(Damage { stream: id, lsn, what });
        Ok(())
    }
}

fn index(state: &mut PartitionState, base: Offset, header: &BatchHeader, item: &ScannedItem) {
    let next = next_of(base, header);
    if state.young.last().is_some_and(|last| base < last.next) {
        return; // only behind a damaged batch whose own count is wrong
    }
    state.young.push(YoungBatch {
        base,
        next,
        max_timestamp: header.max_timestamp,
        lsn: Lsn(item.lsn),
        bytes: item.header.payload_bytes,
    });
    state.end = state.end.max(next);
}

fn next_of(base: Offset, header: &BatchHeader) -> Offset {
    Offset(base.0.saturating_add(i64::from(header.last_offset_delta.max(0)) + 1))
}

fn kind_of(item: &ScannedItem) -> StreamKind {
    if item.header.aux == 0 { StreamKind::Partition } else { StreamKind::Queue }
}
