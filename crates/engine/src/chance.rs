//! Chance as an argument: identifiers drawn from a seed, so that a simulation can replay them.

/// A seeded generator (SplitMix64). Not for secrets.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// The same seed gives the same draws.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A random UUID (RFC 9562 version 4), as 16 bytes. None that [`base64_id`] begins with `-`: as in Kafka, ids are
    /// given to command lines, which would take it for an option.
    pub fn uuid(&mut self) -> [u8; 16] {
        const DASH: u128 = 62;
        let bits = loop {
            let bits = (u128::from(self.bits()) << 64) | u128::from(self.bits());
            if bits >> 122 != DASH {
                break bits;
            }
        };
        let version = (bits & !(0xf << 76)) | (0x4 << 76);
        let variant = (version & !(0x3 << 62)) | (0x2 << 62);
        variant.to_be_bytes()
    }
}

/// 16 bytes as Kafka prints ids: 22 characters of URL-safe base64 without padding.
#[must_use]
pub fn base64_id(id: [u8; 16]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = u128::from_be_bytes(id);
    let digit = |shift: u32, mask: u128, up: u32| -> char {
        let index = usize::try_from(((bits >> shift) & mask) << up).unwrap_or(0);
        DIGITS.get(index).map_or('A', |digit| char::from(*digit))
    };
    let mut text: String = (0..21).map(|place| digit(122 - 6 * place, 0x3f, 0)).collect();
    text.push(digit(0, 0x3, 4));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_says_its_version_and_variant() {
        let id = Chance::new(1).uuid();
        assert_eq!((id[6] >> 4, id[8] >> 6), (4, 2));
    }

    #[test]
    fn no_id_is_taken_for_an_option() {
        let mut chance = Chance::new(2);
        assert!((0..1000).all(|_| !base64_id(chance.uuid()).starts_with('-')));
    }

    #[test]
    fn ids_print_as_kafka_prints_them() {
        assert_eq!(base64_id([0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(base64_id([0xff; 16]), "_____________________w");
    }
}
