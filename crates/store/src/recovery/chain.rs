//! Which groups of the log count: follows the chain to its end and judges whether what lies behind
//! was torn or damaged (store.md rule 1).

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, read_exact_at};
use crate::limits::PAGE_BYTES;
use crate::options::PlantedBug;
use crate::wal::layout::{FORMAT_VERSION, SegmentHeader};
use crate::wal::scan::{ScannedGroup, largest_claim, read_group};
use crate::wal::segments::{WAL_DIR, WalSegment, segment_seq};
use crate::{Lsn, OpenError};

/// The WAL directory before anything of it is believed.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// With a good header, by number. Where one begins, those before it end.
    pub(crate) segments: Vec<Arc<WalSegment>>,
    /// Without: not finished when the process ended, or damaged.
    pub(crate) spares: Vec<(String, Arc<dyn DiskFile>)>,
    /// The largest number in a name.
    pub(crate) last_seq: u64,
}

/// A group that counts.
#[derive(Clone, Debug)]
pub(crate) struct GroupPlace {
    pub(crate) segment: Arc<WalSegment>,
    pub(crate) base: u64,
    pub(crate) end: u64,
    pub(crate) chain: u32,
    /// What its header says was durable.
    pub(crate) claim: u64,
}

/// The groups that count and where they end.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) groups: Vec<GroupPlace>,
    /// E: the next group would be here.
    pub(crate) end: u64,
    /// D: what was durable for certain.
    pub(crate) proven: u64,
    /// The chain value at the floor.
    seed: u32,
}

impl Chain {
    /// The first group that was perhaps never synced; the end if all were.
    pub(crate) fn unproven(&self) -> u64 {
        let first = self.groups.iter().find(|group| group.end > self.proven);
        let first = first.map_or(self.end, |group| group.base);
        self.unproven_segment().map_or(first, |start| first.min(start))
    }

    /// Where the last segment begins, if nothing shows that its header was synced: an earlier start
    /// may have ended before that, and the page cache shows what the disk never got. The log writes
    /// its first group only after the sync, and with a later claim than the header's.
    fn unproven_segment(&self) -> Option<u64> {
        let last = &self.groups.last()?.segment;
        let mut groups = self.groups.iter().rev();
        let mut within = groups.by_ref().take_while(|group| Arc::ptr_eq(&group.segment, last));
        let shown = within.any(|group| group.claim > last.header.durable);
        (!shown).then_some(last.header.start)
    }

    /// The chain value that the group at `place` follows.
    pub(crate) fn value_before(&self, place: &GroupPlace) -> u32 {
        self.value_at(place.base)
    }

    /// The chain value of the last group below `lsn`.
    pub(crate) fn value_at(&self, lsn: u64) -> u32 {
        let below = self.groups.partition_point(|group| group.end <= lsn);
        let last = below.checked_sub(1).and_then(|last| self.groups.get(last));
        last.map_or(self.seed, |group| group.chain)
    }
}

/// Reads the headers of all segments.
pub(crate) fn list(disk: &dyn Disk) -> Result<Files, OpenError> {
    let names = match disk.list(WAL_DIR) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(OpenError::Io { doing: format!("list {WAL_DIR}"), source }),
    };
    let mut files = Files::default();
    for name in names {
        let Some(seq) = segment_seq(&name) else { continue };
        files.last_seq = files.last_seq.max(seq);
        let path = format!("{WAL_DIR}/{name}");
        let (file, header) = open_segment(disk, &path)?;
        match header.filter(|header| header.seq == seq) {
            Some(header) => files.segments.push(Arc::new(WalSegment::new(header, file))),
            None => files.spares.push((path, file)),
        }
    }
    cut_overlaps(&files.segments);
    Ok(files)
}

/// A file and its header, if that is whole.
fn open_segment(
    disk: &dyn Disk,
    path: &str,
) -> Result<(Arc<dyn DiskFile>, Option<SegmentHeader>), OpenError> {
    let io = |source| OpenError::Io { doing: format!("read {path}"), source };
    let file = disk.open(path).map_err(io)?;
    let mut page = vec![0; PAGE_BYTES];
    let header = match read_exact_at(&*file, &mut page, 0) {
        Ok(()) => SegmentHeader::decode(&page),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
        Err(error) => return Err(io(error)),
    };
    let found = SegmentHeader::version(&page).unwrap_or(0);
    if header.is_some() && found > FORMAT_VERSION {
        let supported = FORMAT_VERSION;
        return Err(OpenError::NewerFormat { path: path.to_owned(), found, supported });
    }
    Ok((file, header))
}

/// One segment, wherever it is; `None` if its header is not whole.
pub(crate) fn read_segment(disk: &dyn Disk, path: &str) -> Result<Option<WalSegment>, OpenError> {
    let (file, header) = open_segment(disk, path)?;
    Ok(header.map(|header| WalSegment::new(header, file)))
}

