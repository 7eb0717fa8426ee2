//! Compression, as Kafka's own producer frames it.

use std::io::Write;

use flate2::Compression;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::{Codec, XERIAL_MAGIC};

/// `input` compressed with `codec` at its usual level.
///
/// # Panics
/// Never for input below 4 GiB: all output goes to memory.
#[must_use]
pub fn compress(codec: Codec, input: &[u8]) -> Vec<u8> {
    match codec {
        Codec::None => input.to_vec(),
        Codec::Gzip => gzip(input),
        Codec::Snappy => xerial(input),
        Codec::Lz4 => lz4(input),
        Codec::Zstd => zstd(input),
    }
}

#[expect(clippy::expect_used, reason = "writing to memory cannot fail")]
fn gzip(input: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(input).expect("gzip to memory");
    encoder.finish().expect("gzip to memory")
}

#[expect(clippy::expect_used, reason = "writing to memory cannot fail")]
fn lz4(input: &[u8]) -> Vec<u8> {
    // Java's reader takes independent blocks only.
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(input).expect("lz4 to memory");
    encoder.finish().expect("lz4 to memory")
}

#[expect(clippy::expect_used, reason = "compressing memory to memory cannot fail")]
fn zstd(input: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(input, zstd::DEFAULT_COMPRESSION_LEVEL).expect("zstd to memory")
}

#[expect(clippy::expect_used, reason = "a block of 32 KiB always fits")]
fn xerial(input: &[u8]) -> Vec<u8> {
    let mut output = Vec::with_capacity(input.len() / 2 + 64);
    output.extend_from_slice(&XERIAL_MAGIC);
    output.extend_from_slice(&1_i32.to_be_bytes());
    output.extend_from_slice(&1_i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(XERIAL_BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block).expect("a small block");
        let length = u32::try_from(compressed.len()).expect("a small block");
        output.extend_from_slice(&length.to_be_bytes());
        output.extend_from_slice(&compressed);
    }
    output
}

/// Bytes of a block before compression, as snappy-java cuts them.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
