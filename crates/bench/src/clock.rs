//! The one clock of a run: nanoseconds since it began.

use std::thread::park_timeout;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "a load generator is the outermost layer")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the start.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Returns once the clock has reached `at`.
    pub(crate) fn wait_until(&self, at: u64) {
        loop {
            let now = self.now();
            if now >= at {
                return;
            }
            park_timeout(Duration::from_nanos(at - now));
        }
    }
}

/// Seconds as the clock counts.
pub(crate) fn nanos(seconds: f64) -> u64 {
    let span = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds as seconds.
pub(crate) fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}
