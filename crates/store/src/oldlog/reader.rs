//! Finds messages in an old log. Keeps 8 bytes in memory for every 204 messages.

use bytes::Bytes;

use super::index::{Entry, PAGE_BYTES, PAGE_ENTRIES, decode_page};
use super::{
    FOOTER_BYTES, HEADER_BYTES, MAGIC, MESSAGE_HEADER_BYTES, MESSAGES_MAX, OLD_LOG_FORMAT,
    OldLogSummary, OldMessage,
};
use crate::disk::Disk;
use crate::files::{FileError, NamedFile, u32_at, u64_at};
use crate::limits::FRAME_BYTES_MAX;
use crate::{Lsn, StreamId};

/// An open old log.
#[derive(Debug)]
pub struct OldLogReader {
    file: NamedFile,
    summary: OldLogSummary,
    index_at: u64,
    /// The first LSN of each page of the index.
    fences: Vec<u64>,
}

impl OldLogReader {
    /// Opens the old log of `bytes` bytes in the file `path`, reading header, footer and fences.
    pub fn open(disk: &dyn Disk, path: &str, bytes: u64) -> Result<Self, FileError> {
        let file = NamedFile::open_read(disk, path)?;
        if bytes < (HEADER_BYTES + FOOTER_BYTES) as u64 {
            return Err(file.damaged(0, format!("{bytes} bytes are no old log")));
        }
        check_header(&file, &file.read(0, HEADER_BYTES)?)?;
        let footer_at = bytes - FOOTER_BYTES as u64;
        let footer = file.read(footer_at, FOOTER_BYTES)?;
        let damaged = || file.damaged(footer_at, "the footer does not fit the file");
        let (summary, index_at, crc) = decode_footer(&footer, bytes).ok_or_else(damaged)?;
        let pages = pages_of(summary.messages);
        let fences_bytes = pages.checked_mul(8).ok_or_else(damaged)?;
        let fences_at = index_at + (pages * PAGE_BYTES) as u64;
        if index_at < HEADER_BYTES as u64 || fences_at + fences_bytes as u64 != footer_at {
            return Err(damaged());
        }
        let fences = file.read(fences_at, fences_bytes)?;
        if crc32c::crc32c(&fences) != crc {
            return Err(file.damaged(fences_at, "the checksum of the fences fails"));
        }
        let (fences, _) = fences.as_chunks::<8>();
        let fences = fences.iter().map(|fence| u64::from_le_bytes(*fence)).collect();
        Ok(Self { file, summary, index_at, fences })
    }

    /// Where its stride begins.
    #[must_use]
    pub const fn start(&self) -> Lsn {
        self.summary.start
    }

    /// What it holds.
    #[must_use]
    pub const fn summary(&self) -> OldLogSummary {
        self.summary
    }

    /// The message at `lsn`; `None` if it is not in the file. Two reads.
    pub fn get(&self, lsn: Lsn) -> Result<Option<Bytes>, FileError> {
        let above = self.fences.partition_point(|first| *first <= lsn.0);
        let Some(page) = above.checked_sub(1) else { return Ok(None) };
        let entries = self.page(page)?;
        let Ok(at) = entries.binary_search_by_key(&lsn.0, |entry| entry.lsn) else {
            return Ok(None);
        };
        let Some(entry) = entries.get(at) else { return Ok(None) };
        self.message(entry).map(Some)
    }

    /// The LSNs of all messages, ascending, from the index alone.
    pub fn lsns(&self) -> Result<Vec<Lsn>, FileError> {
        let mut lsns = Vec::new();
        for page in 0..self.fences.len() {
            lsns.extend(self.page(page)?.iter().map(|entry| Lsn(entry.lsn)));
        }
        Ok(lsns)
    }