/// A start that cut the log begins a segment where it cut: what lies behind in older ones is void.
fn cut_overlaps(segments: &[Arc<WalSegment>]) {
    let mut limit = u64::MAX;
    for segment in segments.iter().rev() {
        segment.cut(limit.max(segment.header.start));
        limit = limit.min(segment.header.start);
    }
}

/// Follows the chain from `floor` on, where its value is `seed`. `known_durable` is what the snapshots
/// say was durable.
pub(crate) fn follow(
    files: &Files,
    floor: u64,
    seed: u32,
    known_durable: u64,
    planted: PlantedBug,
) -> Result<Chain, OpenError> {
    let live: Vec<_> = files
        .segments
        .iter()
        .filter(|segment| segment.end() > floor.max(segment.header.start))
        .cloned()
        .collect();
    if planted == PlantedBug::StaleFrameAccepted {
        live.iter().for_each(|segment| segment.believe_anything());
    }
    let mut follower =
        Follower { seed, floor, groups: Vec::new(), end: floor, first_bad: Vec::new() };
    let mut claim = known_durable;
    for segment in &live {
        claim = claim.max(segment.header.durable);
        let reaches = segment.header.start <= follower.end
            || follower.at_roll(segment).map_err(|source| reading(segment, source))?;
        if reaches {
            follower.run(segment).map_err(|source| reading(segment, source))?;
        }
    }
    for group in &follower.groups {
        claim = claim.max(group.claim);
    }
    let end = follower.end;
    for segment in &live {
        // Behind the end of the chain as well.
        let from = segment.position(end.clamp(segment.header.start, segment.end()));
        let found = largest_claim(&*segment.file, from).map_err(|e| reading(segment, e))?;
        claim = claim.max(found);
    }
    for (path, file) in &files.spares {
        let found = largest_claim(&**file, 0)
            .map_err(|source| OpenError::Io { doing: format!("read {path}"), source })?;
        claim = claim.max(found);
    }
    follower.judge(claim, planted)
}

fn reading(segment: &WalSegment, source: io::Error) -> OpenError {
    OpenError::Io { doing: format!("read {}", segment.path()), source }
}

struct Follower {
    seed: u32,
    floor: u64,
    groups: Vec<GroupPlace>,
    end: u64,
    /// Bases of groups with a damaged payload, ascending.
    first_bad: Vec<u64>,
}

impl Follower {
    fn chain(&self) -> u32 {
        self.groups.last().map_or(self.seed, |group| group.chain)
    }

    /// Whether the chain goes on at the start of `segment`, its next group having had no room before.
    fn at_roll(&self, segment: &Arc<WalSegment>) -> io::Result<bool> {
        Ok(read_group(segment, segment.header.start, self.chain())?.is_some())
    }

    fn run(&mut self, segment: &Arc<WalSegment>) -> io::Result<()> {
        let mut at = self.end.max(segment.header.start);
        while let Some(group) = read_group(segment, at, self.chain())? {
            self.take(&group);
            at = group.end();
        }
        Ok(())
    }

    fn take(&mut self, group: &ScannedGroup) {
        let whole =
            group.frames().iter().flat_map(|frame| &frame.items).all(|item| item.is_whole());
        if !whole {
            self.first_bad.push(group.base());
        }
        let place = GroupPlace {
            segment: Arc::clone(&group.segment),
            base: group.base(),
            end: group.end(),
            chain: group.chain,
            claim: group.header.durable_upto,
        };
        self.end = place.end;
        self.groups.push(place);
    }

    /// E and D: cuts what was torn, refuses what was damaged.
    fn judge(self, mut proven: u64, planted: PlantedBug) -> Result<Chain, OpenError> {
        match planted {
            PlantedBug::CorruptionCalledTorn => proven = proven.min(self.end),
            PlantedBug::TruncatesInTheMiddle => {
                proven = proven.min(self.first_bad.first().copied().unwrap_or(proven));
            }
            PlantedBug::TornCalledCorruption if !self.first_bad.is_empty() => proven = u64::MAX,
            _ => {}
        }
        let mut groups = self.groups;
        let mut end = self.end;
        if let Some(torn) = self.first_bad.into_iter().find(|base| *base >= proven) {
            groups.retain(|group| group.base < torn);
            // Not where the torn group began: that may be in the next segment, behind free room.
            end = groups.last().map_or(self.floor, |group| group.end);
        }
        if end < proven {
            let what =
                format!("the log breaks off, though everything below {} was durable", Lsn(proven));
            return Err(OpenError::Corrupt { what, lsn: Lsn(end) });
        }
        Ok(Chain { groups, end, proven, seed: self.seed })
    }
}
