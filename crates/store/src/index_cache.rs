//! Indexes of segments that were read lately, made from the segments as far as they are needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Offset;
use crate::disk::Disk;
use crate::files::FileError;
use crate::index::SegmentIndex;
use crate::segment::{SegmentMeta, index_on};

/// Indexes of segments that were read lately.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    /// By file; at most [`INDEXES_MAX`]. A segment only grows, so what is known of it stays true.
    by_file: Mutex<HashMap<u64, Known>>,
}

/// The index of a segment's first `bytes`.
#[derive(Clone, Debug)]
struct Known {
    bytes: u64,
    /// The offset after the last batch in them.
    next: Offset,
    index: Arc<SegmentIndex>,
}

/// How much of a segment an index must know.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Covers {
    /// The batch that holds this offset, and all before it.
    Offset(Offset),
    Everything,
}

impl Known {
    fn is_enough(&self, meta: &SegmentMeta, covers: Covers) -> bool {
        match covers {
            Covers::Offset(offset) => offset < self.next || self.bytes >= meta.bytes,
            Covers::Everything => self.bytes == meta.bytes,
        }
    }
}

impl Indexes {
    pub(crate) fn of(
        &self,
        disk: &dyn Disk,
        path: &str,
        meta: &SegmentMeta,
        covers: Covers,
    ) -> Result<Arc<SegmentIndex>, FileError> {
        let lock = || self.by_file.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(&meta.file).cloned();
        let begun = match known {
            Some(known) if known.is_enough(meta, covers) => return Ok(known.index),
            Some(known) if known.bytes < meta.bytes => known,
            _ => Known { bytes: 0, next: meta.base, index: Arc::default() },
        };
        let grown = grow(begun, disk, path, meta, covers)?;
        let index = Arc::clone(&grown.index);
        let mut by_file = lock();
        if by_file.len() >= INDEXES_MAX {
            by_file.clear();
        }
        let known = by_file.entry(meta.file).or_insert_with(|| grown.clone());
        if known.bytes < grown.bytes {
            *known = grown;
        }
        Ok(index)
    }
}

/// Goes on where `known` ends: a bounded piece at a time until it is enough.
fn grow(
    known: Known,
    disk: &dyn Disk,
    path: &str,
    meta: &SegmentMeta,
    covers: Covers,
) -> Result<Known, FileError> {
    let Known { mut bytes, mut next, index } = known;
    let mut index = Arc::unwrap_or_clone(index);
    loop {
        (bytes, next) = index_on(disk, path, meta, &mut index, (bytes, next), STEP_BYTES)?;
        let known = Known { bytes, next, index: Arc::default() };
        if known.is_enough(meta, covers) {
            return Ok(Known { index: Arc::new(index), ..known });
        }
    }
}

/// Indexes kept in memory.
const INDEXES_MAX: usize = 1024;
/// Bytes of a segment that are indexed together, so that who reads one from its start does not wait
/// for all of it.
const STEP_BYTES: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, RecordDraft};
    use crate::codec::Codec;
    use crate::mem_disk::MemDisk;
    use crate::segment::SegmentWriter;

    const PATH: &str = "1.seg";

    /// Appends batches of one record of 1 MiB up to offset `to`.
    fn grown(disk: &MemDisk, meta: Option<SegmentMeta>, to: i64) -> SegmentMeta {
        let mut writer = match meta {
            Some(meta) => SegmentWriter::resume(disk, PATH, meta).unwrap(),
            None => SegmentWriter::create(disk, PATH, 1, Offset(0)).unwrap(),
        };
        let value = vec![b'x'; 1 << 20];
        for offset in writer.meta().next.0..to {
            let mut builder = BatchBuilder::new(Codec::None);
            builder.push(&RecordDraft { value: Some(&value), ..RecordDraft::default() });
            writer.push(&builder.build().to_bytes(Offset(offset)), None).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_known_of_a_segment_is_not_read_again_when_it_grows() {
        let disk = MemDisk::default();
        let indexes = Indexes::default();
        let small = grown(&disk, None, 10);
        let all = indexes.of(&disk, PATH, &small, Covers::Everything).unwrap();
        assert_eq!(all.entries().len(), 10);
        let large = grown(&disk, Some(small.clone()), 30);
        let good = disk.bytes(PATH);
        disk.put(PATH, &vec![0; good.len()]);
        let offset = |offset| Covers::Offset(Offset(offset));
        assert_eq!(indexes.of(&disk, PATH, &large, offset(9)).unwrap(), all);
        assert!(indexes.of(&disk, PATH, &large, offset(10)).is_err(), "the rest is looked at");
        disk.put(PATH, &good);
        let more = indexes.of(&disk, PATH, &large, offset(10)).unwrap();
        let entries = more.entries().len();
        assert!((11..30).contains(&entries), "no further than a piece: {entries}");
        let all = indexes.of(&disk, PATH, &large, Covers::Everything).unwrap();
        assert_eq!(all.entries().len(), 30);
        let start = all.span(Offset(29)).start;
        assert_eq!(start, large.bytes / 30 * 29);
        // who still has the older list of segments gets an index of its length
        let old = indexes.of(&disk, PATH, &small, Covers::Everything).unwrap();
        assert_eq!(old.entries().len(), 10);
        assert_eq!(indexes.of(&disk, PATH, &large, offset(29)).unwrap(), all, "and spoils nothing");
    }
}
