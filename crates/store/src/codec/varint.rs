//! Kafka's zigzag varints, written.

/// Appends `value` as a zigzag varint of at most 5 bytes.
pub(crate) fn put_varint(into: &mut Vec<u8>, value: i32) {
    put_varlong(into, i64::from(value));
}

/// Appends `value` as a zigzag varlong of at most 10 bytes.
pub(crate) fn put_varlong(into: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        into.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    into.push(rest.to_le_bytes()[0]);
}

/// How many bytes `put_varlong` takes for `value`.
pub(crate) const fn varlong_bytes(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zigzag_golden_bytes_and_their_lengths() {
        for (value, bytes) in [
            (0, &[0_u8][..]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[126]),
            (-64, &[127]),
            (64, &[128, 1]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ] {
            let mut into = Vec::new();
            put_varlong(&mut into, value);
            assert_eq!(into, bytes, "{value}");
            assert_eq!(varlong_bytes(value), bytes.len(), "{value}");
        }
    }
}
