//! What passes through a queue: counted, and as rates over the last seconds.

use crate::clock::Monotonic;

/// How often something happened since the broker started; as rates, how often in a thousand seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages that came.
    pub published: u64,
    /// `basic.deliver` of messages that are to be acknowledged.
    pub delivered: u64,
    /// `basic.deliver` of others.
    pub delivered_no_ack: u64,
    /// `basic.get-ok` of messages that are to be acknowledged.
    pub got: u64,
    /// `basic.get-ok` of others.
    pub got_no_ack: u64,
    /// Those of both that were, or may have been, delivered before.
    pub redelivered: u64,
    /// Messages that were acknowledged.
    pub acked: u64,
}

impl Traffic {
    /// Field by field.
    fn with(self, other: Self, merge: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            published: merge(self.published, other.published),
            delivered: merge(self.delivered, other.delivered),
            delivered_no_ack: merge(self.delivered_no_ack, other.delivered_no_ack),
            got: merge(self.got, other.got),
            got_no_ack: merge(self.got_no_ack, other.got_no_ack),
            redelivered: merge(self.redelivered, other.redelivered),
            acked: merge(self.acked, other.acked),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// All that was handed out.
    #[must_use]
    pub const fn handed_out(&self) -> u64 {
        self.delivered + self.delivered_no_ack + self.got + self.got_no_ack
    }
}

/// What was counted, and how fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Since the broker started.
    pub totals: Traffic,
    /// In a thousand seconds, over the last five or more.
    pub rates: Traffic,
}

impl Measured {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { totals: self.totals.plus(other.totals), rates: self.rates.plus(other.rates) }
    }
}

/// Counts, and turns a window whenever one is full.
#[derive(Debug, Default)]
pub(super) struct Meter {
    totals: Traffic,
    /// The totals when the window began.
    marked: Traffic,
    mark: Monotonic,
    rates: Traffic,
}

impl Meter {
    pub(super) fn count(&mut self, now: Monotonic, passage: impl FnOnce(&mut Traffic)) {
        self.turn(now);
        passage(&mut self.totals);
    }

    pub(super) fn read(&mut self, now: Monotonic) -> Measured {
        self.turn(now);
        Measured { totals: self.totals, rates: self.rates }
    }

    fn turn(&mut self, now: Monotonic) {
        let elapsed = now.0.saturating_sub(self.mark.0);
        if elapsed >= WINDOW_MS {
            let rate = |total: u64, before: u64| {
                total.saturating_sub(before).saturating_mul(1_000_000) / elapsed
            };
            self.rates = self.totals.with(self.marked, rate);
            (self.marked, self.mark) = (self.totals, now);
        }
    }
}

/// As often as RabbitMQ's management plugin takes samples.
const WINDOW_MS: u64 = 5000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_window_and_ends_with_the_traffic() {
        let mut meter = Meter::default();
        for ms in (10_000..20_000).step_by(100) {
            meter.count(Monotonic(ms), |traffic| traffic.acked += 1);
        }
        let measured = meter.read(Monotonic(20_000));
        assert_eq!((measured.totals.acked, measured.rates.acked), (100, 10_000), "ten a second");
        assert_eq!(meter.read(Monotonic(24_000)).rates.acked, 10_000, "not a window yet");
        assert_eq!(meter.read(Monotonic(25_000)).rates.acked, 0);
        assert_eq!(meter.read(Monotonic(25_000)).totals.acked, 100);
    }
}
