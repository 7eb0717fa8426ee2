//! What a queue's machine decides is carried out here: under the queue's lock what belongs to it, and
//! afterwards, when no queue is locked, what concerns others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ottla_store::frame::{Frame, Item};
use ottla_store::{Lsn, Purpose, Refused};

use super::Broker;
use super::facts::BrokerFact;
use super::mailbox::{Mailbox, Parcel, Promise, Waiting};
use super::message::Message;
use super::queue::{Queue, QueueState};
use super::request::{Held, Seq};
use crate::clock::Now;
use crate::fact::{Fact, encode};
use crate::queue::{Command, ConsumerId, Death, DeleteReason, Effect, Entry, Refusal};

/// What is to be done once no queue is locked.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) dead: VecDeque<Corpse>,
    /// Queues that ended by themselves.
    pub(super) ended: Vec<Arc<Queue>>,
    pub(super) wake: Vec<Arc<Mailbox>>,
}

/// A message on its way to a dead-letter exchange. It is in its queue's slots until it has moved.
#[derive(Clone, Debug)]
pub(super) struct Corpse {
    pub(super) queue: Arc<Queue>,
    pub(super) what: Remains,
    pub(super) reason: Death,
}

/// What is left of it.
#[derive(Clone, Debug)]
pub(super) enum Remains {
    /// It was in the queue.
    Entry(Entry),
    /// The queue refused it.
    Refused(Arc<Message>),
}

/// What the caller of a command asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Got {
        entry: Entry,
        ready: u64,
    },
    GotNothing,
    Refused(Refusal),
    /// Messages purged or deleted.
    Removed(u64),
}

impl Broker {
    /// Applies one command to a queue and carries out what follows under its lock.
    pub(super) fn apply(
        &self,
        queue: &Arc<Queue>,
        state: &mut QueueState,
        command: Command<'_>,
        now: Now,
        work: &mut Work,
    ) -> Option<Answer> {
        let mut effects = std::mem::take(&mut state.effects);
        state.machine.apply(command, now, &mut effects);
        let mut run =
            Run { queue, state, work, now, ended: Vec::new(), answer: None, taken_later: None };
        for effect in effects.drain(..) {
            run.carry_out(effect);
        }
        let Run { ended, answer, .. } = run;
        if effects.capacity() <= EFFECTS_KEPT_MAX {
            state.effects = effects;
        }
        self.log_ended(queue, state, ended);
        self.weigh(state);
        let deadline = state.machine.deadline();
        if deadline != state.deadline {
            self.timers().change(queue.id, state.deadline, deadline);
            state.deadline = deadline;
        }
        answer
    }

    /// Counts what the queue keeps in memory alone. Small changes are told later.
    pub(super) fn weigh(&self, state: &mut QueueState) {
        let bytes = state.slots.memory();
        if bytes.abs_diff(state.weighed) < WEIGHED_BYTES && (bytes > 0 || state.weighed == 0) {
            return;
        }
        match bytes.checked_sub(state.weighed) {
            Some(more) => self.memory.fetch_add(more, Ordering::Relaxed),
            None => self.memory.fetch_sub(state.weighed - bytes, Ordering::Relaxed),
        };
        state.weighed = bytes;
    }

    /// Whether messages that would be in memory alone are taken no more.
    #[must_use]
    pub fn is_short_of_memory(&self) -> bool {
        self.memory.load(Ordering::Relaxed) >= self.node.memory_bytes_max
    }

    /// Whether the disk has no room for anything new.
    #[must_use]
    pub fn is_short_of_disk(&self) -> bool {
        matches!(self.store.reserve(Purpose::Grow, 1, 0), Err(Refused::DiskFull))
    }

    /// Logs what ended and what was counted. Nobody waits for it: it costs no sync of its own, and without
    /// room it is said later.
    pub(super) fn log_ended(&self, queue: &Queue, state: &mut QueueState, ended: Vec<Lsn>) {
        state.unlogged.extend(ended);
        if state.unlogged.is_empty() && state.counts.is_empty() {
            return;
        }
        let bytes = state.unlogged.len() * 8 + state.counts.len() * COUNT_BYTES;
        let Ok(reservation) = self.store.reserve(Purpose::Shrink, 2, bytes) else { return };
        let mut frame = Frame::new();
        let mut messages = std::mem::take(&mut state.unlogged);
        if !messages.is_empty() {
            messages.sort_unstable();
            frame.push(Item::Settle { queue: queue.id, messages });
        }
        let counts = std::mem::take(&mut state.counts);
        if !counts.is_empty() {
            let fact = BrokerFact::Counted { queue: queue.id.0, counts };
            frame.push(Item::State { payload: Bytes::from(encode(&Fact::Broker(fact))) });
        }
        state.applied = self.store.append(reservation, frame.patient()).lsn;
    }

    /// Does what was left over until nothing is. No queue may be locked.
    pub(super) fn finish(&self, mut work: Work, now: Now) {
        // a move may fill another queue, which buries in turn: cycles are cut by the traces of death
        loop {
            for mailbox in std::mem::take(&mut work.wake) {
                if let Some(waker) = mailbox.waker() {
                    waker.wake();
                }
            }
            if let Some(queue) = work.ended.pop() {
                self.forget_queue(&queue);
            } else if let Some(corpse) = work.dead.pop_front() {
                self.bury(corpse, now, &mut work);
            } else if work.wake.is_empty() {
                return;
            }
        }
    }
}

