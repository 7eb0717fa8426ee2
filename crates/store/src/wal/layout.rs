//! The bytes of the write-ahead log: segment header, group header, frame header, item header.
//!
//! The layout is drawn in `docs/format/wal.md`; the golden tests at the foot hold it still. All
//! integers are little-endian.

use crate::limits::PAGE_BYTES;

/// Bytes before the first group of a segment file.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = PAGE_BYTES as u64;
/// Bytes of a group header.
pub(crate) const GROUP_HEADER_BYTES: usize = 64;
/// Bytes of a frame header: length of the frame with this header, number of items.
pub(crate) const FRAME_HEADER_BYTES: usize = 8;
/// Bytes of an item header; the payload follows it at once.
pub(crate) const ITEM_HEADER_BYTES: usize = 32;
/// The version of everything in this file, the snapshot and the directory layout.
pub(crate) const FORMAT_VERSION: u32 = 1;

const SEGMENT_MAGIC: u32 = u32::from_le_bytes(*b"OTLW");
const GROUP_MAGIC: u32 = u32::from_le_bytes(*b"OTLG");

/// What an item says; the number on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `stream` exists; `aux` is 0 for a partition, 1 for a queue.
    Create = 1,
    /// `stream` is gone.
    Delete = 2,
    /// Records of `stream` below `aux` are gone.
    Trim = 3,
    /// A batch of `stream` with base offset `aux`; its CRC covers the payload from byte 8 on.
    Batch = 4,
    /// A message for `aux` queues: `stream` and those in front of the body, 8 bytes each.
    Message = 5,
    /// Messages of queue `stream`, 8 bytes each.
    Settle = 6,
    /// The engine's.
    State = 7,
    /// Segments of partition `stream` were replaced by a compacted one.
    Replaced = 8,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Create,
            2 => Self::Delete,
            3 => Self::Trim,
            4 => Self::Batch,
            5 => Self::Message,
            6 => Self::Settle,
            7 => Self::State,
            8 => Self::Replaced,
            _ => return None,
        })
    }

    fn byte(self) -> u8 {
        match self {
            Self::Create => 1,
            Self::Delete => 2,
            Self::Trim => 3,
            Self::Batch => 4,
            Self::Message => 5,
            Self::Settle => 6,
            Self::State => 7,
            Self::Replaced => 8,
        }
    }
}

/// The first page of a segment file. Synced, with its directory, before the first group is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The number in the file's name; a file whose header says another one is a spare.
    pub(crate) seq: u64,
    /// Drawn anew for each life of the file: groups of earlier lives do not match it (rule 15).
    pub(crate) generation: u64,
    /// The LSN of the byte after this page.
    pub(crate) start: u64,
    /// Bytes after this page.
    pub(crate) capacity: u64,
    /// Everything below was durable when this header was written.
    pub(crate) durable: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(PAGE_BYTES);
        page.extend_from_slice(&SEGMENT_MAGIC.to_le_bytes());
        page.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        for word in [self.seq, self.generation, self.start, self.capacity, self.durable] {
            page.extend_from_slice(&word.to_le_bytes());
        }
        let crc = crc32c::crc32c(&page);
        page.extend_from_slice(&crc.to_le_bytes());
        page.resize(PAGE_BYTES, 0);
        page
    }

    /// `None` when the page is not a header, or not whole.
    pub(crate) fn decode(page: &[u8]) -> Option<Self> {
        let covered = page.get(..48)?;
        if u32_at(page, 0)? != SEGMENT_MAGIC || u32_at(page, 48)? != crc32c::crc32c(covered) {
            return None;
        }
        let header = Self {
            seq: u64_at(page, 8)?,
            generation: u64_at(page, 16)?,
            start: u64_at(page, 24)?,
            capacity: u64_at(page, 32)?,
            durable: u64_at(page, 40)?,
        };
        let sane = header.start.checked_add(header.capacity)?.is_multiple_of(PAGE_BYTES as u64)
            && header.start.is_multiple_of(PAGE_BYTES as u64);
        sane.then_some(header)
    }

    /// The format version of a page that is a segment header of any version.
    pub(crate) fn version(page: &[u8]) -> Option<u32> {
        (u32_at(page, 0)? == SEGMENT_MAGIC).then(|| u32_at(page, 4)).flatten()
    }
}

