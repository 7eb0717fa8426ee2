//! Heartbeats (§4.2.7): one is sent every half interval unless something else was, and a peer silent
//! for two intervals is dead.

use std::time::Duration;

/// What [`crate::Connection::tick`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// Go on.
    Alive,
    /// Two heartbeats were missed: drop the socket, there is nobody to say goodbye to.
    Silent,
    /// The handshake or the close took too long: drop the socket.
    Overdue,
}

/// The two timers of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heartbeat {
    interval: Duration,
    last_received: Duration,
    next_send: Duration,
    sent_at_last_check: u64,
}

impl Heartbeat {
    /// Timers for an interval in seconds; `None` for 0, no heartbeats.
    pub(crate) fn new(seconds: u16, now: Duration, sent: u64) -> Option<Self> {
        let interval = Duration::from_secs(seconds.into());
        (seconds > 0).then(|| Self {
            interval,
            last_received: now,
            next_send: now + interval / 2,
            sent_at_last_check: sent,
        })
    }

    /// Something came.
    pub(crate) fn received(&mut self, now: Duration) {
        self.last_received = self.last_received.max(now);
    }

    /// Whether a heartbeat is due; `sent` counts what was written so far.
    pub(crate) fn is_due(&mut self, now: Duration, sent: u64) -> bool {
        if now < self.next_send {
            return false;
        }
        self.next_send = now + self.interval / 2;
        let quiet = sent == self.sent_at_last_check;
        self.sent_at_last_check = sent + u64::from(quiet);
        quiet
    }

    pub(crate) fn is_silent(&self, now: Duration) -> bool {
        now >= self.silent_at()
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.next_send.min(self.silent_at())
    }

    fn silent_at(&self) -> Duration {
        self.last_received + self.interval * 2
    }
}
