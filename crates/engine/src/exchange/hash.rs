//! Destinations chosen by a hash: stable over restarts, the same on every machine.

use std::collections::BTreeMap;

use super::{BindingFault, Destination, HashOn, Publication};
use crate::value::Value;

/// The ring of a consistent hash exchange: each destination holds as many buckets as its weight.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// In the order they were bound; the first binding of a destination counts, as in RabbitMQ.
    bound: Vec<(Destination, Box<str>)>,
    buckets: Vec<Destination>,
}

impl Ring {
    pub(super) fn insert(&mut self, destination: Destination, key: &str) {
        self.bound.push((destination, key.into()));
        self.rebuild();
    }

    pub(super) fn remove(&mut self, destination: &Destination, key: &str) {
        self.bound.retain(|(to, with)| !(to == destination && **with == *key));
        self.rebuild();
    }

    pub(super) fn pick(&self, hash: u64) -> Option<&Destination> {
        self.buckets.get(jump(hash, self.buckets.len()))
    }

    fn rebuild(&mut self) {
        let mut weights = BTreeMap::new();
        self.buckets.clear();
        for (destination, key) in &self.bound {
            if weights.insert(destination, ()).is_none() {
                let weight = weight(key).unwrap_or(1);
                self.buckets.extend((0..weight).map(|_| destination.clone()));
            }
        }
    }
}

/// The weight in a binding key: 1 to [`WEIGHT_MAX`].
pub(super) fn weight(key: &str) -> Result<u32, BindingFault> {
    match key.parse() {
        Ok(weight) if (1..=WEIGHT_MAX).contains(&weight) => Ok(weight),
        _ => Err(BindingFault::Weight(key.into())),
    }
}

/// What `x-consistent-hash` hashes of a message; a missing header or property hashes as empty.
pub(super) fn consistent(on: &HashOn, publication: &Publication<'_>, key: &str) -> u64 {
    match on {
        HashOn::RoutingKey => fnv(key.as_bytes()),
        HashOn::Header(name) => match publication.headers.get(name) {
            Some(Value::LongString(octets) | Value::Bytes(octets)) => fnv(octets),
            Some(value) => fnv(value.to_string().as_bytes()),
            None => fnv(b""),
        },
        HashOn::MessageId => fnv(publication.message_id.unwrap_or_default().as_bytes()),
        HashOn::CorrelationId => fnv(publication.correlation_id.unwrap_or_default().as_bytes()),
        HashOn::Timestamp => fnv(&publication.timestamp.unwrap_or_default().to_be_bytes()),
    }
}

/// The hash of all keys of a message, for `x-modulus-hash`.
pub(super) fn of_keys(keys: &[&str]) -> u64 {
    keys.iter().fold(FNV_BASIS, |hash, key| fnv_more(fnv_more(hash, key.as_bytes()), &[0]))
}

/// The place `hash` falls on among `len`; 0 for none.
pub(super) fn modulo(hash: u64, len: usize) -> usize {
    let len = u64::try_from(len).unwrap_or(u64::MAX).max(1);
    usize::try_from(mix(hash) % len).unwrap_or(0)
}

/// Jump consistent hash (Lamping and Veach, 2014): adding a bucket moves only what falls on it.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the published algorithm; the ring is far below 2^53"
)]
fn jump(hash: u64, buckets: usize) -> usize {
    let (mut key, mut bucket, mut next) = (mix(hash), 0u64, 0u64);
    while next < u64::try_from(buckets).unwrap_or(u64::MAX) {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let step = (1u64 << 31) as f64 / ((key >> 33) + 1) as f64;
        next = ((bucket + 1) as f64 * step) as u64;
    }
    usize::try_from(bucket).unwrap_or(0)
}

fn fnv(octets: &[u8]) -> u64 {
    fnv_more(FNV_BASIS, octets)
}

fn fnv_more(hash: u64, octets: &[u8]) -> u64 {
    octets.iter().fold(hash, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(0x100_0000_01b3))
}

/// FNV's high bits are poor for short keys; this spreads them (the finaliser of splitmix64).
const fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
/// More buckets for one destination are refused.
const WEIGHT_MAX: u32 = 10_000;
