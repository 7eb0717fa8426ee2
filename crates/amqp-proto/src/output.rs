//! Bytes on their way to the socket: small things copied together, large bodies passed along.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Bodies from here on are spliced into the output instead of being copied, in bytes.
pub const SPLICE_MIN: usize = 4096;

/// What a connection has to write, in order. The driver writes it as one [`Buf`] (with `writev` where
/// the socket can) and decides by [`Buf::remaining`] when to stop handing out more work.
///
/// Invariant: everything in `pieces` goes before `tail`, and no piece is empty.
#[derive(Debug, Default)]
pub struct Output {
    pieces: VecDeque<Bytes>,
    pieces_len: usize,
    tail: BytesMut,
}

impl Output {
    /// Nothing to write yet; owns no memory until something is written.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether everything was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.tail.is_empty()
    }

    /// The buffer to append to.
    pub(crate) const fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends `bytes` without copying them, if they are large enough for that to pay.
    pub(crate) fn splice(&mut self, bytes: Bytes) {
        if bytes.len() < SPLICE_MIN {
            self.tail.extend_from_slice(&bytes);
            return;
        }
        if !self.tail.is_empty() {
            let piece = self.tail.split().freeze();
            self.push(piece);
        }
        self.push(bytes);
    }

    fn push(&mut self, piece: Bytes) {
        self.pieces_len += piece.len();
        self.pieces.push_back(piece);
    }

    /// Gives back memory that an idle connection should not own.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.pieces_len + self.tail.len()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&self.tail, |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = Some(&self.tail[..]).filter(|tail| !tail.is_empty());
        let chunks = self.pieces.iter().map(|piece| &piece[..]).chain(tail);
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut written: usize) {
        assert!(written <= self.remaining(), "more was written than there was");
        while let Some(piece) = self.pieces.front_mut() {
            if written < piece.len() {
                piece.advance(written);
                self.pieces_len -= written;
                return;
            }
            written -= piece.len();
            self.pieces_len -= piece.len();
            self.pieces.pop_front();
        }
        self.tail.advance(written);
        if self.tail.is_empty() {
            self.tail.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_pieces_come_out_in_the_order_they_went_in_however_they_are_taken() {
        for step in [1, 7, 4096, 5000, 100_000] {
            let mut out = Output::new();
            let mut expected = Vec::new();
            for (n, len) in [3usize, 5000, 10, 4095, 4096, 20_000, 1].into_iter().enumerate() {
                let bytes = Bytes::from(vec![u8::try_from(n).unwrap(); len]);
                expected.extend_from_slice(&bytes);
                out.splice(bytes);
            }
            let mut taken = Vec::new();
            while out.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 3];
                let filled = out.chunks_vectored(&mut slices);
                let seen: Vec<u8> = slices[..filled].iter().flat_map(|s| s.to_vec()).collect();
                let written = step.min(seen.len());
                taken.extend_from_slice(&seen[..written]);
                out.advance(written);
                assert_eq!(out.remaining(), expected.len() - taken.len());
            }
            assert_eq!(taken, expected);
            assert!(out.is_empty());
        }
    }
}
