//! The WAL's files: made, found by LSN, recycled.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::layout::{SEGMENT_HEADER_BYTES, SegmentHeader};
use super::stage::SegmentPlan;
use crate::disk::{Disk, DiskFile, is_full};
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
    prepared: BTreeMap<u64, Arc<WalSegment>>,
    /// Files that are free for another life.
    free: Vec<String>,
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
    /// Held while a segment is made: the keeper and the log must never lay out one file at a time.
    making: Mutex<()>,
}

impl Segments {
    /// Segments of a store that starts with everything below `readable_from` retired.
    pub(crate) fn new(disk: Arc<dyn Disk>, seed: u64, readable_from: u64) -> Self {
        Self { disk, seed, readable_from, table: Mutex::default(), making: Mutex::new(()) }
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
        let ahead = table.prepared.range(plan.seq + 1..).map(|(_, one)| one.header.capacity);
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

    /// The segment for `plan`: the prepared one if it fits, else made now.
    pub(crate) fn activate(&self, plan: SegmentPlan, durable: u64) -> io::Result<Arc<WalSegment>> {
        if let Some(segment) = self.take_prepared(plan) {
            return Ok(segment); // without waiting for the one that is being made behind it
        }
        let making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let segment = match self.take_prepared(plan) {
            Some(segment) => segment,
            None => {
                self.void_prepared(plan.seq)?;
                let segment = self.make(plan, durable)?;
                self.adopt(Arc::clone(&segment));
                segment
            }
        };
        drop(making);
        Ok(segment)
    }

    /// The one made ahead for `plan`, from now on in use.
    fn take_prepared(&self, plan: SegmentPlan) -> Option<Arc<WalSegment>> {
        let mut table = self.lock();
        let fits = table.prepared.get(&plan.seq).is_some_and(|segment| segment.header.fits(plan));
        let segment = fits.then(|| table.prepared.remove(&plan.seq)).flatten()?;
        table.live.insert(segment.header.start, Arc::clone(&segment));
        Some(segment)
    }

    /// Those made ahead from number `from` on for a layout that is not to be: where one of them says that it starts, a start
    /// would end this one. Their files are used under the same names.
    fn void_prepared(&self, from: u64) -> io::Result<()> {
        let void = self.lock().prepared.split_off(&from);
        for segment in void.values() {
            let zeros = vec![0; PAGE_BYTES];
            segment.file.write_at(&[IoSlice::new(&zeros)], 0)?;
            segment.file.sync()?;
        }
        Ok(())
    }

    /// Whether the segment for `plan` is already made ahead.
    pub(crate) fn is_prepared(&self, plan: SegmentPlan) -> bool {
        let table = self.lock();
        table.prepared.get(&plan.seq).is_some_and(|segment| segment.header.fits(plan))
            || table.live.values().next_back().is_some_and(|newest| newest.header.seq >= plan.seq)
    }

    /// Makes the segment for `plan` ahead of need; `false` if the log laid out another one meanwhile.
    pub(crate) fn prepare(&self, plan: SegmentPlan, durable: u64) -> io::Result<bool> {
        let making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_prepared(plan) || !self.follows(plan) {
            return Ok(false);
        }
        self.void_prepared(plan.seq)?;
        let segment = self.make(plan, durable)?;
        self.lock().prepared.insert(plan.seq, segment);
        drop(making);
        Ok(true)
    }

    /// Whether the segment before `plan` ends where that begins. A header that says another start
    /// would end the one before it at the next start of the store.
    fn follows(&self, plan: SegmentPlan) -> bool {
        let table = self.lock();
        let newest = table.live.values().next_back();
        let before = newest.into_iter().chain(table.prepared.values());
        before
            .filter(|segment| segment.header.seq + 1 == plan.seq)
            .any(|segment| segment.header.start + segment.header.capacity == plan.start)
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

    fn make(&self, plan: SegmentPlan, durable: u64) -> io::Result<Arc<WalSegment>> {
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
        if let Err(error) = self.format(&*file, len, plan, durable) {
            if is_full(&error) {
                drop(file);
                self.disk.remove(&path)?; // half a segment is of use to nobody
            }
            return Err(error);
        }
        self.disk.sync_dir(WAL_DIR)?;
        Ok(Arc::new(WalSegment::new(self.header(plan, durable), file)))
    }

    fn format(
        &self,
        file: &dyn DiskFile,
        len: u64,
        plan: SegmentPlan,
        durable: u64,
    ) -> io::Result<()> {
        let wanted = SEGMENT_HEADER_BYTES + plan.capacity;
        if len < wanted {
            fill_with_zeros(file, len, wanted)?;
        } else if len > wanted {
            file.set_len(wanted)?;
        }
        file.write_at(&[IoSlice::new(&self.header(plan, durable).encode())], 0)?;
        file.sync()
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

/// Synced in pieces: a commit that syncs meanwhile waits for one of them, not for the whole file.
pub(crate) fn fill_with_zeros(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES];
    let mut position = from;
    while position < to {
        let bytes = usize::try_from(to - position).unwrap_or(ZEROS_BYTES).min(ZEROS_BYTES);
        file.write_at(&[IoSlice::new(zeros.get(..bytes).unwrap_or_default())], position)?;
        position += bytes as u64;
        if (position - from).is_multiple_of(ZEROS_SYNC_BYTES) && position < to {
            file.sync()?;
        }
    }
    Ok(())
}

/// SplitMix64: spreads a seed over all bits.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Files kept for another life.
const FREE_MAX: usize = 4;
const ZEROS_BYTES: usize = 1 << 20;
const ZEROS_SYNC_BYTES: u64 = 8 << 20;
