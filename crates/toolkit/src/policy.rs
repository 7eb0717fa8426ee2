//! How a service treats its messages: how many at a time, in which order, how often again.

use std::time::Duration;

use crate::mint::Mint;

/// How messages of one source are handled.
///
/// ```
/// use std::time::Duration;
/// use ottla::policy::{Backoff, Order, Policy};
///
/// let policy = Policy::default()
///     .concurrency(32)
///     .order(Order::ParkKey)
///     .retry(Backoff::new(Duration::from_millis(50), Duration::from_secs(10), 6));
/// # let _ = policy;
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub(crate) concurrency: u32,
    pub(crate) in_flight: u32,
    pub(crate) order: Order,
    pub(crate) retry: Backoff,
    pub(crate) timeout: Duration,
    pub(crate) trip: Option<Trip>,
    pub(crate) drain: Duration,
}

/// What happens to messages with the same key while one of them fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// They wait, for as long as it is tried again. One that is given up goes to the dead letters, and
    /// the next one follows. Messages without a key do not wait.
    #[default]
    BlockKey,
    /// As `BlockKey`; but once one is given up, those behind it follow it into the dead letters, in their
    /// order, until the key is sent back.
    ParkKey,
    /// They do not wait. A failed message comes again later, behind others.
    Unordered,
}

/// How long to wait before the next attempt, and how often to try.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// After the first failure; twice as long after each further one.
    pub base: Duration,
    /// At most.
    pub max: Duration,
    /// Attempts in all, the first included; at least 1.
    pub attempts: u32,
    /// The share of the wait that is chance, from 0 to 1: keeps those that failed together from coming
    /// together.
    pub jitter: f64,
}

/// A circuit breaker: when most messages fail, the fault is elsewhere; intake pauses instead of spending
/// everybody's attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trip {
    /// How many of the newest attempts are looked at; nothing trips before there are as many.
    pub window: u32,
    /// Trips when this percentage of them failed.
    pub failed_percent: u8,
    /// How long intake pauses. Then one message is tried alone; if it fails, the pause begins again.
    pub pause: Duration,
}

impl Default for Policy {
    /// Sixteen at a time, in order per key, eight attempts from 100 ms to 30 s apart, a minute for each,
    /// pausing for ten seconds when nine of the last ten attempts failed.
    fn default() -> Self {
        Self {
            concurrency: 16,
            in_flight: 256,
            order: Order::default(),
            retry: Backoff::default(),
            timeout: Duration::from_secs(60),
            trip: Some(Trip::default()),
            drain: Duration::from_secs(30),
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(30), 8)
    }
}

impl Default for Trip {
    fn default() -> Self {
        Self { window: 10, failed_percent: 90, pause: Duration::from_secs(10) }
    }
}

impl Backoff {
    /// Doubling from `base` to `max`, a fifth of it by chance.
    #[must_use]
    pub const fn new(base: Duration, max: Duration, attempts: u32) -> Self {
        Self { base, max, attempts, jitter: 0.2 }
    }

    /// One attempt.
    #[must_use]
    pub const fn never() -> Self {
        Self::new(Duration::ZERO, Duration::ZERO, 1)
    }

    /// The wait after the attempt of this number; `None` after the last.
    #[must_use]
    pub fn wait(&self, attempt: u32, mint: &Mint) -> Option<Duration> {
        if attempt >= self.attempts.max(1) {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(31);
        let full = self.base.saturating_mul(1 << doublings).min(self.max);
        let jitter = self.jitter.clamp(0.0, 1.0);
        Some(full.mul_f64(1.0 - jitter * mint.fraction()))
    }
}

impl Policy {
    /// Messages handled at a time; at least 1.
    #[must_use]
    pub fn concurrency(self, at_a_time: u32) -> Self {
        let concurrency = at_a_time.max(1);
        Self { concurrency, in_flight: self.in_flight.max(concurrency), ..self }
    }

    /// Messages taken from the broker and not settled: handled, waiting for their key, or for their next
    /// attempt. At least as many as are handled at a time.
    #[must_use]
    pub fn in_flight(self, max: u32) -> Self {
        Self { in_flight: max.max(self.concurrency), ..self }
    }

    /// What happens to messages with the same key while one of them fails.
    #[must_use]
    pub const fn order(self, order: Order) -> Self {
        Self { order, ..self }
    }

    /// How often to try, and how long to wait.
    #[must_use]
    pub const fn retry(self, retry: Backoff) -> Self {
        Self { retry, ..self }
    }

    /// How long one attempt may take; it then counts as failed.
    #[must_use]
    pub const fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// When intake pauses; `None`: never.
    #[must_use]
    pub const fn trip(self, trip: Option<Trip>) -> Self {
        Self { trip, ..self }
    }

    /// How long a shutdown waits for handlers; then their messages are given back.
    #[must_use]
    pub const fn drain(self, drain: Duration) -> Self {
        Self { drain, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_end_with_the_last_attempt() {
        let mint = Mint::system();
        let retry = Backoff { jitter: 0.0, ..Backoff::new(ms(100), ms(500), 5) };
        let waits: Vec<_> = (1..=5).map(|attempt| retry.wait(attempt, &mint)).collect();
        assert_eq!(waits, [Some(ms(100)), Some(ms(200)), Some(ms(400)), Some(ms(500)), None]);
        let spread = Backoff { jitter: 0.5, ..retry };
        for _ in 0..100 {
            let wait = spread.wait(1, &mint).unwrap();
            assert!((ms(50)..=ms(100)).contains(&wait), "{wait:?}");
        }
        assert_eq!(Backoff::never().wait(1, &mint), None);
    }

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }
}