struct Run<'a> {
    queue: &'a Arc<Queue>,
    state: &'a mut QueueState,
    work: &'a mut Work,
    now: Now,
    ended: Vec<Lsn>,
    answer: Option<Answer>,
    /// Delivered without acknowledgement: it ends when its body has been read.
    taken_later: Option<Lsn>,
}

impl Run<'_> {
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Consuming { .. } => {}
            Effect::Deliver { consumer, entry } => self.deliver(consumer, entry),
            Effect::Got { entry, ready } => {
                self.delivered(entry.seq);
                self.taken_later = Some(entry.seq);
                self.answer = Some(Answer::Got { entry, ready });
            }
            Effect::GotNothing => self.answer = Some(Answer::GotNothing),
            Effect::Settled { seq } => {
                if self.taken_later.take() != Some(seq) {
                    self.state.count_passage(self.now.monotonic, |traffic| traffic.acked += 1);
                    self.end(seq);
                }
            }
            Effect::DeadLetter { entry, reason } => {
                let queue = Arc::clone(self.queue);
                self.work.dead.push_back(Corpse { queue, what: Remains::Entry(entry), reason });
            }
            Effect::Drop { entry, .. } => self.end(entry.seq),
            Effect::CountDelivery { seq, delivery_count, acquired_count } => {
                self.count(seq, delivery_count, acquired_count);
            }
            Effect::TimedOut { channel, seq } => {
                let message = Held { queue: self.queue.id, seq: Seq(seq.0) };
                let consumers = self.state.consumers.values();
                let found = consumers.into_iter().find(|consumer| consumer.channel == channel);
                if let Some(mailbox) = found.map(|consumer| Arc::clone(&consumer.mailbox)) {
                    self.put(mailbox, Waiting::Ready(Parcel::TimedOut { channel, message }));
                }
            }
            Effect::CancelConsumer { consumer, .. } => {
                if let Some(gone) = self.state.consumers.remove(&consumer) {
                    let parcel = Parcel::Cancelled { channel: gone.channel, tag: gone.tag };
                    self.put(gone.mailbox, Waiting::Ready(parcel));
                }
            }
            Effect::Purged { messages } => {
                let count = u64::try_from(messages.len()).unwrap_or(u64::MAX);
                messages.into_iter().for_each(|seq| self.end(seq));
                self.answer = Some(Answer::Removed(count));
            }
            Effect::Deleted { reason, ready } => {
                self.answer = Some(Answer::Removed(ready));
                self.state.slots.forget_memory();
                if reason != DeleteReason::Asked {
                    self.work.ended.push(Arc::clone(self.queue));
                }
            }
            Effect::Refused(refusal) => self.answer = Some(Answer::Refused(refusal)),
        }
    }

    fn deliver(&mut self, id: ConsumerId, entry: Entry) {
        let Some(consumer) = self.state.consumers.get(&id) else { return };
        let Some(slot) = self.state.slots.get(Seq(entry.seq.0)) else { return };
        let promise = Promise {
            channel: consumer.channel,
            tag: Arc::clone(&consumer.tag),
            consumer: id,
            queue: Arc::clone(self.queue),
            entry,
            source: slot.source(),
            no_ack: consumer.no_ack,
        };
        let (mailbox, no_ack) = (Arc::clone(&consumer.mailbox), consumer.no_ack);
        self.delivered(entry.seq);
        self.state.count_passage(self.now.monotonic, |traffic| {
            traffic.redelivered += u64::from(entry.redelivered);
            *(if no_ack { &mut traffic.delivered_no_ack } else { &mut traffic.delivered }) += 1;
        });
        let reached = self.put(mailbox, Waiting::Delivery(promise));
        self.taken_later = (no_ack && reached).then_some(entry.seq);
    }

    /// Notes how far messages were delivered.
    fn delivered(&mut self, seq: Lsn) {
        if let Some(lsn) = self.state.slots.get(Seq(seq.0)).and_then(super::slots::Slot::lsn) {
            self.state.delivered.upto = self.state.delivered.upto.max(lsn.0);
        }
    }

    fn put(&mut self, mailbox: Arc<Mailbox>, parcel: Waiting) -> bool {
        let reached = mailbox.put(parcel);
        if !self.work.wake.iter().any(|known| Arc::ptr_eq(known, &mailbox)) {
            self.work.wake.push(mailbox);
        }
        reached
    }

    fn end(&mut self, seq: Lsn) {
        self.ended.extend(self.state.slots.remove(Seq(seq.0)));
    }

    fn count(&mut self, seq: Lsn, delivery_count: u32, acquired_count: u32) {
        let Some(slot) = self.state.slots.get_mut(Seq(seq.0)) else { return };
        slot.entry.delivery_count = delivery_count;
        slot.entry.acquired_count = acquired_count;
        let lsn = slot.lsn();
        if self.queue.is_quorum()
            && let Some(lsn) = lsn
        {
            self.state.counts.push((lsn.0, delivery_count, acquired_count));
        }
    }
}

/// Bytes in memory alone by which a queue may be wrong.
const WEIGHED_BYTES: u64 = 4096;
/// Effects of one command whose room is kept for the next.
const EFFECTS_KEPT_MAX: usize = 64;
/// Bytes of one count in a fact, at most.
const COUNT_BYTES: usize = 20;
