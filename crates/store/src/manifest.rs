//! What the store itself puts into a snapshot: the stream table, the files, the counters.

use std::collections::BTreeMap;

use crate::garbage::GarbageFile;
use crate::messages::OldLogMeta;
use crate::segment::SegmentMeta;
use crate::{Lsn, Offset, StreamId};

/// A partition as of the floor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartitionMeta {
    pub(crate) start: Offset,
    pub(crate) retired_end: Offset,
    pub(crate) changed: Lsn,
    pub(crate) damaged: Option<String>,
    pub(crate) segments: Vec<SegmentMeta>,
    /// Below this everything was compacted.
    pub(crate) cleaned: Offset,
}

/// The store's own state. Everything below `floor` is in the files it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Counts snapshots.
    pub(crate) number: u64,
    pub(crate) floor: u64,
    /// The chain value of the last group below the floor.
    pub(crate) floor_chain: u32,
    /// What was durable when the snapshot took its name.
    pub(crate) durable: u64,
    pub(crate) next_id: u64,
    pub(crate) next_file: u64,
    pub(crate) partitions: BTreeMap<StreamId, PartitionMeta>,
    pub(crate) queues: Vec<StreamId>,
    pub(crate) old_logs: Vec<OldLogMeta>,
    pub(crate) garbage: Vec<GarbageFile>,
}

impl Manifest {
    /// The state of a store that never held anything.
    pub(crate) fn empty() -> Self {
        Self { next_id: 1, next_file: 1, ..Self::default() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u64(MANIFEST_VERSION);
        for word in [self.number, self.floor, u64::from(self.floor_chain), self.durable] {
            out.u64(word);
        }
        out.u64(self.next_id);
        out.u64(self.next_file);
        out.u64(self.partitions.len() as u64);
        for (id, partition) in &self.partitions {
            out.u64(id.0);
            out.partition(partition);
        }
        out.u64(self.queues.len() as u64);
        for queue in &self.queues {
            out.u64(queue.0);
        }
        out.u64(self.old_logs.len() as u64);
        for log in &self.old_logs {
            for word in [log.file, log.from, log.to, log.bytes, log.messages] {
                out.u64(word);
            }
        }
        out.u64(self.garbage.len() as u64);
        for file in &self.garbage {
            out.text(&file.path);
            out.u64(file.since);
        }
        out.bytes
    }

    /// `None` when the bytes are not a whole manifest.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader { rest: bytes };
        if input.u64()? != MANIFEST_VERSION {
            return None;
        }
        let mut manifest = Self {
            number: input.u64()?,
            floor: input.u64()?,
            floor_chain: u32::try_from(input.u64()?).ok()?,
            durable: input.u64()?,
            next_id: input.u64()?,
            next_file: input.u64()?,
            ..Self::default()
        };
        for _ in 0..input.u64()? {
            let id = StreamId(input.u64()?);
            manifest.partitions.insert(id, input.partition()?);
        }
        for _ in 0..input.u64()? {
            manifest.queues.push(StreamId(input.u64()?));
        }
        for _ in 0..input.u64()? {
            manifest.old_logs.push(OldLogMeta {
                file: input.u64()?,
                from: input.u64()?,
                to: input.u64()?,
                bytes: input.u64()?,
                messages: input.u64()?,
            });
        }
        for _ in 0..input.u64()? {
            manifest.garbage.push(GarbageFile { path: input.text()?, since: input.u64()? });
        }
        input.rest.is_empty().then_some(manifest)
    }
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn u64(&mut self, word: u64) {
        self.bytes.extend_from_slice(&word.to_le_bytes());
    }

    fn offset(&mut self, offset: Offset) {
        self.bytes.extend_from_slice(&offset.0.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u64(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn partition(&mut self, partition: &PartitionMeta) {
        self.offset(partition.start);
        self.offset(partition.retired_end);
        self.offset(partition.cleaned);
        self.u64(partition.changed.0);
        self.text(partition.damaged.as_deref().unwrap_or_default());
        self.u64(partition.segments.len() as u64);
        for segment in &partition.segments {
            self.segment(segment);
        }
    }

    fn segment(&mut self, segment: &SegmentMeta) {
        self.u64(segment.file);
        self.offset(segment.base);
        self.offset(segment.next);
        self.u64(segment.bytes);
        self.offset(Offset(segment.max_timestamp));
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn array(&mut self) -> Option<[u8; 8]> {
        let (head, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*head)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let bytes = usize::try_from(self.u64()?).ok()?;
        let (head, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        String::from_utf8(head.to_vec()).ok()
    }

    fn partition(&mut self) -> Option<PartitionMeta> {
        let mut partition = PartitionMeta {
            start: Offset(self.i64()?),
            retired_end: Offset(self.i64()?),
            cleaned: Offset(self.i64()?),
            changed: Lsn(self.u64()?),
            damaged: Some(self.text()?).filter(|what| !what.is_empty()),
            segments: Vec::new(),
        };
        for _ in 0..self.u64()? {
            partition.segments.push(SegmentMeta {
                file: self.u64()?,
                base: Offset(self.i64()?),
                next: Offset(self.i64()?),
                bytes: self.u64()?,
                max_timestamp: self.i64()?,
            });
        }
        Some(partition)
    }
}

/// The form of the store's own object, in front of it.
const MANIFEST_VERSION: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let segment =
            SegmentMeta { file: 3, base: Offset(1), next: Offset(9), bytes: 77, max_timestamp: -1 };
        let partition = PartitionMeta {
            start: Offset(2),
            retired_end: Offset(9),
            changed: Lsn(55),
            damaged: Some("a bad sector".into()),
            segments: vec![segment],
            cleaned: Offset(3),
        };
        Manifest {
            number: 4,
            floor: 4096,
            floor_chain: 6,
            durable: 8192,
            next_id: 12,
            next_file: 13,
            partitions: BTreeMap::from([(StreamId(1), partition)]),
            queues: vec![StreamId(2)],
            old_logs: vec![OldLogMeta { file: 5, from: 0, to: 4096, bytes: 99, messages: 2 }],
            garbage: vec![GarbageFile { path: "partitions/1/2.seg".into(), since: 3 }],
        }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_less_is() {
        let bytes = manifest().encode();
        assert_eq!(Manifest::decode(&bytes), Some(manifest()));
        for cut in 0..bytes.len() {
            assert_eq!(Manifest::decode(&bytes[..cut]), None, "cut at {cut}");
        }
    }
}
