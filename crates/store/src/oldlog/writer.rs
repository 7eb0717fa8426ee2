//! Writes an old log, and rewrites one with fewer messages.

use super::index::{Entry, PAGE_ENTRIES, encode_page};
use super::{
    FOOTER_BYTES, HEADER_BYTES, MAGIC, MESSAGE_HEADER_BYTES, MESSAGES_MAX, OLD_LOG_FORMAT,
    OldLogReader, OldLogSummary, OldMessage,
};
use crate::Lsn;
use crate::disk::Disk;
use crate::files::{FileError, FileWriter};
use crate::limits::FRAME_BYTES_MAX;

/// An old log being written. Keeps 24 bytes in memory for each message.
#[derive(Debug)]
pub struct OldLogWriter {
    writer: FileWriter,
    start: Lsn,
    entries: Vec<Entry>,
}

impl OldLogWriter {
    /// Starts the file `temporary` for the stride that begins at `start`, replacing what an earlier
    /// attempt left.
    pub fn create(disk: &dyn Disk, temporary: &str, start: Lsn) -> Result<Self, FileError> {
        match disk.remove(temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(FileError::io("removing", temporary, error));
            }
            _ => {}
        }
        let mut writer = FileWriter::create(disk, temporary)?;
        let mut header = [0; HEADER_BYTES];
        header[0..4].copy_from_slice(MAGIC);
        header[4..8].copy_from_slice(&OLD_LOG_FORMAT.to_le_bytes());
        header[8..16].copy_from_slice(&start.0.to_le_bytes());
        let crc = crc32c::crc32c(&header[0..16]);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
        writer.push(&header)?;
        Ok(Self { writer, start, entries: Vec::new() })
    }

    /// Adds a message behind the last. The caller brings them queue by queue, and in each by
    /// ascending LSN; lookup does not depend on it.
    ///
    /// # Panics
    /// Beyond [`MESSAGES_MAX`], or for a message larger than a frame.
    #[expect(clippy::expect_used, reason = "a frame is far below 4 GiB")]
    pub fn push(&mut self, message: &OldMessage<'_>) -> Result<(), FileError> {
        assert!(self.entries.len() < MESSAGES_MAX, "too many messages in one old log");
        assert!(message.bytes.len() <= FRAME_BYTES_MAX, "a message larger than a frame");
        let length = u32::try_from(message.bytes.len()).expect("below a frame's bound");
        let mut header = [0; MESSAGE_HEADER_BYTES];
        header[0..8].copy_from_slice(&message.lsn.0.to_le_bytes());
        header[8..16].copy_from_slice(&message.queue.0.to_le_bytes());
        header[16..20].copy_from_slice(&length.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[0..20]), message.bytes);
        header[20..24].copy_from_slice(&crc.to_le_bytes());
        let bytes = length + u32::try_from(MESSAGE_HEADER_BYTES).expect("24");
        self.entries.push(Entry { lsn: message.lsn.0, position: self.writer.position(), bytes });
        self.writer.push(&header)?;
        self.writer.push(message.bytes)
    }

    /// Syncs what was pushed so far, so that [`finish`](Self::finish) has little left to sync.
    pub fn sync(&mut self) -> Result<(), FileError> {
        self.writer.sync()
    }

    /// Writes index and footer, syncs and closes as one step. [`publish`](super::publish) gives the
    /// file its name.
    ///
    /// # Panics
    /// If two messages have the same LSN.
    pub fn finish(mut self) -> Result<OldLogSummary, FileError> {
        self.entries.sort_unstable_by_key(|entry| entry.lsn);
        let unique = self.entries.is_sorted_by(|a, b| a.lsn < b.lsn);
        assert!(unique, "two messages with one LSN in one old log");
        let index_at = self.writer.position();
        let mut fences = Vec::new();
        for page in self.entries.chunks(PAGE_ENTRIES) {
            self.writer.push(&encode_page(page))?;
            let first = page.first().map_or(0, |entry| entry.lsn);
            fences.extend_from_slice(&first.to_le_bytes());
        }
        self.writer.push(&fences)?;
        let messages = self.entries.len() as u64;
        self.writer.push(&footer(self.start, messages, index_at, &fences))?;
        let bytes = self.writer.finish()?;
        Ok(OldLogSummary { start: self.start, messages, bytes })
    }
}

/// Writes those messages of `from` that `keep` wants to a new file `temporary`, in their order.
pub fn rewrite(
    disk: &dyn Disk,
    from: &OldLogReader,
    temporary: &str,
    keep: &mut dyn FnMut(Lsn) -> bool,
) -> Result<OldLogSummary, FileError> {
    let mut writer = OldLogWriter::create(disk, temporary, from.start())?;
    from.for_each(|_, message| if keep(message.lsn) { writer.push(&message) } else { Ok(()) })?;
    writer.finish()
}

fn footer(start: Lsn, messages: u64, index_at: u64, fences: &[u8]) -> [u8; FOOTER_BYTES] {
    let mut footer = [0; FOOTER_BYTES];
    footer[0..4].copy_from_slice(MAGIC);
    footer[4..8].copy_from_slice(&OLD_LOG_FORMAT.to_le_bytes());
    footer[8..16].copy_from_slice(&start.0.to_le_bytes());
    footer[16..24].copy_from_slice(&messages.to_le_bytes());
    footer[24..32].copy_from_slice(&index_at.to_le_bytes());
    footer[32..36].copy_from_slice(&crc32c::crc32c(fences).to_le_bytes());
    let crc = crc32c::crc32c(&footer[0..36]);
    footer[36..40].copy_from_slice(&crc.to_le_bytes());
    footer
}
