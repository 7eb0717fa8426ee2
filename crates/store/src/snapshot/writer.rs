//! Streams a snapshot to disk.

use super::{
    FOOTER_MARK, HEADER_BYTES, KEY_BYTES_MAX, OBJECT_BYTES_MAX, OBJECT_HEADER_BYTES, SnapshotHeader,
};
use crate::Lsn;
use crate::disk::Disk;
use crate::files::{FileError, FileWriter};

/// A snapshot being written. Objects come in any order, each key once.
#[derive(Debug)]
pub struct SnapshotWriter {
    writer: FileWriter,
    count: u64,
    /// CRC over the CRCs of the objects.
    crc: u32,
}

impl SnapshotWriter {
    /// Starts the file `temporary`, replacing what an earlier attempt left.
    pub fn create(disk: &dyn Disk, temporary: &str) -> Result<Self, FileError> {
        match disk.remove(temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(FileError::io("removing", temporary, error));
            }
            _ => {}
        }
        let mut writer = FileWriter::create(disk, temporary)?;
        writer.push(&[0; HEADER_BYTES])?;
        Ok(Self { writer, count: 0, crc: 0 })
    }

    /// Adds an object: its key, the place of its newest fact, and its bytes.
    ///
    /// # Panics
    /// If the key is empty or beyond [`KEY_BYTES_MAX`], or the bytes beyond [`OBJECT_BYTES_MAX`].
    #[expect(clippy::expect_used, reason = "both bounds are far below 4 GiB")]
    pub fn object(&mut self, key: &[u8], applied: Lsn, bytes: &[u8]) -> Result<(), FileError> {
        assert!((1..=KEY_BYTES_MAX).contains(&key.len()), "a key of {} bytes", key.len());
        assert!(bytes.len() <= OBJECT_BYTES_MAX, "an object of {} bytes", bytes.len());
        let key_bytes = u32::try_from(key.len()).expect("a short key");
        let object_bytes = u32::try_from(bytes.len()).expect("a bounded object");
        let mut header = [0; OBJECT_HEADER_BYTES];
        header[0..4].copy_from_slice(&key_bytes.to_le_bytes());
        header[4..8].copy_from_slice(&object_bytes.to_le_bytes());
        header[8..16].copy_from_slice(&applied.0.to_le_bytes());
        let crc = crc32c::crc32c(&header[0..16]);
        let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, key), bytes);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
        self.writer.push(&header)?;
        self.writer.push(key)?;
        self.writer.push(bytes)?;
        self.count += 1;
        self.crc = crc32c::crc32c_append(self.crc, &crc.to_le_bytes());
        Ok(())
    }

    /// Writes header and footer, syncs and closes as one step. Returns the length of the file. It
    /// has its temporary name still: [`publish`](super::publish) it once the log is durable up to
    /// `header.end`.
    pub fn finish(mut self, header: &SnapshotHeader) -> Result<u64, FileError> {
        let mut footer = Vec::new();
        footer.extend_from_slice(&FOOTER_MARK.to_le_bytes());
        footer.extend_from_slice(&self.crc.to_le_bytes());
        footer.extend_from_slice(&self.count.to_le_bytes());
        let crc = crc32c::crc32c(&footer);
        footer.extend_from_slice(&crc.to_le_bytes());
        footer.extend_from_slice(&[0; 4]);
        self.writer.push(&footer)?;
        self.writer.patch(0, &header.encode())?;
        self.writer.finish()
    }
}
