//! The five codecs of the record batch: names, compression, and decompression that is bounded.
//!
//! Foreign bytes are never trusted with memory: output is capped absolutely and by ratio
//! ([`OUTPUT_RATIO_MAX`]), and is produced piece by piece, so that a bomb costs its cap at most.

mod compress;
mod inflate;
mod varint;

pub use compress::compress;
pub use inflate::{Inflater, decompress};
pub(crate) use varint::{put_varint, put_varlong, varlong_bytes};

/// How the records of a batch are compressed: bits 0 to 2 of its attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952, one or more members.
    Gzip,
    /// Snappy: blocks in xerial framing, or one bare block (both exist in the wild).
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// Zstandard, window of at most 8 MiB.
    Zstd,
}

/// Why compressed bytes cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InflateError {
    /// They expand beyond what is allowed: a bomb, or a batch larger than this server takes.
    #[error("expands to more than {bytes_max} bytes")]
    TooLarge {
        /// The bound that was hit, in bytes.
        bytes_max: usize,
    },
    /// They are not what their codec says, or end early.
    #[error("damaged {codec} data: {what}")]
    Damaged {
        /// Kafka's name of the codec.
        codec: &'static str,
        /// What the decoder said.
        what: String,
    },
}

impl Codec {
    /// The codec of a batch's attributes; `None` for the numbers that Kafka never assigned.
    #[must_use]
    pub const fn of_attributes(attributes: i16) -> Option<Self> {
        match attributes & 0b111 {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The number in a batch's attributes.
    #[must_use]
    pub const fn bits(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Kafka's name for it, as in the topic setting `compression.type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec with Kafka's name `name`; `none` is understood too. `producer` is not a codec.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "none" | "uncompressed" => Self::None,
            "gzip" => Self::Gzip,
            "snappy" => Self::Snappy,
            "lz4" => Self::Lz4,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }
}

/// The most that `input_bytes` may expand to under a cap of `bytes_max`: up to
/// [`OUTPUT_FREE_BYTES`] any ratio, beyond it [`OUTPUT_RATIO_MAX`] (reliability.md 4.2).
#[must_use]
pub fn output_bytes_max(input_bytes: usize, bytes_max: usize) -> usize {
    bytes_max.min(OUTPUT_FREE_BYTES.max(input_bytes.saturating_mul(OUTPUT_RATIO_MAX)))
}

/// Output of any ratio below this is no bomb.
pub const OUTPUT_FREE_BYTES: usize = 1 << 20;
/// Above [`OUTPUT_FREE_BYTES`], bytes of output for a byte of input at most.
pub const OUTPUT_RATIO_MAX: usize = 1000;
/// What a batch may expand to wherever no topic's setting says less.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;
/// The eight bytes before xerial's two version numbers.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Bytes of xerial's header: magic, version, oldest compatible version.
const XERIAL_HEADER_BYTES: usize = 16;

#[cfg(test)]
mod tests;
