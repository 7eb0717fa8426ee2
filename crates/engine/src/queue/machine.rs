//! The queue machine: its state, the commands it takes, and the work that follows every one of them.

use std::sync::Arc;

use super::command::{ChannelKey, Command, ConsumerId, Death, DeleteReason, Effect, Refusal};
use super::consumers::Consumers;
use super::delivery::Delayed;
use super::entry::{Entry, NEVER};
use super::ready::Ready;
use super::settings::{Acceptance, Order, Overflow, Settings};
use crate::clock::{Monotonic, Now, Wall};

/// One queue. Same commands at the same times, same effects.
///
/// Every message is in one place: ready, delayed, or held by a channel.
#[derive(Debug)]
pub struct Machine {
    pub(super) settings: Arc<Settings>,
    pub(super) ready: Ready,
    pub(super) delayed: Delayed,
    pub(super) consumers: Consumers,
    pub(super) active: Option<ConsumerId>,
    /// The active consumer gets no more: a more important one waits for it to settle.
    pub(super) draining: bool,
    /// Accepted and not yet visible.
    staged: Staged,
    pub(super) had_consumer: bool,
    pub(super) last_used: Monotonic,
    pub(super) timeout_check: Option<Monotonic>,
    /// More work is due than one command may do.
    overdue: bool,
    pub(super) gone: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Staged {
    count: u64,
    bytes: u64,
}

/// How full a queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ready to be delivered.
    pub ready: u64,
    /// Bytes of their bodies.
    pub ready_bytes: u64,
    /// Held by channels.
    pub unacked: u64,
    /// Waiting for a retry.
    pub delayed: u64,
    /// Consumers.
    pub consumers: u64,
}

/// When a [`Command::Tick`] is wanted, by each clock; early and late ticks do no harm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadline {
    /// Expiry and retries.
    pub wall: Option<Wall>,
    /// Consumer timeouts, unused queues, and work left over (a moment in the past).
    pub monotonic: Option<Monotonic>,
}

impl Machine {
    /// An empty queue that comes into use now.
    #[must_use]
    pub fn new(settings: Arc<Settings>, now: Now) -> Self {
        Self {
            settings,
            ready: Ready::new(),
            delayed: Delayed::default(),
            consumers: Consumers::default(),
            active: None,
            draining: false,
            staged: Staged::default(),
            had_consumer: false,
            last_used: now.monotonic,
            timeout_check: None,
            overdue: false,
            gone: false,
        }
    }

    /// Applies one command and adds what follows to `effects`, in the order to be carried out.
    pub fn apply(&mut self, command: Command<'_>, now: Now, effects: &mut Vec<Effect>) {
        if self.gone {
            effects.push(Effect::Refused(Refusal::Gone));
            return;
        }
        let arriving = matches!(command, Command::Visible { .. });
        match command {
            Command::Visible { entries } => self.add(entries),
            Command::Consume(wish) => self.consume(wish, now, effects),
            Command::Cancel { consumer } => self.cancel(consumer, now, effects),
            Command::Credit { consumer, credit } => self.consumers.add_credit(consumer, credit),
            Command::ChannelPrefetch { channel, limit, elsewhere } => {
                self.consumers.limit_channel(channel, limit, elsewhere);
            }
            Command::Get { channel, no_ack } => self.fetch(channel, no_ack, now, effects),
            Command::Settle { channel, messages, outcome } => {
                self.settle(channel, messages, outcome, now, effects);
            }
            Command::Recover { channel } => self.recover(channel, now, effects),
            Command::Release { channel } => self.release(channel, now, effects),
            Command::Purge => effects.push(Effect::Purged { messages: self.ready.clear() }),
            Command::Touch => self.last_used = now.monotonic,
            Command::Tick => {}
            Command::Configure(settings) => {
                self.settings = settings;
                self.replace_active();
            }
            Command::Delete { if_unused, if_empty } => self.delete(if_unused, if_empty, effects),
        }
        self.catch_up(arriving, now, effects);
    }

    /// Whether a queue takes one more message of that size; asked before it is staged.
    #[must_use]
    pub fn accepts(&self, bytes: u32) -> Acceptance {
        let refusal = match self.settings.overflow {
            Overflow::DropHead => return Acceptance::Accept,
            Overflow::RejectPublish => Acceptance::Reject,
            Overflow::RejectPublishDeadLetter => Acceptance::RejectAndDeadLetter,
        };
        // what consumers will take at once never becomes ready
        let appetite = self.consumers.appetite(self.staged.count);
        let coming = self.staged.count.saturating_sub(appetite);
        let coming_bytes = if coming == 0 { 0 } else { self.staged.bytes };
        let (count, size) = (self.ready.count(), self.ready.bytes());
        let full = self.settings.max_length.is_some_and(|max| count + coming + 1 > max);
        let heavy = |max| size + coming_bytes + u64::from(bytes) > max;
        let heavy = self.settings.max_bytes.is_some_and(heavy);
        if full || heavy { refusal } else { Acceptance::Accept }
    }

