//! What the threads of a run share, and what each of them counts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{ScopedJoinHandle, park_timeout};
use std::time::Duration;

use super::args::Load;
use crate::Failure;
use crate::clock::{Clock, nanos};
use crate::figures::Figures;
use crate::process::{Cost, Usage, float};

#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) load: &'a Load,
    pub(super) clock: Clock,
    /// Counting begins, in nanoseconds of the clock.
    pub(super) warm: u64,
    /// Publishing and counting end.
    pub(super) until: u64,
    /// Messages that may be published and not consumed.
    ahead: u64,
    sent: AtomicU64,
    received: AtomicU64,
    over: AtomicBool,
}

/// What one thread counted between the warm-up and the end.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) messages: u64,
    /// Nanoseconds until each confirm.
    pub(super) answers: Vec<u64>,
    /// When the last message came.
    pub(super) last: u64,
}

/// A thread of a run.
pub(super) type Handle<'scope> = ScopedJoinHandle<'scope, Result<Tally, Failure>>;

impl<'a> Run<'a> {
    /// Begins now.
    pub(super) fn new(load: &'a Load) -> Self {
        Self {
            load,
            clock: Clock::start(),
            warm: nanos(load.warm_up),
            until: nanos(load.warm_up + load.seconds),
            ahead: if load.consumers == 0 { u64::MAX } else { load.ahead() },
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// Publishes for so long, whether anybody consumes or not; everything counts.
    pub(super) fn filling(mut self, seconds: f64) -> Self {
        (self.warm, self.until, self.ahead) = (0, nanos(seconds), u64::MAX);
        self
    }

    /// Everything counts from now on, however long it takes, and `sent` are on their way already.
    pub(super) fn draining(mut self, sent: u64) -> Self {
        (self.warm, self.until) = (0, u64::MAX);
        *self.sent.get_mut() = sent;
        self
    }

    /// How many messages may be published by one who does not wait for confirms.
    pub(super) fn room(&self) -> u64 {
        self.ahead.saturating_sub(self.open())
    }

    pub(super) fn sends(&self, count: usize) {
        self.sent.fetch_add(wide(count), Ordering::Relaxed);
    }

    /// Messages that were published so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Messages that were consumed; `true` if they count.
    pub(super) fn receives(&self, count: u64) -> bool {
        self.received.fetch_add(count, Ordering::Relaxed);
        (self.warm..self.until).contains(&self.clock.now())
    }

    fn open(&self) -> u64 {
        self.sent().saturating_sub(self.received.load(Ordering::Relaxed))
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Waits until everything that was sent has come, as long as anything comes.
    pub(super) fn drain(&self) -> Result<(), Failure> {
        let mut seen = (self.open(), self.clock.now());
        while self.open() > 0 {
            park_timeout(Duration::from_millis(1));
            let (open, now) = (self.open(), self.clock.now());
            if open != seen.0 {
                seen = (open, now);
            } else if now > seen.1 + nanos(PATIENCE_SECONDS) {
                return Err(format!("{open} messages did not come").into());
            }
        }
        Ok(())
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.answers.extend(other.answers);
        self.last = self.last.max(other.last);
    }
}

pub(super) fn join<'scope>(
    threads: impl IntoIterator<Item = Handle<'scope>>,
) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    for thread in threads {
        tally.add(thread.join().map_err(|_| "a thread panicked")??);
    }
    Ok(tally)
}

/// What a run was, in front of what it gave.
pub(super) fn described(mode: &str, load: &Load) -> Figures {
    Figures::of(mode)
        .with("body_bytes", load.body_bytes)
        .with("persistent", load.persistent)
        .with("confirms", load.confirms)
        .with("queues", load.queues)
        .with("queue_type", format!("{:?}", load.queue_type).to_lowercase())
        .with("publishers", load.publishers)
        .with("in_flight", load.confirms.then_some(load.in_flight))
        .with("consumers", load.consumers)
        .with("acks", format!("{:?}", load.acks).to_lowercase())
}

/// Messages in a time, and what they cost the server.
pub(super) fn rates(
    figures: Figures,
    load: &Load,
    messages: u64,
    seconds: f64,
    used: Option<(Usage, Usage)>,
) -> Figures {
    let payload = messages * wide(load.body_bytes);
    let cost = used.map(|(before, after)| after.since(&before, seconds, messages, payload));
    let per_cpu = |cost: &Cost| float(messages) / cost.cpu_seconds.max(0.01);
    figures
        .with("seconds", seconds)
        .with("messages", messages)
        .with("per_second", float(messages) / seconds)
        .with("mb_per_second", float(payload) / 1e6 / seconds)
        .with("per_cpu_second", cost.as_ref().map(per_cpu))
        .with("server", cost)
}

pub(super) fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// How long nothing may come before messages are called lost.
const PATIENCE_SECONDS: f64 = 30.0;
