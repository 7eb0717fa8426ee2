//! Reads a snapshot, after having verified all of it.

use super::{
    FOOTER_BYTES, FOOTER_MARK, HEADER_BYTES, KEY_BYTES_MAX, OBJECT_BYTES_MAX, OBJECT_HEADER_BYTES,
    SNAPSHOT_FORMAT, SnapshotHeader,
};
use crate::Lsn;
use crate::disk::Disk;
use crate::files::{FileError, NamedFile, u32_at, u64_at};

/// A snapshot every byte of which was verified.
#[derive(Debug)]
pub struct Snapshot {
    file: NamedFile,
    header: SnapshotHeader,
    objects: u64,
    bytes: u64,
}

/// One object of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotObject {
    /// Where it begins in the file.
    pub position: u64,
    /// Its key.
    pub key: Vec<u8>,
    /// The place of its newest fact.
    pub applied: Lsn,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Where the reading of a snapshot stands.
#[derive(Debug)]
struct Cursor<'a> {
    file: &'a NamedFile,
    position: u64,
    length: u64,
    count: u64,
    crc: u32,
}

impl Snapshot {
    /// Reads all of `path` once, one object at a time. An error means that the file is not to be
    /// used: try the next older one (rule 5).
    pub fn open(disk: &dyn Disk, path: &str) -> Result<Self, FileError> {
        let file = NamedFile::open_read(disk, path)?;
        let length = file.len()?;
        if length < (HEADER_BYTES + FOOTER_BYTES) as u64 {
            return Err(file.damaged(0, format!("{length} bytes are no snapshot")));
        }
        let header = match SnapshotHeader::decode(&file.read(0, HEADER_BYTES)?) {
            Some(Ok(header)) => header,
            Some(Err(found)) => {
                let supported = SNAPSHOT_FORMAT;
                return Err(FileError::NewerFormat { path: file.path, found, supported });
            }
            None => return Err(file.damaged(0, "not the header of a snapshot")),
        };
        let mut cursor = Cursor::new(&file, length);
        while cursor.next_object()?.is_some() {}
        let objects = cursor.count;
        Ok(Self { file, header, objects, bytes: length })
    }

    /// What it says of itself.
    #[must_use]
    pub const fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// How many objects it has.
    #[must_use]
    pub const fn objects(&self) -> u64 {
        self.objects
    }

    /// Bytes of the file.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hands every object to `sink` in the order they were written; stops where `sink` says so.
    pub fn for_each<E: From<FileError>>(
        &self,
        mut sink: impl FnMut(SnapshotObject) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut cursor = Cursor::new(&self.file, self.bytes);
        while let Some(object) = cursor.next_object()? {
            sink(object)?;
        }
        Ok(())
    }
}

impl<'a> Cursor<'a> {
    fn new(file: &'a NamedFile, length: u64) -> Self {
        Self { file, position: HEADER_BYTES as u64, length, count: 0, crc: 0 }
    }

    /// The next object; `None` once the footer was found to be right.
    fn next_object(&mut self) -> Result<Option<SnapshotObject>, FileError> {
        let position = self.position;
        let damaged = |what: &str| self.file.damaged(position, what);
        let left = self.length - position;
        // The footer is as long as an object's header, so that both are read before they are told apart.
        if left < OBJECT_HEADER_BYTES as u64 {
            return Err(damaged("the footer is missing"));
        }
        let head = self.file.read(position, OBJECT_HEADER_BYTES)?;
        let number = |at| u32_at(&head, at).ok_or_else(|| damaged("cut short"));
        if number(0)? == FOOTER_MARK {
            self.check_footer(&head)?;
            return Ok(None);
        }
        let key_bytes = usize::try_from(number(0)?).unwrap_or(usize::MAX);
        let object_bytes = usize::try_from(number(4)?).unwrap_or(usize::MAX);
        let body = key_bytes.saturating_add(object_bytes);
        if key_bytes > KEY_BYTES_MAX
            || object_bytes > OBJECT_BYTES_MAX
            || body as u64 > left - OBJECT_HEADER_BYTES as u64
        {
            return Err(damaged("an object reaches beyond the file"));
        }
        let mut key = self.file.read(position + OBJECT_HEADER_BYTES as u64, body)?;
        let crc = crc32c::crc32c(head.get(..16).unwrap_or_default());
        let crc = crc32c::crc32c_append(crc, &key);
        if crc != number(16)? {
            return Err(damaged("the checksum of an object fails"));
        }
        let applied = Lsn(u64_at(&head, 8).ok_or_else(|| damaged("cut short"))?);
        let bytes = key.split_off(key_bytes);
        self.position += (OBJECT_HEADER_BYTES + body) as u64;
        self.count += 1;
        self.crc = crc32c::crc32c_append(self.crc, &crc.to_le_bytes());
        Ok(Some(SnapshotObject { position, key, applied, bytes }))
    }

    fn check_footer(&self, footer: &[u8]) -> Result<(), FileError> {
        let whole = self.position + FOOTER_BYTES as u64 == self.length
            && footer.get(..16).map(crc32c::crc32c) == u32_at(footer, 16)
            && u32_at(footer, 4) == Some(self.crc)
            && u64_at(footer, 8) == Some(self.count);
        if whole {
            return Ok(());
        }
        Err(self.file.damaged(self.position, "the footer does not fit the objects"))
    }
}

const _: () = assert!(FOOTER_BYTES == OBJECT_HEADER_BYTES);