    /// An accepted message was staged; a [`Command::Visible`] with it will follow.
    pub fn stage(&mut self, bytes: u32) {
        self.staged.count += 1;
        self.staged.bytes += u64::from(bytes);
    }

    /// When it wants a [`Command::Tick`].
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        if self.gone {
            return Deadline::default();
        }
        let wall = self.ready.next_expiry().min(self.delayed.next_due().unwrap_or(NEVER));
        let unused = self.settings.expires.filter(|_| self.consumers.len() == 0);
        let ends = unused.map(|ms| self.last_used.after(ms));
        let left_over = self.overdue.then_some(Monotonic(0));
        Deadline {
            wall: (wall != NEVER).then_some(wall),
            monotonic: [ends, self.timeout_check, left_over].into_iter().flatten().min(),
        }
    }

    /// How full it is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            ready: self.ready.count(),
            ready_bytes: self.ready.bytes(),
            unacked: self.consumers.unacked(),
            delayed: self.delayed.len(),
            consumers: u64::try_from(self.consumers.len()).unwrap_or(u64::MAX),
        }
    }

    /// The rules it follows.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The single active consumer, where there is one.
    #[must_use]
    pub const fn active_consumer(&self) -> Option<ConsumerId> {
        self.active
    }

    /// The first `max` ready messages in the order in which they would be delivered.
    #[must_use]
    pub fn browse(&self, max: usize) -> Vec<Entry> {
        self.ready.browse(max)
    }

    /// Takes a ready message out, to be moved elsewhere; false if it is not ready any more.
    pub fn withdraw(&mut self, entry: &Entry) -> bool {
        self.ready.withdraw(entry)
    }

    /// Gives back what [`withdraw`](Self::withdraw) took, to its original position; a
    /// [`Command::Tick`] that follows delivers it.
    pub fn put_back(&mut self, entry: Entry) {
        self.ready.put_back(entry, Order::Position);
    }

    /// How many messages each channel holds.
    pub fn held(&self) -> impl Iterator<Item = (ChannelKey, u64)> {
        self.consumers.held()
    }

    /// Whether it was deleted; every further command is refused.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        self.gone
    }

    fn add(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.staged.count = self.staged.count.saturating_sub(1);
            self.staged.bytes = self.staged.bytes.saturating_sub(u64::from(entry.bytes));
            let priority = entry.priority.min(self.settings.max_priority);
            self.ready.push(Entry { priority, ..*entry });
        }
    }

    /// What time and the command have made due: timeouts, retries, expiry, deliveries, limits.
    fn catch_up(&mut self, arriving: bool, now: Now, effects: &mut Vec<Effect>) {
        if self.gone {
            return;
        }
        let unused = self.settings.expires.filter(|_| self.consumers.len() == 0);
        if unused.is_some_and(|ms| self.last_used.after(ms) <= now.monotonic) {
            self.end(DeleteReason::Expired, effects);
            return;
        }
        self.check_timeouts(now, effects);
        let mut budget = SWEEP_MAX;
        self.wake_delayed(now, &mut budget, effects);
        self.deliver(arriving, now, &mut budget, effects);
        self.sweep(now, &mut budget, effects);
        self.overdue = budget == 0;
    }

    /// Removes what has expired and what is too much.
    fn sweep(&mut self, now: Now, budget: &mut u32, effects: &mut Vec<Effect>) {
        while *budget > 0 {
            let (entry, reason) = match self.ready.pop_expired(now.wall) {
                Some(entry) => (entry, Death::Expired),
                None if self.is_over() => match self.ready.pop() {
                    Some(entry) => (entry, Death::MaxLength),
                    None => return,
                },
                None => return,
            };
            self.bury(entry, reason, effects);
            *budget -= 1;
        }
    }

    /// A queue that refuses messages when full keeps what comes back to it.
    fn is_over(&self) -> bool {
        if self.settings.overflow != Overflow::DropHead {
            return false;
        }
        self.settings.max_length.is_some_and(|max| self.ready.count() > max)
            || self.settings.max_bytes.is_some_and(|max| self.ready.bytes() > max)
    }

    pub(super) fn bury(&self, entry: Entry, reason: Death, effects: &mut Vec<Effect>) {
        effects.push(if self.settings.dead_letters {
            Effect::DeadLetter { entry, reason }
        } else {
            Effect::Drop { entry, reason }
        });
    }
}

/// Messages that may die in one command; the rest is due at once, in the next.
const SWEEP_MAX: u32 = 1024;
