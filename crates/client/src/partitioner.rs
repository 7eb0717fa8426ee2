//! Which partition a key belongs to, as Kafka's Java client decides it.

/// The partition of `key` among `partitions`: murmur2 of the key, positive, modulo the count.
#[must_use]
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    let positive = murmur2(key) & 0x7fff_ffff;
    let count = u32::try_from(partitions.max(1)).unwrap_or(1);
    i32::try_from(positive % count).unwrap_or(0)
}

/// Austin Appleby's MurmurHash2 with Kafka's seed.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let seed = 0x9747_b28c_u32;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = seed ^ length;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = word.iter().rev().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte));
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        k = k.wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        hash ^= tail.iter().rev().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_kafkas_java_client() {
        // the values of its own unit test
        let signed = |key: &[u8]| murmur2(key).cast_signed();
        assert_eq!(signed(b"21"), -973_932_308);
        assert_eq!(signed(b"foobar"), -790_332_482);
        assert_eq!(signed(b"a-little-bit-long-string"), -985_981_536);
        assert_eq!(signed(b"a-little-bit-longer-string"), -1_486_304_829);
    }
}
