//! A connection that publishes as fast as its window lets it.

use std::collections::VecDeque;
use std::thread::park_timeout;
use std::time::Duration;

use super::encode::Frames;
use super::run::{Run, Tally, wide};
use super::wire::{Piece, Wire};
use crate::Failure;

/// Publishes until the run's time is up, at most `messages`, and waits for all confirms.
pub(super) fn publish(run: &Run<'_>, mut wire: Wire, messages: u64) -> Result<Tally, Failure> {
    let (mut frames, mut open) = (Frames::new(run.load)?, Unconfirmed::default());
    let (mut tally, mut left) = (Tally::default(), messages);
    loop {
        let now = run.clock.now();
        let due = if now < run.until { left } else { 0 };
        let room = usize::try_from(run.room().min(due)).unwrap_or(usize::MAX);
        let room = room.min(window(run, open.len()));
        if room > 0 {
            let (bytes, count) = frames.take(room);
            run.sends(count);
            wire.send(bytes)?;
            left -= wide(count);
            if run.load.confirms {
                open.push(now, count);
            } else if now >= run.warm {
                tally.messages += wide(count);
            }
            continue;
        }
        if open.len() > 0 {
            take_confirms(run, &mut wire, &mut open, &mut tally)?;
        } else if due == 0 {
            wire.close()?;
            return Ok(tally);
        } else {
            park_timeout(BEHIND); // the consumers are
        }
    }
}

/// What the window leaves room for; nothing until that is an eighth of it, so that writes are few.
fn window(run: &Run<'_>, open: usize) -> usize {
    if !run.load.confirms {
        return usize::MAX;
    }
    let room = run.load.in_flight.saturating_sub(open);
    if room * 8 < run.load.in_flight { 0 } else { room }
}

fn take_confirms(
    run: &Run<'_>,
    wire: &mut Wire,
    open: &mut Unconfirmed,
    tally: &mut Tally,
) -> Result<(), Failure> {
    if !wire.fill()? {
        return Err("no confirm came".into());
    }
    let now = run.clock.now();
    wire.pieces(|piece| {
        if let Piece::Confirm { tag, multiple } = piece {
            open.settle(tag, multiple, |sent| tally.confirmed(run, sent, now));
        }
        Ok(())
    })
}

impl Tally {
    /// A message of time `sent` is confirmed `now`.
    pub(super) fn confirmed(&mut self, run: &Run<'_>, sent: u64, now: u64) {
        if (run.warm..run.until).contains(&now) && sent >= run.warm {
            self.answers.push(now - sent);
        }
        if (run.warm..run.until).contains(&now) {
            self.messages += 1;
        }
        self.last = self.last.max(now);
    }
}

/// Publishes without a confirm: when each was sent, by tag.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    times: VecDeque<Option<u64>>,
    /// Tags before the first of `times`; the first tag is 1.
    settled: u64,
    open: usize,
}

impl Unconfirmed {
    pub(super) const fn len(&self) -> usize {
        self.open
    }

    pub(super) fn push(&mut self, sent: u64, count: usize) {
        self.times.extend(std::iter::repeat_n(Some(sent), count));
        self.open += count;
    }

    /// Tells `each` when each newly confirmed one was sent.
    pub(super) fn settle(&mut self, tag: u64, multiple: bool, mut each: impl FnMut(u64)) {
        let Some(place) = tag.checked_sub(self.settled + 1) else { return };
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        let until = place.saturating_add(1).min(self.times.len());
        let from = if multiple { 0 } else { place.min(until) };
        for sent in self.times.range_mut(from..until) {
            if let Some(sent) = sent.take() {
                self.open -= 1;
                each(sent);
            }
        }
        while self.times.front().is_some_and(Option::is_none) {
            self.times.pop_front();
            self.settled += 1;
        }
    }
}

/// How long a publisher that is too far ahead waits before it looks again.
const BEHIND: Duration = Duration::from_micros(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirms_in_any_order_are_counted_once() {
        let mut open = Unconfirmed::default();
        (1..=6).for_each(|sent| open.push(sent * 10, 1));
        let mut seen = Vec::new();
        for (tag, multiple) in [(2, false), (4, true), (4, true), (3, false), (6, false)] {
            open.settle(tag, multiple, |sent| seen.push(sent));
        }
        assert_eq!(seen, [20, 10, 30, 40, 60]);
        assert_eq!(open.len(), 1);
        open.settle(99, true, |sent| seen.push(sent));
        assert_eq!((open.len(), seen.last()), (0, Some(&50)));
    }
}