/// The header of a group: frames that are written and synced together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    /// That of the segment's header.
    pub(crate) generation: u64,
    /// The place of this header.
    pub(crate) lsn: u64,
    /// Bytes of the frames, without this header and the padding.
    pub(crate) body_bytes: u32,
    /// Number of frames; 0 in a group that only proves the one before it.
    pub(crate) frames: u32,
    /// Everything below was durable when this group was written (rule 1).
    pub(crate) durable_upto: u64,
    /// The chain value of the group before.
    pub(crate) prev_chain: u32,
    /// CRC of all frame headers and item headers, in order.
    pub(crate) headers_crc: u32,
}

impl GroupHeader {
    /// The header's bytes and its chain value, which the next group names.
    pub(crate) fn encode(&self) -> ([u8; GROUP_HEADER_BYTES], u32) {
        let mut bytes = Vec::with_capacity(GROUP_HEADER_BYTES);
        bytes.extend_from_slice(&GROUP_MAGIC.to_le_bytes());
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.lsn.to_le_bytes());
        bytes.extend_from_slice(&self.body_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.frames.to_le_bytes());
        bytes.extend_from_slice(&self.durable_upto.to_le_bytes());
        bytes.extend_from_slice(&self.prev_chain.to_le_bytes());
        bytes.extend_from_slice(&self.headers_crc.to_le_bytes());
        bytes.resize(GROUP_HEADER_BYTES - 4, 0);
        let chain = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&chain.to_le_bytes());
        let mut array = [0; GROUP_HEADER_BYTES];
        array.copy_from_slice(&bytes);
        (array, chain)
    }

    /// The header and its chain value; `None` when the bytes are not a whole header.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, u32)> {
        let covered = bytes.get(..GROUP_HEADER_BYTES - 4)?;
        if u32_at(bytes, 0)? != GROUP_MAGIC {
            return None;
        }
        let chain = u32_at(bytes, GROUP_HEADER_BYTES - 4)?;
        if chain != crc32c::crc32c(covered) {
            return None;
        }
        let header = Self {
            generation: u64_at(bytes, 8)?,
            lsn: u64_at(bytes, 16)?,
            body_bytes: u32_at(bytes, 24)?,
            frames: u32_at(bytes, 28)?,
            durable_upto: u64_at(bytes, 32)?,
            prev_chain: u32_at(bytes, 40)?,
            headers_crc: u32_at(bytes, 44)?,
        };
        Some((header, chain))
    }

    /// Bytes of the whole group on disk.
    pub(crate) fn padded_bytes(&self) -> u64 {
        padded(GROUP_HEADER_BYTES as u64 + u64::from(self.body_bytes))
    }
}

/// The header of an item, directly before its payload, so that the item can be read and verified
/// from its place alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ItemHeader {
    pub(crate) kind: Kind,
    pub(crate) payload_bytes: u32,
    pub(crate) payload_crc: u32,
    pub(crate) stream: u64,
    pub(crate) aux: u64,
}