    /// Hands every message, with its position in the file, to `sink` in the order of the file.
    pub fn for_each(
        &self,
        mut sink: impl FnMut(u64, OldMessage<'_>) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let mut position = HEADER_BYTES as u64;
        let mut seen = 0;
        let mut window = Window { file: &self.file, end: self.index_at, at: 0, bytes: Vec::new() };
        while position < self.index_at {
            let length = {
                let head = window.get(position, MESSAGE_HEADER_BYTES)?;
                body_bytes(head)
                    .ok_or_else(|| self.file.damaged(position, "a message larger than a frame"))?
            };
            let whole = window.get(position, MESSAGE_HEADER_BYTES + length)?;
            let message = decode_message(whole)
                .ok_or_else(|| self.file.damaged(position, "the checksum of a message fails"))?;
            let step = whole.len() as u64;
            sink(position, message)?;
            position += step;
            seen += 1;
        }
        if seen == self.summary.messages {
            return Ok(());
        }
        let what = format!("{seen} messages where the footer counts {}", self.summary.messages);
        Err(self.file.damaged(self.index_at, what))
    }

    /// Reads everything: every message, and that the index finds each of them.
    pub fn verify(&self) -> Result<(), FileError> {
        let mut positions = Vec::new();
        self.for_each(|position, message| {
            positions.push((message.lsn.0, position));
            Ok(())
        })?;
        positions.sort_unstable();
        let mut indexed = Vec::new();
        for page in 0..self.fences.len() {
            indexed.extend(self.page(page)?.iter().map(|entry| (entry.lsn, entry.position)));
        }
        if positions == indexed {
            return Ok(());
        }
        Err(self.file.damaged(self.index_at, "the index does not fit the messages"))
    }

    fn page(&self, page: usize) -> Result<Vec<Entry>, FileError> {
        let position = self.index_at + (page * PAGE_BYTES) as u64;
        let damaged = || self.file.damaged(position, "a page of the index is damaged");
        let entries = decode_page(&self.file.read(position, PAGE_BYTES)?).ok_or_else(damaged)?;
        if entries.first().map(|entry| &entry.lsn) != self.fences.get(page) {
            return Err(damaged());
        }
        Ok(entries)
    }

    fn message(&self, entry: &Entry) -> Result<Bytes, FileError> {
        let bytes = usize::try_from(entry.bytes).unwrap_or(usize::MAX);
        let damaged = |what| self.file.damaged(entry.position, what);
        if bytes > FRAME_BYTES_MAX + MESSAGE_HEADER_BYTES
            || entry.position.saturating_add(bytes as u64) > self.index_at
        {
            return Err(damaged("the index points outside the messages"));
        }
        let whole = Bytes::from(self.file.read(entry.position, bytes)?);
        match decode_message(&whole) {
            Some(message) if message.lsn.0 == entry.lsn => Ok(whole.slice(MESSAGE_HEADER_BYTES..)),
            _ => Err(damaged("the checksum of a message fails")),
        }
    }
}

/// A piece of the file, read ahead.
struct Window<'a> {
    file: &'a NamedFile,
    end: u64,
    at: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    fn get(&mut self, position: u64, bytes: usize) -> Result<&[u8], FileError> {
        if position + bytes as u64 > self.end {
            return Err(self.file.damaged(position, "a message reaches into the index"));
        }
        let held = self.at + self.bytes.len() as u64;
        if position < self.at || position + bytes as u64 > held {
            let left = usize::try_from(self.end - position).unwrap_or(usize::MAX);
            self.bytes = self.file.read(position, bytes.max(WINDOW_BYTES).min(left))?;
            self.at = position;
        }
        let from = usize::try_from(position - self.at).unwrap_or(usize::MAX);
        self.bytes
            .get(from..from + bytes)
            .ok_or_else(|| self.file.damaged(position, "a message is cut short"))
    }
}

fn check_header(file: &NamedFile, header: &[u8]) -> Result<(), FileError> {
    let covered = header.get(..16).unwrap_or_default();
    let crc = u32_at(header, 16);
    if !covered.starts_with(MAGIC) || Some(crc32c::crc32c(covered)) != crc {
        return Err(file.damaged(0, "not the header of an old log"));
    }
    match u32_at(header, 4) {
        Some(OLD_LOG_FORMAT) => Ok(()),
        found => Err(FileError::NewerFormat {
            path: file.path.clone(),
            found: found.unwrap_or_default(),
            supported: OLD_LOG_FORMAT,
        }),
    }
}

/// Summary, position of the index, CRC of the fences.
fn decode_footer(footer: &[u8], bytes: u64) -> Option<(OldLogSummary, u64, u32)> {
    let covered = footer.get(..36)?;
    if !covered.starts_with(MAGIC) || crc32c::crc32c(covered) != u32_at(footer, 36)? {
        return None;
    }
    let start = Lsn(u64_at(footer, 8)?);
    let messages = u64_at(footer, 16)?;
    let index_at = u64_at(footer, 24)?;
    let bounded = messages <= MESSAGES_MAX as u64 && index_at <= bytes;
    let summary = OldLogSummary { start, messages, bytes };
    bounded.then_some((summary, index_at, u32_at(footer, 32)?))
}

fn pages_of(messages: u64) -> usize {
    usize::try_from(messages).unwrap_or(usize::MAX).div_ceil(PAGE_ENTRIES)
}

fn body_bytes(header: &[u8]) -> Option<usize> {
    let bytes = usize::try_from(u32_at(header, 16)?).ok()?;
    (bytes <= FRAME_BYTES_MAX).then_some(bytes)
}

fn decode_message(whole: &[u8]) -> Option<OldMessage<'_>> {
    let (header, bytes) = whole.split_first_chunk::<MESSAGE_HEADER_BYTES>()?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[0..20]), bytes);
    if crc != u32_at(header, 20)? || body_bytes(header)? != bytes.len() {
        return None;
    }
    let lsn = Lsn(u64_at(header, 0)?);
    Some(OldMessage { lsn, queue: StreamId(u64_at(header, 8)?), bytes })
}

/// Bytes read at once while walking everything.
const WINDOW_BYTES: usize = 256 << 10;
