//! Memory for reads that goes back to the next read: pages fresh from the system cost more than what is read into them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Buffers that are free. What was read may be held as long as anyone likes: it owns its memory and
/// gives it back when the last of its pieces is dropped.
///
/// Invariant: at most [`KEPT_BYTES_MAX`] bytes are kept.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    by_size: BTreeMap<usize, Vec<Vec<u8>>>,
    bytes: usize,
    /// Calls of `rest` since the last read.
    rests: u32,
}

/// One buffer, to be filled.
#[derive(Debug)]
pub(crate) struct Buffer {
    memory: Vec<u8>,
    len: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    /// `len` bytes to be overwritten: what is in them is left of an earlier read.
    pub(crate) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let size = size_for(len);
        let mut free = self.lock();
        free.rests = 0;
        let kept = size.and_then(|size| free.by_size.get_mut(&size)?.pop());
        free.bytes -= kept.as_ref().map_or(0, Vec::len);
        drop(free);
        let memory = kept.unwrap_or_else(|| vec![0; size.unwrap_or(len)]);
        Buffer { memory, len, home: Arc::clone(self) }
    }

    /// To be called now and then while nothing else is to be done: after a while without a read the
    /// system gets the memory back.
    pub(crate) fn rest(&self) {
        let mut free = self.lock();
        free.rests = free.rests.saturating_add(1);
        if free.rests < RESTS_MAX || free.bytes == 0 {
            return;
        }
        free.bytes = 0;
        let given_up = std::mem::take(&mut free.by_size);
        drop(free);
        drop(given_up); // after the lock
    }

    fn give_back(&self, memory: Vec<u8>) {
        let size = memory.len();
        let mut free = self.lock();
        if size_for(size) == Some(size) && free.bytes + size <= KEPT_BYTES_MAX {
            free.bytes += size;
            free.by_size.entry(size).or_default().push(memory);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    /// What is to be filled.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(..self.len).unwrap_or_default()
    }

    /// What was filled, to be shared without a copy.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(..self.len).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.memory));
    }
}

/// The size a buffer for `len` bytes has: a power of two and a sixteenth more, so that what a client
/// asks for fits with what stands in front of it. `None`: not worth keeping, or too much.
fn size_for(len: usize) -> Option<usize> {
    let power = (len - len / 17).next_power_of_two();
    (SIZE_MIN..=SIZE_MAX).contains(&power).then_some(power + power / 16)
}

/// Bytes kept for reads to come: a Kafka consumer's answer of ten partitions, and some.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Calls of `rest` without a read after which nothing is kept: about a second of an idle keeper.
const RESTS_MAX: u32 = 50;
const SIZE_MIN: usize = 8 << 10;
const SIZE_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(buffers: &Buffers) -> usize {
        buffers.lock().bytes
    }

    #[test]
    fn a_buffer_has_room_and_is_not_much_larger() {
        for len in (1..3000).map(|n| n * 1499).chain([1 << 20, (1 << 20) + (1 << 16), 1 << 22]) {
            let Some(size) = size_for(len) else {
                assert!(len <= SIZE_MIN || len > SIZE_MAX, "{len} has no size");
                continue;
            };
            assert!(size >= len && (len <= SIZE_MIN || size < len * 2 + 2), "{len}: {size}");
            assert_eq!(
                size_for(size),
                Some(size),
                "what is given back has the size it was taken as"
            );
        }
    }

    #[test]
    fn memory_comes_back_once_the_last_piece_is_dropped() {
        let buffers = Arc::new(Buffers::default());
        let mut buffer = buffers.take(100_000);
        buffer.bytes_mut().fill(7);
        let whole = buffer.freeze();
        let piece = whole.slice(10..20);
        drop(whole);
        assert_eq!(kept(&buffers), 0, "a piece is held");
        let other = buffers.take(100_000);
        assert_eq!(piece, [7; 10][..], "nobody else writes into it");
        drop(piece);
        assert_eq!(kept(&buffers), size_for(100_000).unwrap());
        drop(other);
        assert_eq!(kept(&buffers), 2 * size_for(100_000).unwrap());
        drop(buffers.take(90_000));
        assert_eq!(kept(&buffers), 2 * size_for(100_000).unwrap(), "taken and given back");
    }

    #[test]
    fn what_is_kept_is_bounded_and_given_up_after_a_while() {
        let buffers = Arc::new(Buffers::default());
        let many: Vec<Buffer> = (0..20).map(|_| buffers.take(1 << 20)).collect();
        drop(many);
        assert!(kept(&buffers) <= KEPT_BYTES_MAX && kept(&buffers) > KEPT_BYTES_MAX / 2);
        for _ in 1..RESTS_MAX {
            buffers.rest();
        }
        assert!(kept(&buffers) > 0, "not yet");
        buffers.rest();
        assert_eq!(kept(&buffers), 0);
    }
}
