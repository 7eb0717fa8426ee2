//! The circuit breaker: pure, told outcomes and the time, says whether to go on.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::policy::Trip;

/// Looks at the newest attempts.
#[derive(Debug)]
pub(super) struct Breaker {
    trip: Option<Trip>,
    /// The newest attempts, `true` for failed; at most the window.
    newest: VecDeque<bool>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    /// Intake pauses.
    Open(Instant),
    /// One message is tried alone.
    Probing,
}

impl Breaker {
    pub(super) fn new(trip: Option<Trip>) -> Self {
        Self { trip, newest: VecDeque::new(), state: State::Closed }
    }

    /// Until when nothing is started; moves on to probing when that has passed.
    pub(super) fn paused_until(&mut self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Open(until) if now < until => Some(until),
            State::Open(_) => {
                self.state = State::Probing;
                None
            }
            _ => None,
        }
    }

    /// Whether only one message is to be handled at a time.
    pub(super) fn is_probing(&self) -> bool {
        self.state == State::Probing
    }

    /// An attempt ended. `true`: it tripped now.
    pub(super) fn told(&mut self, failed: bool, now: Instant) -> bool {
        let Some(trip) = self.trip else { return false };
        if self.state == State::Probing {
            self.newest.clear();
            self.state = if failed { State::Open(now + trip.pause) } else { State::Closed };
            return failed;
        }
        let window = usize::try_from(trip.window.max(1)).unwrap_or(usize::MAX);
        self.newest.push_back(failed);
        if self.newest.len() > window {
            self.newest.pop_front();
        }
        let failures = self.newest.iter().filter(|failed| **failed).count();
        let much = failures * 100 >= usize::from(trip.failed_percent) * window;
        if self.newest.len() < window || !much || matches!(self.state, State::Open(_)) {
            return false;
        }
        self.state = State::Open(now + trip.pause);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_trips_on_failures_probes_and_closes_again() {
        let pause = Duration::from_secs(10);
        let mut breaker = Breaker::new(Some(Trip { window: 4, failed_percent: 75, pause }));
        let now = Instant::now();
        let tripped: Vec<bool> =
            [true, false, true, true].map(|failed| breaker.told(failed, now)).to_vec();
        assert_eq!(tripped, [false, false, false, true]);
        assert_eq!(breaker.paused_until(now), Some(now + pause));
        let later = now + pause;
        assert_eq!((breaker.paused_until(later), breaker.is_probing()), (None, true));
        assert!(breaker.told(true, later), "the probe failed");
        let much_later = later + pause;
        assert_eq!(breaker.paused_until(much_later), None);
        assert!(!breaker.told(false, much_later));
        assert!(!breaker.is_probing(), "closed");
    }
}
