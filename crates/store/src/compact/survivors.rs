//! Which records are the last of their key: one bit for each record, found with a bounded map.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::{CompactInput, CompactRules, Pace, damaged, open};
use crate::disk::Disk;
use crate::files::FileError;
use crate::segment::Scan;

/// A bit for each record of the inputs, in their order.
#[derive(Debug, Default)]
pub(super) struct Survivors {
    bits: Vec<u64>,
}

/// Half of a SHA-256: keys are told apart by it, so it must not be forgeable.
type KeyDigest = [u8; 16];

impl Survivors {
    /// Walks the inputs once, or once for each slice of the keys if the map would grow too large.
    pub(super) fn find(
        disk: &dyn Disk,
        inputs: &[CompactInput],
        rules: &CompactRules<'_>,
    ) -> Result<Self, FileError> {
        let entries_max = (rules.map_bytes_max / ENTRY_BYTES).max(1);
        let mut slices = 1_u32;
        loop {
            if let Some(found) = Self::in_slices(disk, inputs, rules, slices, entries_max)? {
                return Ok(found);
            }
            slices = slices.saturating_mul(2);
        }
    }

    pub(super) fn contains(&self, ordinal: u64) -> bool {
        let (word, bit) = place(ordinal);
        self.bits.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// `None` if a slice has more keys than the map may hold.
    fn in_slices(
        disk: &dyn Disk,
        inputs: &[CompactInput],
        rules: &CompactRules<'_>,
        slices: u32,
        entries_max: usize,
    ) -> Result<Option<Self>, FileError> {
        // At SLICES_MAX the map may grow: an end to the passes matters more than the last byte.
        let entries_max = if slices >= SLICES_MAX { usize::MAX } else { entries_max };
        let mut survivors = Self::default();
        for slice in 0..slices {
            let wanted = |digest: &KeyDigest| slice_of(digest, slices) == slice;
            if !survivors.walk(disk, inputs, rules, &wanted, entries_max)? {
                return Ok(None);
            }
        }
        Ok(Some(survivors))
    }

    fn walk(
        &mut self,
        disk: &dyn Disk,
        inputs: &[CompactInput],
        rules: &CompactRules<'_>,
        wanted: &dyn Fn(&KeyDigest) -> bool,
        entries_max: usize,
    ) -> Result<bool, FileError> {
        let mut last: HashMap<KeyDigest, u64> = HashMap::new();
        let mut ordinal = 0;
        let mut pace = Pace::default();
        for input in inputs {
            let mut scan = Scan::open(disk, &input.path, &input.meta)?;
            while let Some(found) = scan.next_batch()? {
                let ignored = found.header.is_control() || (rules.aborted)(&found.header);
                for record in &open(&found, &input.path)? {
                    let record = record.map_err(|error| damaged(&found, &input.path, &error))?;
                    // A record without a key has no place in a compacted topic.
                    let digest = record.key.filter(|_| !ignored).map(digest);
                    if let Some(digest) = digest.filter(wanted) {
                        self.set(ordinal, last.insert(digest, ordinal));
                    }
                    ordinal += 1;
                }
                if last.len() > entries_max {
                    return Ok(false);
                }
                if pace.is_due(found.batch.len()) {
                    Pace::rest(rules, &input.path)?;
                }
            }
        }
        Ok(true)
    }

    fn set(&mut self, ordinal: u64, instead_of: Option<u64>) {
        let (word, bit) = place(ordinal);
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        if let Some(bits) = self.bits.get_mut(word) {
            *bits |= bit;
        }
        if let Some((word, bit)) = instead_of.map(place)
            && let Some(bits) = self.bits.get_mut(word)
        {
            *bits &= !bit;
        }
    }
}

fn digest(key: &[u8]) -> KeyDigest {
    let whole: [u8; 32] = Sha256::digest(key).into();
    whole.first_chunk().copied().unwrap_or_default()
}

fn slice_of(digest: &KeyDigest, slices: u32) -> u32 {
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]) % slices
}

fn place(ordinal: u64) -> (usize, u64) {
    (usize::try_from(ordinal / 64).unwrap_or(usize::MAX), 1 << (ordinal % 64))
}

/// Bytes of the map for one key, with the slack of a hash table.
const ENTRY_BYTES: usize = 48;
/// Passes over the inputs at most.
const SLICES_MAX: u32 = 64;
