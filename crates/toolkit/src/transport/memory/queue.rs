//! A queue in memory: each message to one consumer, delayed ones when their time has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::envelope::Envelope;
use crate::error::Error;
use crate::transport::feed::{Credit, Event, Handed, Lane, RawFeed, feed};
use crate::transport::orders::{Order, orders};
use crate::transport::{Parcel, Settlement, Settler, Token};

#[derive(Debug)]
pub(super) struct MemoryQueue {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    ready: BTreeMap<u64, Envelope>,
    delayed: BTreeMap<(Instant, u64), Envelope>,
    held: BTreeMap<u64, Envelope>,
    closed: bool,
}

impl MemoryQueue {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(0) }
    }

    pub(super) fn publish(&self, batch: Vec<Parcel>) {
        let mut state = self.state();
        for Parcel { envelope, delay } in batch {
            let number = state.next;
            state.next += 1;
            match delay {
                Some(delay) => {
                    state.delayed.insert((Instant::now() + delay, number), envelope);
                }
                None => {
                    state.ready.insert(number, envelope);
                }
            }
        }
        drop(state);
        self.tell();
    }

    pub(super) fn depth(&self) -> u64 {
        let state = self.state();
        let count = state.ready.len() + state.delayed.len() + state.held.len();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// Nobody reads from it any more.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.tell();
    }

    /// The first message that is ready, which the caller then holds.
    fn take(&self) -> Option<(u64, Envelope)> {
        let mut state = self.state();
        let now = Instant::now();
        while let Some(first) = state.delayed.first_entry()
            && first.key().0 <= now
        {
            let ((_, number), envelope) = first.remove_entry();
            let number = if state.ready.is_empty() { number } else { state.next };
            state.next = state.next.max(number + 1);
            state.ready.insert(number, envelope);
        }
        let (number, envelope) = state.ready.pop_first()?;
        state.held.insert(number, envelope.clone());
        Some((number, envelope))
    }

    fn next_due(&self) -> Option<Instant> {
        self.state().delayed.first_key_value().map(|((due, _), _)| *due)
    }

    /// Back to where it was.
    fn give_back(&self, number: u64) {
        let mut state = self.state();
        if let Some(envelope) = state.held.remove(&number) {
            state.ready.insert(number, envelope);
        }
        drop(state);
        self.tell();
    }

    fn end(&self, number: u64) {
        self.state().held.remove(&number);
    }

    fn tell(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins to consume, in a task of its own.
pub(super) fn subscribe(queue: &Arc<MemoryQueue>, max_in_flight: u32) -> RawFeed {
    let (out, events) = feed(max_in_flight);
    let (control, orders) = orders();
    let consumer = Arc::new(Consumer {
        queue: Arc::clone(queue),
        held: Mutex::default(),
        settled: watch::Sender::new(0),
    });
    let max = usize::try_from(max_in_flight).unwrap_or(usize::MAX);
    tokio::spawn(Arc::clone(&consumer).run(out, orders, max));
    RawFeed::new(events, control)
}

/// One consumer and what it holds.
#[derive(Debug)]
struct Consumer {
    queue: Arc<MemoryQueue>,
    held: Mutex<BTreeSet<u64>>,
    settled: watch::Sender<u64>,
}

impl Consumer {
    async fn run(self: Arc<Self>, out: Credit, mut orders: mpsc::Receiver<Order>, max: usize) {
        let mut changed = self.queue.changed.subscribe();
        let mut settled = self.settled.subscribe();
        let mut stopped = false;
        loop {
            changed.mark_unchanged();
            settled.mark_unchanged();
            if self.queue.state().closed {
                drop(out.try_send(Err(Error::Closed("the memory broker"))));
                return;
            }
            while !stopped && !out.is_closed() && self.held().len() < max && out.capacity() > 0 {
                let Some((number, envelope)) = self.queue.take() else { break };
                self.held().insert(number);
                let settler: Arc<dyn Settler> = Arc::clone(&self) as Arc<dyn Settler>;
                let settlement = Settlement::new(settler, Token { lane: Lane(0), number });
                let handed = Handed { envelope, redelivered: 0, settlement };
                drop(out.try_send(Ok(Event::Delivery(handed)))); // refused: dropped, given back
            }
            let due = self.queue.next_due();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Stop(done)) => { stopped = true; done.send(()).ok(); }
                    Some(Order::Close(done)) => { self.leave(); drop(done.send(Ok(()))); return; }
                    None => return self.leave(), // the feed was dropped
                },
                _ = changed.changed() => {}
                _ = settled.changed() => {}
                () = due_at(due) => {}
            }
        }
    }

    fn leave(&self) {
        let held = std::mem::take(&mut *self.held());
        for number in held {
            self.queue.give_back(number);
        }
    }

    fn held(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settler for Consumer {
    fn ack(&self, token: Token) {
        if self.held().remove(&token.number) {
            self.queue.end(token.number);
            self.settled.send_modify(|version| *version += 1);
        }
    }

    fn release(&self, token: Token) {
        if self.held().remove(&token.number) {
            self.queue.give_back(token.number);
            self.settled.send_modify(|version| *version += 1);
        }
    }
}

async fn due_at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
