//! Messages that wait for their time: where each stands in the log and when it is due, a few bytes each.
//!
//! Places ascend as messages come, and stand in chunks, packed as differences. Only what is due within the next
//! minute, and no more than a bound of it, is unpacked and in order. A snapshot takes the chunks as they
//! are, and a start takes them back without looking into them (store.md rule 21).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Wall;

/// The messages of one waiting room, by place.
///
/// Invariant: chunks ascend and do not overlap; a place is in `near` or in a chunk, never in both; what is in
/// `soon` is in `near`.
#[derive(Debug)]
pub(super) struct Delayed {
    chunks: Vec<Chunk>,
    /// The newest places, not packed yet.
    open: Vec<(u64, i64)>,
    /// No chunk and nothing open is due before this.
    far_min: i64,
    /// Unpacked: when each is due. Also what was handed out and has not gone yet.
    near: HashMap<u64, i64>,
    /// By time: what was not handed out yet.
    soon: BTreeSet<(i64, u64)>,
    /// What is due before this is unpacked as it comes, while there is room.
    horizon: i64,
    newest: u64,
    len: usize,
}

/// Up to [`CHUNK`] messages.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chunk {
    head: ChunkHead,
    packed: Arc<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ChunkHead {
    first: u64,
    last: u64,
    /// The earliest time in it.
    due: i64,
    count: u32,
    bytes: u32,
}

/// A part of a waiting room in a snapshot: heads, then their packed bytes one after the other.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Part {
    heads: Vec<ChunkHead>,
    near: Vec<(u64, i64)>,
}

impl Default for Delayed {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            open: Vec::new(),
            far_min: i64::MAX,
            near: HashMap::new(),
            soon: BTreeSet::new(),
            horizon: i64::MIN,
            newest: 0,
            len: 0,
        }
    }
}

impl Delayed {
    /// A message at `place`, behind all others, that is due at `due`.
    pub(super) fn push(&mut self, place: u64, due: Wall) {
        assert!(place > self.newest, "places ascend");
        self.newest = place;
        self.len += 1;
        if due.0 < self.horizon && self.near.len() < NEAR_MAX {
            self.near.insert(place, due.0);
            self.soon.insert((due.0, place));
            return;
        }
        self.far_min = self.far_min.min(due.0);
        self.open.push((place, due.0));
        if self.open.len() >= CHUNK {
            self.chunks.push(Chunk::pack(&self.open));
            self.open.clear();
        }
    }

    /// How many wait.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether the message at `place` waits, or was handed out and has not gone.
    pub(super) fn holds(&self, place: u64) -> bool {
        self.near.contains_key(&place)
            || self.open.binary_search_by_key(&place, |(place, _)| *place).is_ok()
            || self.chunk(place).is_some_and(|index| {
                let chunk = self.chunks.get(index);
                chunk.is_some_and(|chunk| chunk.entries().any(|(known, _)| known == place))
            })
    }

    /// When to look again; `None` if nothing waits.
    pub(super) fn deadline(&self) -> Option<Wall> {
        let soon = self.soon.first().map_or(i64::MAX, |(due, _)| *due);
        let next = soon.min(self.far_min);
        (next < i64::MAX).then_some(Wall(next))
    }

    /// Hands out at most `max` places whose time has come. They stay until they are
    /// [removed](Self::remove), or come [again](Self::again).
    pub(super) fn take_due(&mut self, now: Wall, max: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        while taken.len() < max {
            let soon = self.soon.first().map_or(i64::MAX, |(due, _)| *due);
            if self.far_min <= now.0 && self.far_min < soon && self.near.len() < NEAR_MAX {
                self.unpack();
                continue;
            }
            if soon > now.0 {
                break;
            }
            taken.extend(self.soon.pop_first().map(|(_, place)| place));
        }
        taken
    }

    /// What was handed out is handed out again later.
    pub(super) fn again(&mut self, place: u64) {
        if let Some(due) = self.near.get(&place) {
            self.soon.insert((*due, place));
        }
    }

    /// The message is gone, or was called off. False if it was not there.
    pub(super) fn remove(&mut self, place: u64) -> bool {
        let there = match self.near.remove(&place) {
            Some(due) => {
                self.soon.remove(&(due, place));
                true
            }
            None => self.remove_far(place),
        };
        self.len -= usize::from(there);
        if self.len == 0 {
            self.far_min = i64::MAX;
        }
        there
    }

