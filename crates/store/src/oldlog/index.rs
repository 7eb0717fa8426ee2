//! The sorted index of an old log, in pages that are checked one by one.

use crate::files::{u32_at, u64_at};

/// Where a message stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) lsn: u64,
    pub(super) position: u64,
    /// With the header of the message.
    pub(super) bytes: u32,
}

/// One page of at most [`PAGE_ENTRIES`] entries.
pub(super) fn encode_page(entries: &[Entry]) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE_BYTES);
    for entry in entries {
        page.extend_from_slice(&entry.lsn.to_le_bytes());
        page.extend_from_slice(&entry.position.to_le_bytes());
        page.extend_from_slice(&entry.bytes.to_le_bytes());
    }
    page.resize(PAGE_ENTRIES * ENTRY_BYTES, 0);
    page.extend_from_slice(&u32::try_from(entries.len()).unwrap_or(u32::MAX).to_le_bytes());
    let crc = crc32c::crc32c(&page);
    page.extend_from_slice(&crc.to_le_bytes());
    page.resize(PAGE_BYTES, 0);
    page
}

/// `None` if the page is damaged.
pub(super) fn decode_page(page: &[u8]) -> Option<Vec<Entry>> {
    let count_at = PAGE_ENTRIES * ENTRY_BYTES;
    let covered = page.get(..count_at + 4)?;
    let count = usize::try_from(u32_at(page, count_at)?).ok()?;
    if crc32c::crc32c(covered) != u32_at(page, count_at + 4)? || count > PAGE_ENTRIES {
        return None;
    }
    let (entries, _) = covered.as_chunks::<ENTRY_BYTES>();
    entries.iter().take(count).map(|entry| decode_entry(entry)).collect()
}

fn decode_entry(entry: &[u8]) -> Option<Entry> {
    let (lsn, position) = (u64_at(entry, 0)?, u64_at(entry, 8)?);
    Some(Entry { lsn, position, bytes: u32_at(entry, 16)? })
}

/// Bytes of a page of the index.
pub(super) const PAGE_BYTES: usize = 4096;
/// Entries in a page.
pub(super) const PAGE_ENTRIES: usize = 204;
const ENTRY_BYTES: usize = 20;
const _: () = assert!(PAGE_ENTRIES * ENTRY_BYTES + 8 <= PAGE_BYTES);
