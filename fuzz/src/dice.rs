//! Chance that can be repeated, and what it does to bytes.

/// A sequence of numbers that depends on its seed alone (splitmix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64, number: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.next() % bound as u64) as usize }
    }

    pub fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    /// One of the seeds with a few changes; now and then unchanged, now and then nothing but chance.
    pub fn mutated(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..self.below(9) {
            self.change(&mut bytes, seeds);
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(bytes.len());
        let span = 1 + self.below(16).min(self.below(bytes.len() + 1));
        match self.below(10) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (self.next() % 8);
                }
            }
            1 => {
                let value = self.byte();
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            2 | 3 => {
                let value = NUMBERS[self.below(NUMBERS.len())].to_be_bytes();
                let width = [1, 2, 4, 8][self.below(4)];
                for (offset, byte) in value[8 - width..].iter().enumerate() {
                    if let Some(place) = bytes.get_mut(at + offset) {
                        *place = *byte;
                    }
                }
            }
            4 => {
                for _ in 0..span {
                    let value = self.byte();
                    bytes.insert(at.min(bytes.len()), value);
                }
            }
            5 => drop(bytes.drain(at..(at + span).min(bytes.len()))),
            6 => {
                let piece = bytes[at..(at + span).min(bytes.len())].to_vec();
                let to = self.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            7 => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len());
                let piece = &other[from..(from + 64).min(other.len())];
                bytes.splice(at..(at + span).min(bytes.len()), piece.iter().copied());
            }
            8 => bytes.truncate(at),
            _ => {
                for byte in bytes.iter_mut().skip(at).take(span) {
                    *byte = 0xff;
                }
            }
        }
    }
}

/// Numbers at which lengths and counts go wrong.
const NUMBERS: [i64; 16] = [
    0,
    1,
    -1,
    -2,
    127,
    128,
    255,
    256,
    32_767,
    65_535,
    i32::MAX as i64,
    i32::MIN as i64,
    i64::MAX,
    i64::MIN,
    1 << 20,
    1 << 40,
];
const BYTES_MAX: usize = 8 << 20;
