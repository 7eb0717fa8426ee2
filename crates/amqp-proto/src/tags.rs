//! Delivered and not yet settled: delivery tags and what they stand for.

use std::collections::VecDeque;

use crate::ids::DeliveryTag;

/// An acknowledgement for a delivery that is not outstanding: 406 `unknown delivery tag 82`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown delivery tag {0}")]
pub struct UnknownTag(pub DeliveryTag);

/// The outstanding deliveries of one channel, by tag.
///
/// Acknowledging in order costs O(1), out of order O(log n) plus a share of a compaction. The number
/// of outstanding deliveries is bounded by the consumers' prefetch, which the session sees to.
///
/// Invariants: tags ascend; the first slot is not empty; at most half of the slots, beyond
/// the first 32, are empty.
#[derive(Clone, Debug)]
pub struct Tags<T> {
    slots: VecDeque<(DeliveryTag, Option<T>)>,
    last: DeliveryTag,
    holes: usize,
}

impl<T> Default for Tags<T> {
    fn default() -> Self {
        Self { slots: VecDeque::new(), last: DeliveryTag(0), holes: 0 }
    }
}

impl<T> Tags<T> {
    /// No delivery yet; the first tag will be 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Outstanding deliveries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.holes
    }

    /// Whether everything is settled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The next tag, for a delivery that nobody has to acknowledge.
    pub fn skip(&mut self) -> DeliveryTag {
        self.last = self.last.next();
        self.last
    }

    /// The next tag, for a delivery that stays outstanding until it is settled.
    pub fn push(&mut self, delivery: T) -> DeliveryTag {
        let tag = self.skip();
        self.slots.push_back((tag, Some(delivery)));
        tag
    }

    /// Settles one delivery.
    ///
    /// # Errors
    /// If `tag` is not outstanding; 0 never is.
    pub fn settle(&mut self, tag: DeliveryTag) -> Result<T, UnknownTag> {
        let place = self.find(tag).ok_or(UnknownTag(tag))?;
        let slot = self.slots.get_mut(place).and_then(|(_, slot)| slot.take());
        self.holes += 1;
        self.close_holes();
        slot.ok_or(UnknownTag(tag))
    }

    /// Settles every delivery up to and with `tag`, oldest first; all of them for tag 0 (§1.8.3.13).
    ///
    /// # Errors
    /// If `tag` is neither 0 nor outstanding; then nothing is settled.
    pub fn settle_through(
        &mut self,
        tag: DeliveryTag,
    ) -> Result<impl Iterator<Item = T> + use<T>, UnknownTag> {
        let settled = match tag {
            DeliveryTag(0) => std::mem::take(&mut self.slots),
            tag => {
                let place = self.find(tag).ok_or(UnknownTag(tag))?;
                let kept = self.slots.split_off(place + 1);
                std::mem::replace(&mut self.slots, kept)
            }
        };
        self.holes -= settled.iter().filter(|(_, slot)| slot.is_none()).count();
        self.close_holes();
        Ok(settled.into_iter().filter_map(|(_, slot)| slot))
    }

    /// Puts a delivery that was settled back under its tag: `tx.rollback`.
    ///
    /// # Panics
    /// If `tag` was never given out.
    pub fn restore(&mut self, tag: DeliveryTag, delivery: T) {
        assert!(tag <= self.last, "a tag that was never given out");
        match self.slots.binary_search_by_key(&tag, |(tag, _)| *tag) {
            Ok(place) => {
                if let Some((_, slot)) = self.slots.get_mut(place)
                    && slot.replace(delivery).is_none()
                {
                    self.holes -= 1;
                }
            }
            Err(place) => self.slots.insert(place, (tag, Some(delivery))),
        }
    }

    /// Takes everything that is outstanding, oldest first: the channel is gone, or `basic.recover`.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.holes = 0;
        std::mem::take(&mut self.slots).into_iter().filter_map(|(_, slot)| slot)
    }

    /// What is outstanding, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (DeliveryTag, &T)> {
        self.slots.iter().filter_map(|(tag, slot)| Some((*tag, slot.as_ref()?)))
    }

    fn find(&self, tag: DeliveryTag) -> Option<usize> {
        let place = match self.slots.front() {
            Some((first, _)) if *first == tag => 0,
            _ => self.slots.binary_search_by_key(&tag, |(tag, _)| *tag).ok()?,
        };
        self.slots.get(place).filter(|(_, slot)| slot.is_some()).map(|_| place)
    }

    fn close_holes(&mut self) {
        while let Some((_, None)) = self.slots.front() {
            self.slots.pop_front();
            self.holes -= 1;
        }
        if self.holes > HOLES_MIN && self.holes * 2 > self.slots.len() {
            self.slots.retain(|(_, slot)| slot.is_some());
            self.holes = 0;
        }
    }
}

/// Fewer holes than this are left alone.
const HOLES_MIN: usize = 32;

#[cfg(test)]
mod tests;
