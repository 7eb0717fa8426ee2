//! One file: what a reader sees, what would survive a power cut, and everything in between.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::{Arc, LazyLock};

use super::cut::{Cutter, PageFate};

/// Bytes that are written back, kept or lost together.
pub const PAGE: usize = 4096;
/// Bytes that a disk writes whole: a torn page is made of old and new sectors.
pub const SECTOR: usize = 512;
/// Unsynced versions of one page or of the length that are told apart; older ones than that are forgotten.
const VERSIONS_MAX: usize = 8;

/// A page of a file; `None` is a hole and reads as zeros.
pub(super) type Page = Option<Arc<[u8; PAGE]>>;

static ZEROS: LazyLock<Arc<[u8; PAGE]>> = LazyLock::new(|| Arc::new([0; PAGE]));

/// A file's bytes in both views.
///
/// Invariant: bytes of the last page beyond the length are zero, in both views.
#[derive(Clone, Debug, Default)]
pub(super) struct FileNode {
    pub(super) len: u64,
    pages: Vec<Page>,
    durable_len: u64,
    durable: Vec<Page>,
    /// What was written to each page since the last sync, oldest first; the last is what is read.
    pending: BTreeMap<usize, Vec<Page>>,
    /// The lengths the file had since the last sync, oldest first.
    pending_lens: Vec<u64>,
}

impl FileNode {
    pub(super) fn read(&self, buffer: &mut [u8], position: u64) -> usize {
        let available = usize_of(self.len.saturating_sub(position)).min(buffer.len());
        let mut done = 0;
        while done < available {
            let (index, within) = place(position + u64_of(done));
            let count = (PAGE - within).min(available - done);
            let target = buffer.get_mut(done..done + count).unwrap_or_default();
            match self.pages.get(index).and_then(Option::as_ref) {
                Some(page) => {
                    target.copy_from_slice(page.get(within..within + count).unwrap_or_default());
                }
                None => target.fill(0),
            }
            done += count;
        }
        available
    }

    /// Writes as much as `room` pages of new allocation admit and returns the bytes written.
    pub(super) fn write(&mut self, parts: &[IoSlice<'_>], position: u64, room: u64) -> usize {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut source = Source { parts, part: 0, within: 0 };
        let (mut done, mut allocated) = (0, 0);
        while done < total {
            let (index, within) = place(position + u64_of(done));
            let count = (PAGE - within).min(total - done);
            let old = self.pages.get(index).cloned().flatten();
            if old.is_none() {
                allocated += 1;
                if allocated > room {
                    break;
                }
            }
            let mut page = *old.unwrap_or_else(|| ZEROS.clone());
            source.fill(page.get_mut(within..within + count).unwrap_or_default());
            let zero = page.iter().all(|byte| *byte == 0);
            let page = if zero { ZEROS.clone() } else { Arc::new(page) };
            self.put(index, Some(page));
            done += count;
        }
        let end = position + u64_of(done);
        if done > 0 && end > self.len {
            self.note_len(end);
        }
        done
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let keep = pages_of(len);
        for index in keep..self.pages.len() {
            self.put(index, None);
        }
        let (last, within) = place(len);
        if len < self.len
            && within > 0
            && let Some(Some(page)) = self.pages.get(last).cloned()
        {
            let mut cut = *page;
            cut.get_mut(within..).unwrap_or_default().fill(0);
            self.put(last, Some(Arc::new(cut)));
        }
        self.pages.truncate(keep);
        self.note_len(len);
    }

    /// Makes everything written since the last sync durable. Pages that a failed sync gave up stay lost.
    pub(super) fn sync(&mut self) {
        self.durable.resize(pages_of(self.len).max(self.durable.len()), None);
        for (index, versions) in std::mem::take(&mut self.pending) {
            if let (Some(slot), Some(page)) = (self.durable.get_mut(index), versions.last()) {
                slot.clone_from(page);
            }
        }
        self.durable.truncate(pages_of(self.len));
        self.durable_len = self.len;
        self.pending_lens.clear();
    }

    /// What Linux does when a writeback fails: the pages count as clean, and the disk does not have them.
    pub(super) fn give_up(&mut self) {
        self.pending.clear();
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.pending.is_empty() || !self.pending_lens.is_empty()
    }

    pub(super) fn allocated(&self) -> u64 {
        u64_of(self.pages.iter().filter(|page| page.is_some()).count())
    }

    /// The file after a power cut that kept of the unsynced changes what `cutter` says.
    pub(super) fn cut(&self, path: &str, cutter: &mut dyn Cutter) -> Self {
        if self.pending.is_empty() && self.pending_lens.is_empty() {
            let (len, pages) = (self.durable_len, self.durable.clone());
            return Self {
                len,
                pages: pages.clone(),
                durable_len: len,
                durable: pages,
                ..Self::default()
            };
        }
        let len = match cutter.length(path, self.pending_lens.len()).checked_sub(1) {
            Some(nth) => self.pending_lens.get(nth).copied().unwrap_or(self.len),
            None => self.durable_len,
        };
        let mut pages = self.durable.clone();
        let highest = self.pending.last_key_value().map_or(0, |(index, _)| index + 1);
        pages.resize(highest.max(pages.len()), None);
        for (index, versions) in &self.pending {
            let fate = cutter.page(path, *index, versions.len());
            if let Some(slot) = pages.get_mut(*index) {
                let kept = keep(slot, versions, &fate);
                *slot = kept;
            }
        }
        pages.resize(pages_of(len), None);
        if let (last, within @ 1..) = place(len)
            && let Some(Some(page)) = pages.get_mut(last)
            && page.iter().skip(within).any(|byte| *byte != 0)
        {
            Arc::make_mut(page).get_mut(within..).unwrap_or_default().fill(0);
        }
        Self { len, pages: pages.clone(), durable_len: len, durable: pages, ..Self::default() }
    }

    /// Damages a byte in both views, as a bad sector or a stray write does.
    pub(super) fn rot(&mut self, position: u64, mask: u8) -> bool {
        let (index, within) = place(position);
        let mut hit = false;
        for slot in [self.pages.get_mut(index), self.durable.get_mut(index)].into_iter().flatten() {
            let page = Arc::make_mut(slot.get_or_insert_with(|| ZEROS.clone()));
            if let Some(byte) = page.get_mut(within) {
                *byte ^= mask;
                hit = true;
            }
        }
        hit
    }

    fn put(&mut self, index: usize, page: Page) {
        if self.pages.len() <= index {
            self.pages.resize(index + 1, None);
        }
        if let Some(slot) = self.pages.get_mut(index) {
            slot.clone_from(&page);
        }
        push_bounded(self.pending.entry(index).or_default(), page);
    }

    fn note_len(&mut self, len: u64) {
        if len != self.len {
            self.len = len;
            push_bounded(&mut self.pending_lens, len);
        }
    }
}

/// The bytes of a gathered write, in order.
struct Source<'a> {
    parts: &'a [IoSlice<'a>],
    part: usize,
    within: usize,
}