    /// Places and times of at most `max` messages behind `after`, by place.
    pub(super) fn list(&self, after: u64, max: usize) -> Vec<(u64, Wall)> {
        let near = self.near.iter().map(|(place, due)| (*place, *due));
        let mut near: Vec<(u64, i64)> = near.filter(|(place, _)| *place > after).collect();
        near.sort_unstable();
        near.truncate(max);
        let behind = self.chunks.partition_point(|chunk| chunk.head.last <= after);
        let packed = self.chunks.iter().skip(behind).flat_map(Chunk::entries);
        let far = packed.chain(self.open.iter().copied()).filter(|(place, _)| *place > after);
        let mut found: Vec<(u64, i64)> = near.into_iter().chain(far.take(max)).collect();
        found.sort_unstable();
        found.truncate(max);
        found.into_iter().map(|(place, due)| (place, Wall(due))).collect()
    }

    /// What a snapshot must remember, in pieces of bounded size. Cheap: chunks are shared.
    pub(super) fn parts(&self) -> Vec<DelayedPart> {
        let mut near: Vec<(u64, i64)> =
            self.near.iter().map(|(place, due)| (*place, *due)).chain(self.open.clone()).collect();
        near.sort_unstable();
        let mut parts = vec![DelayedPart { near, chunks: Vec::new() }];
        for chunks in self.chunks.chunks(PART_CHUNKS) {
            parts.push(DelayedPart { near: Vec::new(), chunks: chunks.to_vec() });
        }
        parts
    }

    /// Takes back a piece of a snapshot. An error for what is none.
    pub(super) fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        let (part, mut rest): (Part, &[u8]) =
            postcard::take_from_bytes(bytes).map_err(|error| error.to_string())?;
        for head in part.heads {
            let length = usize::try_from(head.bytes).unwrap_or(usize::MAX);
            let (packed, tail) = rest.split_at_checked(length).ok_or("a chunk is cut short")?;
            rest = tail;
            self.len += usize::try_from(head.count).unwrap_or(0);
            self.far_min = self.far_min.min(head.due);
            self.newest = self.newest.max(head.last);
            self.chunks.push(Chunk { head, packed: packed.into() });
        }
        self.chunks.sort_by_key(|chunk| chunk.head.first);
        for (place, due) in part.near {
            self.len += 1;
            self.newest = self.newest.max(place);
            self.near.insert(place, due);
            self.soon.insert((due, place));
        }
        Ok(())
    }

    /// Bytes that the packed messages take, for the curious.
    #[cfg(test)]
    fn packed_bytes(&self) -> usize {
        let chunk = |chunk: &Chunk| chunk.packed.len() + size_of::<Chunk>();
        self.chunks.iter().map(chunk).sum()
    }

    /// Unpacks what is due next: a minute of it, or as much as there is room for.
    fn unpack(&mut self) {
        let from = self.far_min;
        let mut seconds = [0_usize; WINDOW_SECONDS];
        let until = from.saturating_add(WINDOW_MS);
        let window = |chunk: &&Chunk| chunk.head.due < until;
        let entries = self.chunks.iter().filter(window).flat_map(Chunk::entries);
        for (_, due) in entries.chain(self.open.iter().copied()) {
            let second = usize::try_from(due.saturating_sub(from) / 1000).unwrap_or(0);
            if let Some(count) = seconds.get_mut(second) {
                *count += 1;
            }
        }
        let mut room = NEAR_MAX.saturating_sub(self.near.len());
        let mut fits = 0_i64;
        let mut sum = 0;
        for count in seconds {
            sum += count;
            if sum > room && fits > 0 {
                break;
            }
            fits += 1;
        }
        let horizon = from.saturating_add(fits * 1000);
        let mut far_min = i64::MAX;
        let mut near = Vec::new();
        let mut split = |entries: Vec<(u64, i64)>| -> Vec<(u64, i64)> {
            let (soon, far) = entries.into_iter().partition::<Vec<_>, _>(|(_, due)| {
                let soon = *due < horizon && room > 0;
                room -= usize::from(soon);
                soon
            });
            near.extend(soon);
            far
        };
        for chunk in &mut self.chunks {
            if chunk.head.due < horizon {
                let far = split(chunk.entries().collect());
                *chunk = Chunk::pack(&far);
            }
            far_min = far_min.min(chunk.head.due);
        }
        self.open = split(std::mem::take(&mut self.open));
        self.chunks.retain(|chunk| chunk.head.count > 0);
        let open = self.open.iter().map(|(_, due)| *due).min();
        self.far_min = far_min.min(open.unwrap_or(i64::MAX));
        self.horizon = horizon;
        for (place, due) in near {
            self.near.insert(place, due);
            self.soon.insert((due, place));
        }
    }

    fn remove_far(&mut self, place: u64) -> bool {
        if let Ok(index) = self.open.binary_search_by_key(&place, |(place, _)| *place) {
            self.open.remove(index);
            return true;
        }
        let Some(index) = self.chunk(place) else { return false };
        let Some(chunk) = self.chunks.get_mut(index) else { return false };
        let left: Vec<(u64, i64)> = chunk.entries().filter(|(known, _)| *known != place).collect();
        let there = left.len() < usize::try_from(chunk.head.count).unwrap_or(0);
        if there {
            *chunk = Chunk::pack(&left);
            if left.is_empty() {
                self.chunks.remove(index);
            }
        }
        there
    }

    /// The chunk that may hold `place`.
    fn chunk(&self, place: u64) -> Option<usize> {
        let index = self.chunks.partition_point(|chunk| chunk.head.last < place);
        self.chunks.get(index).filter(|chunk| chunk.head.first <= place).map(|_| index)
    }
}

