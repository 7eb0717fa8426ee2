//! The record batch (Kafka v2): the one unit that the wire, the disk and the reader share verbatim.

use bytes::Bytes;

/// A batch that was checked: its CRC holds and its header is sane. Only its base offset and leader
/// epoch, which Kafka's CRC does not cover, are still to be stamped.
#[derive(Clone, Debug)]
pub struct PreparedBatch {
    /// The 61 bytes of the header.
    pub(crate) header: [u8; HEADER_BYTES],
    /// Everything after the header, as received.
    pub(crate) records: Bytes,
}

/// Bytes of a batch's header, up to and including the record count.
pub const HEADER_BYTES: usize = 61;
