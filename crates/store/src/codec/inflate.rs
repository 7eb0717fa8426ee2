//! Decompression, piece by piece, never beyond a cap.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;

use super::{Codec, InflateError, XERIAL_HEADER_BYTES, XERIAL_MAGIC, output_bytes_max};

/// Gives the plain bytes of compressed ones in pieces.
///
/// Invariant: the pieces given so far sum up to at most `bytes_max`.
pub struct Inflater<'a> {
    codec: Codec,
    inner: Inner<'a>,
    piece: Vec<u8>,
    given: usize,
    bytes_max: usize,
}

enum Inner<'a> {
    Plain(&'a [u8]),
    Gzip(Box<flate2::bufread::MultiGzDecoder<&'a [u8]>>),
    Snappy(Snappy<'a>),
    Lz4(Box<lz4_flex::frame::FrameDecoder<&'a [u8]>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, &'a [u8]>>),
}

/// Raw blocks: one bare, or many with a length before each.
struct Snappy<'a> {
    rest: &'a [u8],
    framed: bool,
}

impl<'a> Inflater<'a> {
    /// Starts on `input`, which may expand to [`output_bytes_max`] of `bytes_max`.
    pub fn new(codec: Codec, input: &'a [u8], bytes_max: usize) -> Result<Self, InflateError> {
        let bytes_max = match codec {
            Codec::None => bytes_max,
            _ => output_bytes_max(input.len(), bytes_max),
        };
        let inner = match codec {
            Codec::None => Inner::Plain(input),
            Codec::Gzip => Inner::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            Codec::Snappy => Inner::Snappy(Snappy::new(input)?),
            Codec::Lz4 => Inner::Lz4(Box::new(lz4_flex::frame::FrameDecoder::new(input))),
            Codec::Zstd => Inner::Zstd(Box::new(zstd_decoder(input)?)),
        };
        Ok(Self { codec, inner, piece: Vec::new(), given: 0, bytes_max })
    }

    /// The next piece; empty at the end. After an error, nothing more can be had.
    pub fn next_piece(&mut self) -> Result<&[u8], InflateError> {
        let room = self.bytes_max - self.given;
        match &mut self.inner {
            Inner::Plain(rest) => {
                let rest = std::mem::take(rest);
                if rest.len() > room {
                    return Err(InflateError::TooLarge { bytes_max: self.bytes_max });
                }
                self.given += rest.len();
                return Ok(rest);
            }
            Inner::Snappy(blocks) => {
                blocks.next_block(room, self.bytes_max, &mut self.piece)?;
            }
            Inner::Gzip(decoder) => read_piece(self.codec, decoder, &mut self.piece)?,
            Inner::Lz4(decoder) => read_piece(self.codec, decoder, &mut self.piece)?,
            Inner::Zstd(decoder) => read_piece(self.codec, decoder, &mut self.piece)?,
        }
        if self.piece.len() > room {
            return Err(InflateError::TooLarge { bytes_max: self.bytes_max });
        }
        self.given += self.piece.len();
        Ok(&self.piece)
    }
}

/// All plain bytes of `input`, borrowed if they were not compressed.
pub fn decompress(
    codec: Codec,
    input: &[u8],
    bytes_max: usize,
) -> Result<Cow<'_, [u8]>, InflateError> {
    if codec == Codec::None {
        return Ok(Cow::Borrowed(input));
    }
    let mut inflater = Inflater::new(codec, input, bytes_max)?;
    let mut output = Vec::new();
    loop {
        let piece = inflater.next_piece()?;
        if piece.is_empty() {
            return Ok(Cow::Owned(output));
        }
        output.extend_from_slice(piece);
    }
}

impl<'a> Snappy<'a> {
    fn new(input: &'a [u8]) -> Result<Self, InflateError> {
        if !input.starts_with(&XERIAL_MAGIC) {
            return Ok(Self { rest: input, framed: false });
        }
        let rest = input.get(XERIAL_HEADER_BYTES..).ok_or_else(|| snappy(&"header cut short"))?;
        Ok(Self { rest, framed: true })
    }

    fn next_block(
        &mut self,
        room: usize,
        bytes_max: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), InflateError> {
        into.clear();
        // A block may be empty, but an empty piece means the end.
        while into.is_empty() && !self.rest.is_empty() {
            let block = self.take_block()?;
            let length = snap::raw::decompress_len(block).map_err(|error| snappy(&error))?;
            // No snappy element yields more than 64 bytes for 2: a length beyond that is a lie.
            if length > room || length > block.len().saturating_mul(64) {
                return Err(InflateError::TooLarge { bytes_max });
            }
            into.resize(length, 0);
            snap::raw::Decoder::new().decompress(block, into).map_err(|error| snappy(&error))?;
        }
        Ok(())
    }

    fn take_block(&mut self) -> Result<&'a [u8], InflateError> {
        if !self.framed {
            return Ok(std::mem::take(&mut self.rest));
        }
        let cut = || snappy(&"block cut short");
        let (length, rest) = self.rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| cut())?;
        let (block, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        self.rest = rest;
        Ok(block)
    }
}

impl fmt::Debug for Inflater<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater")
            .field("codec", &self.codec)
            .field("given", &self.given)
            .field("bytes_max", &self.bytes_max)
            .finish_non_exhaustive()
    }
}

fn zstd_decoder(input: &[u8]) -> Result<zstd::stream::read::Decoder<'static, &[u8]>, InflateError> {
    let damaged = |error: std::io::Error| damaged(Codec::Zstd, &error);
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(damaged)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(damaged)?;
    Ok(decoder)
}

fn read_piece(
    codec: Codec,
    decoder: &mut dyn Read,
    piece: &mut Vec<u8>,
) -> Result<(), InflateError> {
    piece.resize(PIECE_BYTES, 0);
    let mut filled = 0;
    while let Some(free) = piece.get_mut(filled..)
        && !free.is_empty()
    {
        match decoder.read(free).map_err(|error| damaged(codec, &error))? {
            0 => break,
            read => filled += read,
        }
    }
    piece.truncate(filled);
    Ok(())
}

fn snappy(what: &dyn fmt::Display) -> InflateError {
    damaged(Codec::Snappy, what)
}

fn damaged(codec: Codec, what: &dyn fmt::Display) -> InflateError {
    InflateError::Damaged { codec: codec.name(), what: what.to_string() }
}

/// Bytes of a piece.
const PIECE_BYTES: usize = 32 << 10;
/// 8 MiB: the largest window that the format asks every decoder to support.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
