//! Reading the log back: groups as they were written, judged before anything of them is used.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::layout::{
    FRAME_HEADER_BYTES, GROUP_HEADER_BYTES, GroupHeader, ITEM_HEADER_BYTES, ItemHeader,
    SEGMENT_HEADER_BYTES, u32_at,
};
use super::segments::WalSegment;
use crate::disk::{DiskFile, read_exact_at};
use crate::limits::PAGE_BYTES;

/// A whole group: header, chain, frame and item headers are verified, payloads are not.
#[derive(Clone, Debug)]
pub(crate) struct ScannedGroup {
    pub(crate) segment: Arc<WalSegment>,
    pub(crate) header: GroupHeader,
    pub(crate) chain: u32,
    /// The frames, without group header and padding.
    pub(crate) body: Bytes,
}

/// A frame of a scanned group.
#[derive(Clone, Debug)]
pub(crate) struct ScannedFrame {
    pub(crate) lsn: u64,
    pub(crate) items: Vec<ScannedItem>,
}

/// An item of a scanned group.
#[derive(Clone, Debug)]
pub(crate) struct ScannedItem {
    pub(crate) lsn: u64,
    pub(crate) header: ItemHeader,
    pub(crate) payload: Bytes,
}

impl ScannedItem {
    pub(crate) fn is_whole(&self) -> bool {
        self.header.covers(&self.payload)
    }
}

impl ScannedGroup {
    pub(crate) fn base(&self) -> u64 {
        self.header.lsn
    }

    pub(crate) fn end(&self) -> u64 {
        self.header.lsn + self.header.padded_bytes()
    }

    /// Its frames in order.
    pub(crate) fn frames(&self) -> Vec<ScannedFrame> {
        walk(&self.body, &self.header).map_or_else(Vec::new, |(frames, _)| frames)
    }
}

/// Reads the group at `lsn`; `None` if there is no whole group of this segment's life there, or not
/// one that follows `chain`.
pub(crate) fn read_group(
    segment: &Arc<WalSegment>,
    lsn: u64,
    chain: u32,
) -> io::Result<Option<ScannedGroup>> {
    if lsn < segment.header.start || lsn + GROUP_HEADER_BYTES as u64 > segment.end() {
        return Ok(None);
    }
    let mut head = [0; GROUP_HEADER_BYTES];
    if !read_present(&*segment.file, &mut head, segment.position(lsn))? {
        return Ok(None);
    }
    let Some((mut header, value)) = GroupHeader::decode(&head) else { return Ok(None) };
    if segment.is_gullible() {
        header.generation = segment.header.generation;
        (header.lsn, header.prev_chain) = (lsn, chain);
    }
    let follows = header.generation == segment.header.generation
        && header.lsn == lsn
        && chain == header.prev_chain
        && lsn.saturating_add(header.padded_bytes()) <= segment.end();
    if !follows {
        return Ok(None);
    }
    let mut body = vec![0; header.body_bytes as usize];
    if !read_present(&*segment.file, &mut body, segment.position(lsn) + GROUP_HEADER_BYTES as u64)?
    {
        return Ok(None);
    }
    let body = Bytes::from(body);
    match walk(&body, &header) {
        Some((_, crc)) if crc == header.headers_crc => {
            Ok(Some(ScannedGroup { segment: Arc::clone(segment), header, chain: value, body }))
        }
        _ => Ok(None),
    }
}

/// The largest `durable_upto` of any group header in `file` from `position` on (rule 1). Such a claim
/// was true when it was written and stays true, whichever life of the file it is from.
pub(crate) fn largest_claim(file: &dyn DiskFile, position: u64) -> io::Result<u64> {
    let len = file.len()?;
    let mut position = position.max(SEGMENT_HEADER_BYTES);
    let mut claim = 0;
    let mut chunk = vec![0; CLAIM_CHUNK_BYTES];
    while position < len {
        let bytes = usize::try_from(len - position).unwrap_or(chunk.len()).min(chunk.len());
        let part = chunk.get_mut(..bytes).unwrap_or_default();
        read_exact_at(file, part, position)?;
        for page in part.chunks(PAGE_BYTES) {
            if let Some((header, _)) = GroupHeader::decode(page) {
                claim = claim.max(header.durable_upto);
            }
        }
        position += bytes as u64;
    }
    Ok(claim)
}

/// The frames of a group's body and the CRC over their headers; `None` if the lengths do not add up.
fn walk(body: &Bytes, header: &GroupHeader) -> Option<(Vec<ScannedFrame>, u32)> {
    let mut crc = 0;
    let mut at = 0_usize;
    let base = header.lsn + GROUP_HEADER_BYTES as u64;
    let mut frames = Vec::new();
    for _ in 0..header.frames {
        let head = body.get(at..at.checked_add(FRAME_HEADER_BYTES)?)?;
        crc = crc32c::crc32c_append(crc, head);
        let (frame_at, frame_bytes) = (at, u32_at(head, 0)? as usize);
        let items_count = u32_at(head, 4)? as usize;
        at += FRAME_HEADER_BYTES;
        // Not more than could be there, whatever the count says.
        let mut items = Vec::with_capacity(items_count.min(body.len() / ITEM_HEADER_BYTES));
        for _ in 0..items_count {
            let head = body.get(at..at.checked_add(ITEM_HEADER_BYTES)?)?;
            crc = crc32c::crc32c_append(crc, head);
            let header = ItemHeader::decode(head)?;
            let lsn = base + at as u64;
            at += ITEM_HEADER_BYTES;
            let end = at.checked_add(header.payload_bytes as usize)?;
            body.get(at..end)?;
            items.push(ScannedItem { lsn, header, payload: body.slice(at..end) });
            at = end;
        }
        if at != frame_at.checked_add(frame_bytes)? {
            return None;
        }
        frames.push(ScannedFrame { lsn: base + frame_at as u64, items });
    }
    // A group without frames may be filler of any length.
    (header.frames == 0 || at == body.len()).then_some((frames, crc))
}

/// `false` when the file ends before the buffer is full.
fn read_present(file: &dyn DiskFile, buffer: &mut [u8], position: u64) -> io::Result<bool> {
    match read_exact_at(file, buffer, position) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

const CLAIM_CHUNK_BYTES: usize = 1 << 20;
