//! Where a recovered log goes on: a new segment under a new generation, beginning with a copy of the
//! groups that were perhaps never synced. They keep their places.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::chain::{Chain, Files};
use crate::disk::{Disk, DiskFile, write_zeros};
use crate::limits::PAGE_BYTES;
use crate::options::Options;
use crate::wal::layout::{GROUP_HEADER_BYTES, GroupHeader, SEGMENT_HEADER_BYTES};
use crate::wal::scan::read_group;
use crate::wal::segments::{Segments, WAL_DIR, WalSegment, segment_path};
use crate::wal::stage::SegmentPlan;
use crate::{Lsn, OpenError};

/// Where the log goes on.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) segment: Arc<WalSegment>,
    pub(super) plan: SegmentPlan,
    pub(super) chain: u32,
    pub(super) durable: u64,
}

/// Makes the new segment and gives the old ones their ends.
///
/// The header is written after the groups are synced: it makes them count, and until then the old
/// ones do. It claims no more than was durable before; only when it is durable itself does an empty
/// group behind the copies claim them.
pub(super) fn resume(
    disk: &dyn Disk,
    segments: &Segments,
    files: &Files,
    chain: &Chain,
    options: &Options,
) -> Result<Place, OpenError> {
    let start = chain.unproven();
    let copied = chain.end - start;
    let plan = SegmentPlan {
        seq: files.last_seq + 1,
        start,
        capacity: options.first_capacity().max(copied + PAGE_BYTES as u64),
    };
    let path = segment_path(plan.seq);
    let io = |source| OpenError::Io { doing: format!("write {path}"), source };
    let file = disk.create(&path).map_err(io)?;
    if let Err(error) = write_zeros(&*file, 0, SEGMENT_HEADER_BYTES + plan.capacity) {
        drop(file);
        drop(disk.remove(&path)); // or every start on a full disk takes some more of it
        return Err(io(error));
    }
    let header = segments.header(plan, chain.proven);
    let copy = Copy { file: &*file, start, generation: header.generation, proven: chain.proven };
    let mut value = chain.value_at(start);
    let mut at = start;
    for place in chain.groups.iter().filter(|group| group.base >= start) {
        if at < place.base {
            value = copy.filler(at, place.base, value).map_err(io)?;
        }
        let group = read_group(&place.segment, place.base, chain.value_before(place))
            .map_err(io)?
            .ok_or_else(|| OpenError::Corrupt {
                what: "a group of the log reads differently the second time".into(),
                lsn: Lsn(place.base),
            })?;
        value = copy.group(&group.header, &group.body, value).map_err(io)?;
        at = place.end;
    }
    file.sync().map_err(io)?;
    file.write_at(&[IoSlice::new(&header.encode())], 0).map_err(io)?;
    file.sync().map_err(io)?;
    disk.sync_dir(WAL_DIR).map_err(io)?;
    let durable = chain.end + PAGE_BYTES as u64;
    let proof = Copy { proven: chain.end, ..copy };
    value = proof.filler(chain.end, durable, value).map_err(io)?;
    file.sync().map_err(io)?;

    let segment = Arc::new(WalSegment::new(header, file));
    adopt_old(disk, segments, files, start)?;
    segments.adopt(Arc::clone(&segment));
    Ok(Place { segment, plan, chain: value, durable })
}

/// Takes over the segments below `start`; what holds nothing that counts is removed.
fn adopt_old(
    disk: &dyn Disk,
    segments: &Segments,
    files: &Files,
    start: u64,
) -> Result<(), OpenError> {
    let mut void: Vec<String> = files.spares.iter().map(|(path, _)| path.clone()).collect();
    for segment in &files.segments {
        segment.cut(start.max(segment.header.start));
        if segment.end() > segment.header.start {
            segments.adopt(Arc::clone(segment));
        } else {
            void.push(segment.path());
        }
    }
    for path in void {
        disk.remove(&path)
            .map_err(|source| OpenError::Io { doing: format!("remove {path}"), source })?;
    }
    Ok(())
}

struct Copy<'a> {
    file: &'a dyn DiskFile,
    start: u64,
    generation: u64,
    proven: u64,
}

impl Copy<'_> {
    fn group(&self, old: &GroupHeader, body: &[u8], prev_chain: u32) -> io::Result<u32> {
        let header = GroupHeader {
            generation: self.generation,
            durable_upto: self.proven,
            prev_chain,
            ..*old
        };
        let (bytes, chain) = header.encode();
        let position = SEGMENT_HEADER_BYTES + (header.lsn - self.start);
        // The padding is the zeros that are there.
        self.file.write_at(&[IoSlice::new(&bytes), IoSlice::new(body)], position)?;
        Ok(chain)
    }

    /// An empty group over the room that was left free at the end of an old segment.
    fn filler(&self, from: u64, to: u64, prev_chain: u32) -> io::Result<u32> {
        let body_bytes = u32::try_from(to - from - GROUP_HEADER_BYTES as u64)
            .map_err(|_| io::Error::other("more than 4 GiB between two groups"))?;
        let header = GroupHeader {
            generation: self.generation,
            lsn: from,
            body_bytes,
            frames: 0,
            durable_upto: self.proven,
            prev_chain,
            headers_crc: 0,
        };
        self.group(&header, &[], prev_chain)
    }
}