impl ItemHeader {
    pub(crate) fn encode(&self) -> [u8; ITEM_HEADER_BYTES] {
        let mut array = [0; ITEM_HEADER_BYTES];
        let mut bytes = Vec::with_capacity(ITEM_HEADER_BYTES);
        bytes.extend_from_slice(&[self.kind.byte(), 0, 0, 0]);
        bytes.extend_from_slice(&self.payload_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.payload_crc.to_le_bytes());
        bytes.extend_from_slice(&self.stream.to_le_bytes());
        bytes.extend_from_slice(&self.aux.to_le_bytes());
        let check = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&check.to_le_bytes());
        array.copy_from_slice(&bytes);
        array
    }

    /// `None` when the bytes are not a whole item header of this version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if u32_at(bytes, ITEM_HEADER_BYTES - 4)?
            != crc32c::crc32c(bytes.get(..ITEM_HEADER_BYTES - 4)?)
        {
            return None;
        }
        Some(Self {
            kind: Kind::from_byte(*bytes.first()?)?,
            payload_bytes: u32_at(bytes, 4)?,
            payload_crc: u32_at(bytes, 8)?,
            stream: u64_at(bytes, 12)?,
            aux: u64_at(bytes, 20)?,
        })
    }

    /// Whether `payload` is what was written under this header.
    pub(crate) fn covers(&self, payload: &[u8]) -> bool {
        let covered = match (self.kind, payload.split_first_chunk::<BATCH_UNCOVERED_BYTES>()) {
            // The base offset is stamped under the lock: this header says what it must be.
            (Kind::Batch, Some((base, rest))) => (*base == self.aux.to_be_bytes()).then_some(rest),
            (Kind::Batch, None) => None,
            _ => Some(payload),
        };
        covered.is_some_and(|covered| crc32c::crc32c(covered) == self.payload_crc)
    }
}

/// The base offset in front of a batch: stamped under the lock, so not under the payload's CRC. It
/// stands in the item header as well.
pub(crate) const BATCH_UNCOVERED_BYTES: usize = 8;

/// `bytes` rounded up to whole pages.
pub(crate) const fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE_BYTES as u64)
}

/// The further queues of a message, 8 bytes each, and its body.
pub(crate) fn split_message(queues: u64, payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let more = usize::try_from(queues.checked_sub(1)?).ok()?.checked_mul(8)?;
    payload.split_at_checked(more)
}

/// The queues a message was routed to.
pub(crate) fn queues_of(header: &ItemHeader, payload: &[u8]) -> impl Iterator<Item = u64> {
    let more = split_message(header.aux, payload).map_or(&[] as &[u8], |(more, _)| more);
    std::iter::once(header.stream).chain(words(more))
}

/// Whole 8-byte words.
pub(crate) fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).filter_map(|word| word.try_into().ok()).map(u64::from_le_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_on_disk_does_not_change() {
        let segment =
            SegmentHeader { seq: 3, generation: 0x1122, start: 8192, capacity: 16384, durable: 64 };
        let page = segment.encode();
        assert_eq!(page.len(), PAGE_BYTES);
        assert_eq!(
            &page[..32],
            b"OTLW\x01\0\0\0\x03\0\0\0\0\0\0\0\x22\x11\0\0\0\0\0\0\0\x20\0\0\0\0\0\0"
        );
        assert_eq!(SegmentHeader::decode(&page), Some(segment));

        let group = GroupHeader {
            generation: 0x1122,
            lsn: 8192,
            body_bytes: 40,
            frames: 1,
            durable_upto: 4096,
            prev_chain: 7,
            headers_crc: 9,
        };
        let (bytes, chain) = group.encode();
        assert_eq!(
            &bytes[..48],
            b"OTLG\0\0\0\0\x22\x11\0\0\0\0\0\0\0\x20\0\0\0\0\0\0\x28\0\0\0\x01\0\0\0\
              \0\x10\0\0\0\0\0\0\x07\0\0\0\x09\0\0\0"
        );
        assert_eq!(GroupHeader::decode(&bytes), Some((group, chain)));

        let item =
            ItemHeader { kind: Kind::Message, payload_bytes: 5, payload_crc: 6, stream: 7, aux: 1 };
        let bytes = item.encode();
        assert_eq!(
            &bytes[..28],
            b"\x05\0\0\0\x05\0\0\0\x06\0\0\0\x07\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"
        );
        assert_eq!(ItemHeader::decode(&bytes), Some(item));
    }

    #[test]
    fn a_header_with_any_bit_flipped_is_no_header() {
        let item =
            ItemHeader { kind: Kind::Settle, payload_bytes: 8, payload_crc: 6, stream: 7, aux: 0 };
        for bit in 0..ITEM_HEADER_BYTES * 8 {
            let mut bytes = item.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ItemHeader::decode(&bytes), None, "bit {bit}");
        }
    }
}
