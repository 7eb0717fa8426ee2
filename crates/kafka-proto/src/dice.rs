//! Random values for tests: a [`Reader`](crate::reader::Reader) with dice reads a random message instead of a frame, so every
//! message of every version has a generator without a line of its own.

use bytes::Bytes;

use crate::reader::Reader;

/// A small deterministic generator (xorshift64*).
#[derive(Debug)]
pub(crate) struct Dice {
    state: u64,
    /// Items and bytes still to be given, so that a message ends.
    left: usize,
}

impl Dice {
    pub(crate) fn reader(seed: u64, flexible: bool) -> Reader {
        let mut reader = Reader::new(Bytes::new(), 0);
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        reader.dice = Some(Self { state, left: 200 });
        reader.set_flexible(flexible);
        reader
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, end: u32) -> u32 {
        u32::try_from((self.next() >> 33) % u64::from(end)).unwrap()
    }

    /// Often all zeros or all ones, because those are the defaults.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        match self.below(4) {
            0 => [0; N],
            1 => [0xff; N],
            _ => {
                let mut bytes = [0; N];
                bytes.fill_with(|| self.next().to_be_bytes()[0]);
                bytes[0] &= 0x3f; // keeps floats finite: NaN is not equal to itself
                bytes
            }
        }
    }

    pub(crate) fn length(&mut self, nullable: bool) -> Option<usize> {
        if nullable && self.below(3) == 0 {
            return None;
        }
        let long = if self.below(20) == 0 { 150 } else { 4 }; // over 127 a varint takes two bytes
        let length = (self.below(long) as usize).min(self.left);
        self.left -= length;
        Some(length)
    }

    pub(crate) fn text(&mut self, len: usize) -> Bytes {
        (0..len).map(|_| b'a' + u8::try_from(self.below(26)).unwrap()).collect::<Vec<_>>().into()
    }
}