impl Chunk {
    /// `entries` ascend by place.
    fn pack(entries: &[(u64, i64)]) -> Self {
        let first = entries.first().map_or(0, |(place, _)| *place);
        let last = entries.last().map_or(0, |(place, _)| *place);
        let due = entries.iter().map(|(_, due)| *due).min().unwrap_or(i64::MAX);
        let mut packed = Vec::with_capacity(entries.len() * 6);
        let mut before = first;
        for (place, at) in entries {
            put(&mut packed, place - before);
            put(&mut packed, at.abs_diff(due));
            before = *place;
        }
        let bytes = u32::try_from(packed.len()).unwrap_or(u32::MAX);
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        Self { head: ChunkHead { first, last, due, count, bytes }, packed: packed.into() }
    }

    fn entries(&self) -> Entries<'_> {
        Entries { rest: &self.packed, place: self.head.first, due: self.head.due }
    }
}

/// The messages of a chunk by place. Damage ends it.
struct Entries<'a> {
    rest: &'a [u8],
    place: u64,
    due: i64,
}

impl Iterator for Entries<'_> {
    type Item = (u64, i64);

    fn next(&mut self) -> Option<Self::Item> {
        self.place = self.place.checked_add(take(&mut self.rest)?)?;
        let due = self.due.checked_add_unsigned(take(&mut self.rest)?)?;
        Some((self.place, due))
    }
}

/// A piece of a snapshot that was not encoded yet.
#[derive(Clone, Debug)]
pub(super) struct DelayedPart {
    near: Vec<(u64, i64)>,
    chunks: Vec<Chunk>,
}

impl DelayedPart {
    /// As it stands in a snapshot.
    pub(super) fn encode(&self) -> Vec<u8> {
        let heads = self.chunks.iter().map(|chunk| chunk.head).collect();
        let part = Part { heads, near: self.near.clone() };
        let mut bytes = postcard::to_allocvec(&part).unwrap_or_default(); // numbers only
        self.chunks.iter().for_each(|chunk| bytes.extend_from_slice(&chunk.packed));
        bytes
    }
}

/// Seven bits a byte, the lowest first.
fn put(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    into.push(u8::try_from(value).unwrap_or(0));
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Messages of a chunk: what is unpacked to find one of them.
const CHUNK: usize = 256;
/// Chunks of one piece of a snapshot: about a megabyte.
const PART_CHUNKS: usize = 512;
/// Messages that are unpacked and in order at one time.
const NEAR_MAX: usize = 65_536;
/// How far ahead is unpacked.
const WINDOW_SECONDS: usize = 60;
const WINDOW_MS: i64 = 60_000;

#[cfg(test)]
mod tests;
