//! Published and not yet confirmed: the numbers of confirm mode.

use std::collections::VecDeque;

use crate::ids::DeliveryTag;

/// One answer to a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// `basic.ack` of this number; `multiple` if it stands for unconfirmed ones before it too.
    Ack {
        /// The newest number confirmed.
        tag: DeliveryTag,
        /// Whether it covers more than this one.
        multiple: bool,
    },
    /// `basic.nack` of this number alone.
    Nack {
        /// The number refused.
        tag: DeliveryTag,
    },
}

/// The publishes of one channel in confirm mode, in order, each with the log position that must be
/// durable before it is confirmed.
#[derive(Clone, Debug, Default)]
pub struct Confirms {
    pending: VecDeque<Pending>,
    last: DeliveryTag,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    /// Confirmed once the log is durable past this position; `None` at once.
    Wait(Option<u64>),
    Refused,
}

impl Confirms {
    /// No publish yet; the first number will be 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Publishes not yet confirmed: the caller stops reading at its bound.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether every publish was answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Counts a publish that is taken over once the log is durable past `lsn`.
    pub fn wait(&mut self, lsn: u64) -> DeliveryTag {
        self.push(Pending::Wait(Some(lsn)))
    }

    /// Counts a publish that needs no waiting: unroutable, or only in memory.
    pub fn accept(&mut self) -> DeliveryTag {
        self.push(Pending::Wait(None))
    }

    /// Counts a publish that a queue refused.
    pub fn refuse(&mut self) -> DeliveryTag {
        self.push(Pending::Refused)
    }

    /// The position the oldest unconfirmed publish waits for: register this one, no other.
    #[must_use]
    pub fn waits_for(&self) -> Option<u64> {
        self.pending.iter().find_map(|pending| match pending {
            Pending::Wait(lsn) => *lsn,
            Pending::Refused => None,
        })
    }

    /// Answers everything up to the first publish that is not durable (`lsn >= durable`): runs of acks
    /// become one, every nack stands alone.
    pub fn release(&mut self, durable: u64, mut answer: impl FnMut(Confirm)) {
        let mut run = 0u64;
        let mut tag = DeliveryTag(self.last.0 - self.unanswered());
        while let Some(pending) = self.pending.front() {
            match pending {
                Pending::Wait(Some(lsn)) if *lsn >= durable => break,
                Pending::Wait(_) => run += 1,
                Pending::Refused => {
                    acknowledge(tag, run, &mut answer);
                    run = 0;
                    answer(Confirm::Nack { tag: tag.next() });
                }
            }
            tag = tag.next();
            self.pending.pop_front();
        }
        acknowledge(tag, run, &mut answer);
    }

    fn push(&mut self, pending: Pending) -> DeliveryTag {
        self.last = self.last.next();
        self.pending.push_back(pending);
        self.last
    }

    fn unanswered(&self) -> u64 {
        u64::try_from(self.pending.len()).unwrap_or(u64::MAX)
    }
}

/// One answer for the `run` publishes that end with `tag`.
fn acknowledge(tag: DeliveryTag, run: u64, answer: &mut impl FnMut(Confirm)) {
    if run > 0 {
        answer(Confirm::Ack { tag, multiple: run > 1 });
    }
}

#[cfg(test)]
mod tests;
