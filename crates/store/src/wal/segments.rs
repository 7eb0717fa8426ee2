//! The WAL's files: made, found by LSN, recycled.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::layout::{SEGMENT_HEADER_BYTES, SegmentHeader};
use super::stage::SegmentPlan;
use crate::disk::{Disk, DiskFile};

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
}

impl WalSegment {
    pub(crate) fn new(header: SegmentHeader, file: Arc<dyn DiskFile>) -> Self {
        let end = AtomicU64::new(header.start + header.capacity);
        Self { header, file, end }
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
    /// Made ahead of need.
    prepared: Option<Arc<WalSegment>>,
    /// Files that are free for another life.
    free: Vec<String>,
}

/// All segments of one store.
#[derive(Debug)]
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    seed: u64,
    table: Mutex<Table>,
    /// Held while a segment is made: the keeper and the log must never lay out one file at a time.
    making: Mutex<()>,
}

impl Segments {
    pub(crate) fn new(disk: Arc<dyn Disk>, seed: u64) -> Self {
        Self { disk, seed, table: Mutex::default(), making: Mutex::new(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segment that holds the byte at `lsn`.
    pub(crate) fn find(&self, lsn: u64) -> Option<Arc<WalSegment>> {
        let table = self.lock();
        let (_, segment) = table.live.range(..=lsn).next_back()?;
        (lsn < segment.end()).then(|| Arc::clone(segment))
    }

    /// All segments in use, oldest first.
    pub(crate) fn live(&self) -> Vec<Arc<WalSegment>> {
        self.lock().live.values().cloned().collect()
    }

    /// Bytes of the files in use.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.lock().live.values().map(|segment| segment.file_bytes()).sum()
    }

    pub(crate) fn adopt(&self, segment: Arc<WalSegment>) {
        self.lock().live.insert(segment.header.start, segment);
    }

    /// The segment for `plan`: the prepared one if it fits, else made now.
    pub(crate) fn activate(&self, plan: SegmentPlan, durable: u64) -> io::Result<Arc<WalSegment>> {
        let making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let prepared = self.lock().prepared.take();
        let segment = match prepared {
            Some(segment) if segment.header.fits(plan) => segment,
            _ => self.make(plan, durable)?,
        };
        self.adopt(Arc::clone(&segment));
        drop(making);
        Ok(segment)
    }

    /// Whether segment `seq` is already made ahead.
    pub(crate) fn is_prepared(&self, seq: u64) -> bool {
        let table = self.lock();
        table.prepared.as_ref().is_some_and(|segment| segment.header.seq == seq)
            || table.live.values().next_back().is_some_and(|segment| segment.header.seq >= seq)
    }

    /// Makes the segment for `plan` ahead of need.
    pub(crate) fn prepare(&self, plan: SegmentPlan, durable: u64) -> io::Result<()> {
        let making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        // The log role may have needed it meanwhile and made its own.
        if !self.is_prepared(plan.seq) {
            let segment = self.make(plan, durable)?;
            self.lock().prepared = Some(segment);
        }
        drop(making);
        Ok(())
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
        self.format(&*file, len, plan, durable)?;
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

pub(crate) fn fill_with_zeros(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES];
    let mut position = from;
    while position < to {
        let bytes = usize::try_from(to - position).unwrap_or(ZEROS_BYTES).min(ZEROS_BYTES);
        file.write_at(&[IoSlice::new(zeros.get(..bytes).unwrap_or_default())], position)?;
        position += bytes as u64;
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