impl Source<'_> {
    fn fill(&mut self, mut target: &mut [u8]) {
        while !target.is_empty()
            && let Some(part) = self.parts.get(self.part)
        {
            let rest = part.get(self.within..).unwrap_or_default();
            let count = rest.len().min(target.len());
            let (now, later) = target.split_at_mut(count);
            now.copy_from_slice(rest.get(..count).unwrap_or_default());
            target = later;
            self.within += count;
            if self.within == part.len() {
                self.part += 1;
                self.within = 0;
            }
        }
    }
}

/// A page of which `fate` decides what reached the disk.
fn keep(durable: &Page, versions: &[Page], fate: &PageFate) -> Page {
    let version = |nth: usize| match nth.checked_sub(1) {
        Some(nth) => versions.get(nth).cloned().flatten(),
        None => durable.clone(),
    };
    match fate {
        PageFate::Version(nth) => version(*nth),
        PageFate::Torn(sectors) => {
            let mut torn = [0; PAGE];
            for (at, (target, nth)) in torn.chunks_exact_mut(SECTOR).zip(sectors).enumerate() {
                if let Some(page) = version(*nth) {
                    let from = at * SECTOR;
                    target.copy_from_slice(page.get(from..from + SECTOR).unwrap_or_default());
                }
            }
            Some(Arc::new(torn))
        }
    }
}

fn push_bounded<T>(versions: &mut Vec<T>, newest: T) {
    if versions.len() == VERSIONS_MAX {
        versions.remove(0);
    }
    versions.push(newest);
}

fn place(position: u64) -> (usize, usize) {
    let page = u64_of(PAGE);
    (usize_of(position / page), usize_of(position % page))
}

fn pages_of(len: u64) -> usize {
    usize_of(len.div_ceil(u64_of(PAGE)))
}

#[expect(
    clippy::expect_used,
    reason = "the simulator runs where a file that fits in memory fits in usize"
)]
pub(super) fn usize_of(value: u64) -> usize {
    usize::try_from(value).expect("a simulated file fits in memory")
}

pub(super) fn u64_of(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
