//! Snapshots: the state of everything below a place in the log, as objects with a key.
//!
//! Written beside its name, synced, then renamed. The steps are separate calls, because between
//! [`SnapshotWriter::finish`] and [`publish`] the log must have become durable up to
//! [`SnapshotHeader::end`]. Layout: `docs/format/snapshot.md`.

mod reader;
mod writer;

use crate::Lsn;
use crate::disk::Disk;
use crate::files::{self, FileError, u32_at, u64_at};

pub use reader::{Snapshot, SnapshotObject};
pub use writer::SnapshotWriter;

/// What a snapshot says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// Its number, ascending.
    pub number: u64,
    /// The log is needed from here on to go on from this snapshot.
    pub floor: Lsn,
    /// Where the log ended when the first object was taken: each object has every fact below this.
    pub begin: Lsn,
    /// Where the log ended when the last object was taken: no object has a fact at or above this.
    pub end: Lsn,
    /// Everything below was durable when the snapshot was finished.
    pub durable_upto: Lsn,
}

/// The numbers of the snapshots in `directory`, newest first; none if there is no such directory.
/// Names that are not a snapshot's are passed over.
pub fn list(disk: &dyn Disk, directory: &str) -> Result<Vec<u64>, FileError> {
    let names = match disk.list(directory) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::io("listing", directory, error)),
    };
    let mut numbers: Vec<_> = names.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    Ok(numbers)
}

/// The name of snapshot `number` in its directory.
#[must_use]
pub fn file_name(number: u64) -> String {
    format!("{number:016x}.snap")
}

/// Gives a finished snapshot its name, durably. From here on it is what recovery starts from.
pub fn publish(disk: &dyn Disk, temporary: &str, path: &str) -> Result<(), FileError> {
    files::publish(disk, temporary, path)
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".snap")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (file_name(number) == name).then_some(number)
}

impl SnapshotHeader {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(MAGIC);
        bytes[4..8].copy_from_slice(&SNAPSHOT_FORMAT.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.floor.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.begin.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.end.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.durable_upto.0.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[0..48]);
        bytes[48..52].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The inner error is the format of a newer version.
    fn decode(bytes: &[u8]) -> Option<Result<Self, u32>> {
        let covered = bytes.get(..48)?;
        if !covered.starts_with(MAGIC) || crc32c::crc32c(covered) != u32_at(bytes, 48)? {
            return None;
        }
        let format = u32_at(bytes, 4)?;
        if format != SNAPSHOT_FORMAT {
            return Some(Err(format));
        }
        Some(Ok(Self {
            number: u64_at(bytes, 8)?,
            floor: Lsn(u64_at(bytes, 16)?),
            begin: Lsn(u64_at(bytes, 24)?),
            end: Lsn(u64_at(bytes, 32)?),
            durable_upto: Lsn(u64_at(bytes, 40)?),
        }))
    }
}

/// The version of the snapshot file.
pub const SNAPSHOT_FORMAT: u32 = 1;
/// Bytes of an object's key at most; one more than the number is the footer's mark.
pub const KEY_BYTES_MAX: usize = 4096;
/// Bytes of an object at most.
pub const OBJECT_BYTES_MAX: usize = 512 << 20;
const MAGIC: &[u8; 4] = b"OTLS";
const HEADER_BYTES: usize = 64;
const OBJECT_HEADER_BYTES: usize = 24;
const FOOTER_BYTES: usize = 24;
/// Where an object has the length of its key.
const FOOTER_MARK: u32 = u32::MAX;

#[cfg(test)]
mod tests;
