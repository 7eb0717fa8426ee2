//! The WAL's files: made, found by LSN, recycled.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::layout::{SEGMENT_HEADER_BYTES, SegmentHeader};
use super::stage::SegmentPlan;
use crate::disk::{Disk, DiskFile, is_full, write_zeros};
use crate::limits::PAGE_BYTES;

/// Where the segments lie.
pub(crate) const WAL_DIR: &str = "wal";

/// The name of segment `seq`.
pub(crate) fn segment_path(seq: u64) -> String {
    format!("{WAL_DIR}/{seq:016x}.wal")
}

/// The number in a segment's file name.
pub(crate) fn segment_seq(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// A segment whose header is durable.
#[derive(Debug)]
pub(crate) struct WalSegment {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Below this its bytes count; a recovery that cut the chain inside it lowers it.
    end: AtomicU64,
    /// Planted: groups of earlier lives count as well.
    is_gullible: AtomicBool,
}

impl WalSegment {
    pub(crate) fn new(header: SegmentHeader, file: Arc<dyn DiskFile>) -> Self {
        let end = AtomicU64::new(header.start + header.capacity);
        Self { header, file, end, is_gullible: AtomicBool::new(false) }
    }

    /// Plants `StaleFrameAccepted`.
    pub(crate) fn believe_anything(&self) {
        self.is_gullible.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_gullible(&self) -> bool {
        self.is_gullible.load(Ordering::Relaxed)
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn cut(&self, end: u64) {
        self.end.fetch_min(end, Ordering::AcqRel);
    }

    /// Where in the file the byte at `lsn` stands.
    pub(crate) fn position(&self, lsn: u64) -> u64 {
        SEGMENT_HEADER_BYTES + (lsn - self.header.start)
    }

    pub(crate) fn path(&self) -> String {
        segment_path(self.header.seq)
    }

    /// Bytes of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        SEGMENT_HEADER_BYTES + self.header.capacity
    }
}

#[derive(Debug, Default)]
struct Table {
    /// In use, by start; oldest first. Two never overlap below their ends.
    live: BTreeMap<u64, Arc<WalSegment>>,
    /// Made ahead of need, by number.
    prepared: BTreeMap<u64, Ahead>,
    /// Files that are free for another life.
    free: Vec<String>,
    /// Whether a file is being laid out: the keeper and the log must never write to one at a time.
    is_making: bool,
}

/// A segment made ahead of need.
#[derive(Debug)]
struct Ahead {
    segment: Arc<WalSegment>,
    /// Bytes of the file that were written in this life or another. The rest has its room on the disk and reads as zeros;
    /// a commit there has to wait for the file system's own log as well.
    written: u64,
}

impl Ahead {
    fn fits(&self, plan: SegmentPlan) -> bool {
        self.segment.header.fits(plan)
    }
}

impl Table {
    /// The one made ahead for `plan`, from now on in use.
    fn take_prepared(&mut self, plan: SegmentPlan) -> Option<Arc<WalSegment>> {
        let fits = self.prepared.get(&plan.seq).is_some_and(|ahead| ahead.fits(plan));
        let segment = fits.then(|| self.prepared.remove(&plan.seq)).flatten()?.segment;
        self.live.insert(segment.header.start, Arc::clone(&segment));
        Some(segment)
    }

    /// Whether the segment for `plan` is already made ahead.
    fn is_prepared(&self, plan: SegmentPlan) -> bool {
        self.prepared.get(&plan.seq).is_some_and(|ahead| ahead.fits(plan))
            || self.live.values().next_back().is_some_and(|newest| newest.header.seq >= plan.seq)
    }

    /// Whether the segment before `plan` ends where that begins. A header that says another start
    /// would end the one before it at the next start of the store.
    fn is_followed_by(&self, plan: SegmentPlan) -> bool {
        let newest = self.live.values().next_back();
        let ahead = self.prepared.values().map(|ahead| &ahead.segment);
        newest
            .into_iter()
            .chain(ahead)
            .filter(|segment| segment.header.seq + 1 == plan.seq)
            .any(|segment| segment.header.start + segment.header.capacity == plan.start)
    }
}

/// All segments of one store.
#[derive(Debug)]
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    seed: u64,
    /// Below this nothing is read from the log: all of it has its second home, and a file that is left
    /// of it may be on its way to another life, or have come back by a power cut after its end moved.
    readable_from: u64,
    table: Mutex<Table>,
    /// Rung when a segment was made, or could not be.
    made: Condvar,
}

impl Segments {
    /// Segments of a store that starts with everything below `readable_from` retired.
    pub(crate) fn new(disk: Arc<dyn Disk>, seed: u64, readable_from: u64) -> Self {
        Self { disk, seed, readable_from, table: Mutex::default(), made: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segment that holds the byte at `lsn`.
    pub(crate) fn find(&self, lsn: u64) -> Option<Arc<WalSegment>> {
        if lsn < self.readable_from {
            return None;
        }
        let table = self.lock();
        let (_, segment) = table.live.range(..=lsn).next_back()?;
        (lsn < segment.end()).then(|| Arc::clone(segment))
    }

    /// All segments in use, oldest first.
    pub(crate) fn live(&self) -> Vec<Arc<WalSegment>> {
        self.lock().live.values().cloned().collect()
    }

    /// Bytes that can still be written behind `end`, in the segment laid out as `plan`, into files that
    /// are there: they take no more of the disk. A file for another life counts as `capacity`.
    pub(crate) fn room(&self, plan: SegmentPlan, end: u64, capacity: u64) -> u64 {
        let table = self.lock();
        let live = table.live.values().next_back();
        let is_there = live.is_some_and(|newest| newest.header.seq >= plan.seq)
            || table.prepared.contains_key(&plan.seq);
        let rest = if is_there { plan.end().saturating_sub(end) } else { 0 };
        let ahead =
            table.prepared.range(plan.seq + 1..).map(|(_, one)| one.segment.header.capacity);
        rest + ahead.sum::<u64>() + table.free.len() as u64 * capacity
    }

    /// Removes a file that was kept for another life; `false` if there is none.
    pub(crate) fn give_up_free(&self) -> io::Result<bool> {
        let Some(path) = self.lock().free.pop() else { return Ok(false) };
        self.disk.remove(&path)?;
        self.disk.sync_dir(WAL_DIR)?;
        Ok(true)
    }

    /// Whether a new segment takes no more of the disk: a file waits for another life.
    pub(crate) fn has_free(&self) -> bool {
        !self.lock().free.is_empty()
    }

    pub(crate) fn adopt(&self, segment: Arc<WalSegment>) {
        self.lock().live.insert(segment.header.start, segment);
    }

    /// The segment for `plan`: the one made ahead if it fits, else made now. It waits for one that is being made, and for no
    /// further one.
    pub(crate) fn activate(&self, plan: SegmentPlan, durable: u64) -> io::Result<Arc<WalSegment>> {
        let mut table = self.lock();
        loop {
            if let Some(segment) = table.take_prepared(plan) {
                return Ok(segment);
            }
            if !table.is_making {
                break;
            }
            table = self.made.wait(table).unwrap_or_else(PoisonError::into_inner);
        }
        table.is_making = true;
        drop(table);
        let made = self.make(plan, durable);
        self.finish(|table| {
            let segment = made?.segment;
            table.live.insert(segment.header.start, Arc::clone(&segment));
            Ok(segment)
        })
    }

    /// Ends the laying out of a file.
    fn finish<T>(&self, note: impl FnOnce(&mut Table) -> T) -> T {
        let mut table = self.lock();
        table.is_making = false;
        self.made.notify_all();
        note(&mut table)
    }

    /// Those made ahead from number `from` on for a layout that is not to be: where one of them says that it starts, a start
    /// would end this one. Their files are used under the same names.
    fn void_prepared(&self, from: u64) -> io::Result<()> {
        let void = self.lock().prepared.split_off(&from);
        for Ahead { segment, .. } in void.values() {
            let zeros = vec![0; PAGE_BYTES];
            segment.file.write_at(&[IoSlice::new(&zeros)], 0)?;
            segment.file.sync()?;
        }
        Ok(())
    }

    /// Whether the segment for `plan` is already made ahead.
    pub(crate) fn is_prepared(&self, plan: SegmentPlan) -> bool {
        self.lock().is_prepared(plan)
    }

    /// Makes the segment for `plan` ahead of need; `false` if the log makes one now, or laid out another one meanwhile.
    pub(crate) fn prepare(&self, plan: SegmentPlan, durable: u64) -> io::Result<bool> {
        {
            let mut table = self.lock();
            if table.is_making || table.is_prepared(plan) || !table.is_followed_by(plan) {
                return Ok(false);
            }
            table.is_making = true;
        }
        let made = self.make(plan, durable);
        self.finish(|table| {
            table.prepared.insert(plan.seq, made?);
            Ok(true)
        })
    }

    /// Writes zeros to the next piece of those made ahead, so that commits there find written blocks; `false` if there is none.
    pub(crate) fn write_ahead(&self) -> io::Result<bool> {
        let (segment, from) = {
            let mut table = self.lock();
            let unwritten = |ahead: &&Ahead| ahead.written < ahead.segment.file_bytes();
            let Some(ahead) = table.prepared.values().find(unwritten).filter(|_| !table.is_making)
            else {
                return Ok(false);
            };
            let next = (Arc::clone(&ahead.segment), ahead.written);
            table.is_making = true;
            next
        };
        let to = segment.file_bytes().min(from + ZEROS_BYTES as u64);
        let written = write_zeros(&*segment.file, from, to).and_then(|()| segment.file.sync());
        self.finish(|table| {
            written?;
            if let Some(ahead) = table.prepared.get_mut(&segment.header.seq) {
                ahead.written = to;
            }
            Ok(true)
        })
    }

    /// Takes segments below `floor` out of use; their files live on unless a reader holds one.
    pub(crate) fn release_below(&self, floor: u64) -> io::Result<bool> {
        let mut released = Vec::new();
        {
            let mut table = self.lock();
            while let Some(oldest) = table.live.first_entry() {
                if oldest.get().end() > floor || oldest.get().header.start >= floor {
                    break;
                }
                released.push(oldest.remove());
            }
        }
        let worked = !released.is_empty();
        for segment in released {
            let path = segment.path();
            let is_free = Arc::strong_count(&segment) == 1;
            let mut table = self.lock();
            if is_free && table.free.len() < FREE_MAX {
                table.free.push(path);
            } else {
                drop(table);
                self.disk.remove(&path)?;
            }
        }
        Ok(worked)
    }

    fn make(&self, plan: SegmentPlan, durable: u64) -> io::Result<Ahead> {
        self.void_prepared(plan.seq)?;
        let path = segment_path(plan.seq);
        let free = self.lock().free.pop();
        if let Some(free) = free {
            // Until the header is rewritten its number does not fit the name: nobody takes it for one.
            self.disk.rename(&free, &path)?;
        }
        let (file, len) = match self.disk.create(&path) {
            Ok(file) => (file, 0),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = self.disk.open(&path)?;
                let len = file.len()?;
                (file, len)
            }
            Err(error) => return Err(error),
        };
        let written = match self.format(&*file, len, plan, durable) {
            Ok(written) => written,
            Err(error) if is_full(&error) => {
                drop(file);
                self.disk.remove(&path)?; // half a segment is of use to nobody
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        self.disk.sync_dir(WAL_DIR)?;
        let segment = Arc::new(WalSegment::new(self.header(plan, durable), file));
        Ok(Ahead { segment, written })
    }

    /// Lays out a file of `len` bytes; how many of its bytes are written then.
    fn format(
        &self,
        file: &dyn DiskFile,
        len: u64,
        plan: SegmentPlan,
        durable: u64,
    ) -> io::Result<u64> {
        let wanted = SEGMENT_HEADER_BYTES + plan.capacity;
        let mut written = wanted;
        if len < wanted {
            if !file.allocate(wanted)? {
                written = len.max(SEGMENT_HEADER_BYTES);
            }
        } else if len > wanted {
            file.set_len(wanted)?;
        }
        file.write_at(&[IoSlice::new(&self.header(plan, durable).encode())], 0)?;
        file.sync()?;
        Ok(written)
    }

    /// The header of the segment for `plan`: its generation is drawn from the seed of this start.
    pub(crate) fn header(&self, plan: SegmentPlan, durable: u64) -> SegmentHeader {
        let generation = mix(self.seed ^ mix(plan.seq) ^ mix(plan.start).rotate_left(17));
        let SegmentPlan { seq, start, capacity } = plan;
        SegmentHeader { seq, generation, start, capacity, durable }
    }
}

impl SegmentHeader {
    fn fits(&self, plan: SegmentPlan) -> bool {
        self.seq == plan.seq && self.start == plan.start && self.capacity == plan.capacity
    }
}

/// SplitMix64: spreads a seed over all bits.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Files kept for another life: as many as a window of the default size is made of.
const FREE_MAX: usize = 8;
/// Zeros written and synced at once: a commit that syncs meanwhile waits for no more.
const ZEROS_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MemDisk;

    const PLAN: SegmentPlan = SegmentPlan { seq: 1, start: 0, capacity: 3 << 20 };

    /// A log whose first segment is in use and whose second one has its room, but no zeros yet.
    fn with_one_ahead(disk: &Arc<MemDisk>) -> (Segments, SegmentPlan) {
        let segments = Segments::new(Arc::<MemDisk>::clone(disk), 7, 0);
        segments.activate(PLAN, 0).unwrap();
        let next = PLAN.next(PLAN.capacity);
        assert!(segments.prepare(next, 0).unwrap());
        (segments, next)
    }

    #[test]
    fn a_segment_that_the_log_has_taken_gets_no_more_zeros() {
        let disk = MemDisk::new();
        let (segments, next) = with_one_ahead(&disk);
        assert!(segments.write_ahead().unwrap(), "a piece while it waits");
        let taken = segments.activate(next, 0).unwrap();
        let position = taken.file_bytes() - 5;
        taken.file.write_at(&[IoSlice::new(b"order")], position).unwrap();
        assert!(!segments.write_ahead().unwrap(), "it is the log's now");
        assert!(disk.bytes(&taken.path()).ends_with(b"order"));
    }

    #[test]
    fn zeros_are_written_once_and_a_file_that_had_a_life_needs_none() {
        let disk = MemDisk::new();
        let (segments, next) = with_one_ahead(&disk);
        let mut pieces = 0;
        while segments.write_ahead().unwrap() {
            pieces += 1;
        }
        assert_eq!(pieces, 3);
        drop(segments.activate(next, 0).unwrap());
        assert!(segments.release_below(next.start).unwrap());
        assert!(segments.prepare(next.next(PLAN.capacity), 0).unwrap());
        assert!(!segments.write_ahead().unwrap(), "it was written in its life before");
    }

    #[test]
    fn the_log_waits_for_the_segment_it_needs_and_for_no_further_one() {
        let disk = MemDisk::new();
        let (segments, next) = with_one_ahead(&disk);
        segments.lock().is_making = true; // the one after it
        segments.activate(next, 0).expect("it is there");
        let third = next.next(PLAN.capacity);
        std::thread::scope(|scope| {
            let log = scope.spawn(|| segments.activate(third, 0).map(|segment| segment.header.seq));
            segments.finish(|_| ());
            assert_eq!(log.join().unwrap().unwrap(), third.seq);
        });
    }
}
