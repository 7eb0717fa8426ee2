//! Messages into queues and streams and out of them, in one frame of the log: publishes, moves, transactions.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};

use bytes::Bytes;
use ottla_store::frame::{Frame, Item};
use ottla_store::{Lsn, Purpose, Refused, StreamId};

use super::Broker;
use super::effects::{Corpse, Remains, Work};
use super::message::Message;
use super::queue::{Queue, QueueState};
use super::request::Seq;
use super::stream::{Additions, additions};
use crate::clock::Now;
use crate::queue::{Acceptance, Command, Death, Entry};
use crate::topic::PartitionState;

/// A message and the queues it was routed to.
#[derive(Clone, Debug)]
pub(super) struct Arriving {
    pub(super) message: Arc<Message>,
    /// Each once.
    pub(super) targets: Arc<[Arc<Queue>]>,
    /// Not visible before this place is durable.
    pub(super) after: Option<Lsn>,
}

/// Messages that leave a queue in the same frame. What is not there (any more) is ignored.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    pub(super) queue: Arc<Queue>,
    pub(super) seqs: Vec<Seq>,
    /// Only if this one of those that arrive was taken in by all its queues; `None`: in any case.
    pub(super) with: Option<usize>,
}

/// What became of an arriving message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arrived {
    /// A queue took it in.
    pub(super) taken: bool,
    /// A queue refused it.
    pub(super) rejected: bool,
    /// Where it stands in the log, if a queue or a stream has it there.
    pub(super) lsn: Option<Lsn>,
}

/// All queues that take part, locked in ascending order.
type Guards<'a> = BTreeMap<StreamId, (&'a Arc<Queue>, MutexGuard<'a, QueueState>)>;

/// The partitions of all streams that take part, locked in ascending order.
type Partitions<'a> = Vec<(&'a Additions, MutexGuard<'a, PartitionState>)>;

/// The frame, and who takes what.
#[derive(Default)]
struct Plan {
    frame: Frame,
    items: usize,
    fates: Vec<Fate>,
}

/// What is to become of one message.
struct Fate {
    /// Who takes it, and whether the queue logs it.
    takers: Vec<(StreamId, bool)>,
    /// Which items of the frame it is in: for queues, and for each stream.
    items: Vec<usize>,
    /// Among them, that of the queues.
    own: Option<usize>,
    rejected: bool,
}

impl Broker {
    /// Appends one frame with all that arrives and leaves; both take place together or not at all.
    /// Returns the place of the frame, if there was anything to log.
    pub(super) fn arrive(
        &self,
        purpose: Purpose,
        arriving: &[Arriving],
        leaving: &[Leaving],
        now: Now,
        work: &mut Work,
    ) -> Result<(Vec<Arrived>, Option<Lsn>), Refused> {
        let bodies: Vec<Option<Bytes>> = arriving.iter().map(Arriving::encode).collect();
        let streams = additions(arriving, now);
        let (items, bytes) = size(arriving, leaving, &bodies, &streams);
        let reservation = match items {
            0 => None,
            items => Some(self.store.reserve(purpose, items, bytes)?), // before anything changes
        };
        let mut guards = lock(arriving, leaving);
        let mut plan = Plan::default();
        plan.leave(leaving, &mut guards);
        for (arrives, body) in arriving.iter().zip(bodies) {
            plan.take_in(arrives, body, &mut guards, work);
        }
        plan.leave_along(leaving, &mut guards);
        let mut partitions = lock_partitions(&streams);
        for (additions, _) in &partitions {
            plan.add(additions);
        }
        let appended = match reservation {
            Some(reservation) if plan.items > 0 => Some(self.store.append(reservation, plan.frame)),
            _ => None,
        };
        let frame = appended.as_ref().map(|appended| appended.lsn);
        if let Some(lsn) = frame {
            guards.values_mut().for_each(|(_, state)| state.applied = lsn);
            partitions.iter_mut().for_each(|(_, state)| state.applied = lsn);
        }
        drop(partitions);
        let mut arrived = Vec::with_capacity(arriving.len());
        for (arrives, fate) in arriving.iter().zip(plan.fates) {
            let places = appended.as_ref().map(|appended| appended.items.as_slice());
            let place = |item: usize| places.and_then(|places| places.get(item).copied());
            let lsn = fate.own.and_then(place);
            let taken = !fate.takers.is_empty();
            for (id, logs) in fate.takers {
                if let Some((queue, state)) = guards.get_mut(&id) {
                    self.enter(queue, state, arrives, lsn.filter(|_| logs), now, work);
                }
            }
            let newest = fate.items.into_iter().filter_map(place).max();
            arrived.push(Arrived { taken, rejected: fate.rejected, lsn: newest });
        }
        guards.values_mut().for_each(|(_, state)| self.weigh(state));
        drop(guards);
        let durable = self.store.durable();
        if frame.is_some_and(|lsn| lsn.is_durable(durable)) {
            self.show(durable, now, work); // the log was faster than this thread
        }
        Ok((arrived, frame))
    }

    /// One message for one queue that takes it in: what most publishes are, without the plan that the others
    /// need. `None`: it is not that simple, and nothing has happened.
    fn arrive_alone(
        &self,
        arrives: &Arriving,
        now: Now,
        work: &mut Work,
    ) -> Result<Option<Arrived>, Refused> {
        let Some(queue) = arrives.lone_queue() else { return Ok(None) };
        let head = &arrives.message.head;
        let logged = match queue.logs(head) {
            true => {
                let body = arrives.message.encode();
                Some((self.store.reserve(Purpose::Grow, 1, body.len() + 8)?, body))
            }
            false => None,
        };
        let mut state = queue.lock();
        let simple = !state.machine.is_gone()
            && state.delayed.is_none()
            && state.machine.accepts(head.bytes) == Acceptance::Accept;
        if !simple {
            return Ok(None);
        }
        state.machine.stage(head.bytes);
        let lsn = logged.map(|(reservation, body)| {
            let mut frame = Frame::new();
            frame.push(Item::Message { queues: vec![queue.id], body });
            let appended = self.store.append(reservation, frame);
            state.applied = appended.lsn;
            appended.items.first().copied().unwrap_or(appended.lsn)
        });
        self.enter(queue, &mut state, arrives, lsn, now, work);
        self.weigh(&mut state);
        drop(state);
        let durable = self.store.durable();
        if lsn.is_some_and(|lsn| lsn.is_durable(durable)) {
            self.show(durable, now, work); // the log was faster than this thread
        }
        Ok(Some(Arrived { taken: true, rejected: false, lsn }))
    }

    /// A publish by itself.
    pub(super) fn arrive_one(
        &self,
        arrives: Arriving,
        now: Now,
        work: &mut Work,
    ) -> Result<Arrived, Refused> {
        if let Some(arrived) = self.arrive_alone(&arrives, now, work)? {
            return Ok(arrived);
        }
        let (arrived, _) = self.arrive(Purpose::Grow, &[arrives], &[], now, work)?;
        Ok(arrived.first().copied().unwrap_or_default())
    }

    /// Puts a message into a queue that has accepted it: visible at once, or when its place is durable.
    fn enter(
        &self,
        queue: &Arc<Queue>,
        state: &mut QueueState,
        arrives: &Arriving,
        lsn: Option<Lsn>,
        now: Now,
        work: &mut Work,
    ) {
        if let (Some(delayed), Some(lsn)) = (&mut state.delayed, lsn) {
            delayed.push(lsn.0, arrives.message.head.due());
            return self.watch(queue, state);
        }
        state.count_passage(now.monotonic, |traffic| traffic.published += 1);
        let entry = state.entry(&arrives.message.head);
        match lsn {
            Some(lsn) => state.slots.push_logged(entry, lsn),
            None => state.slots.push_memory(entry, Arc::clone(&arrives.message)),
        }
        // what came before in this queue is seen before
        let earlier = state.pending.back().map(|(at, _)| *at);
        let at = lsn.into_iter().chain(arrives.after).chain(earlier).max();
        match at {
            Some(at) if earlier.is_some() || !at.is_durable(self.store.durable()) => {
                state.pending.push_back((at, entry));
                if earlier.is_none() {
                    self.pending().insert((at, queue.id), Arc::clone(queue));
                }
            }
            _ => {
                self.apply(queue, state, Command::Visible { entries: &[entry] }, now, work);
            }
        }
    }

    /// Makes visible what waited for `upto` to be durable, queue by queue in the order of the log.
    pub(super) fn show(&self, upto: Lsn, now: Now, work: &mut Work) {
        loop {
            let next = {
                let mut pending = self.pending();
                let first = pending.first_entry().filter(|first| first.key().0.is_durable(upto));
                first.map(|first| first.remove())
            };
            let Some(queue) = next else { return };
            let mut state = queue.lock();
            let count = state.pending.iter().take_while(|(at, _)| at.is_durable(upto)).count();
            let entries: Vec<Entry> =
                state.pending.drain(..count).map(|(_, entry)| entry).collect();
            if let Some((at, _)) = state.pending.front() {
                self.pending().insert((*at, queue.id), Arc::clone(&queue));
            }
            if !entries.is_empty() && !state.machine.is_gone() {
                self.apply(&queue, &mut state, Command::Visible { entries: &entries }, now, work);
            }
        }
    }
}

impl Arriving {
    /// The queue it goes to, if that is one alone and no stream.
    fn lone_queue(&self) -> Option<&Arc<Queue>> {
        match &*self.targets {
            [queue] if !queue.is_stream() => Some(queue),
            _ => None,
        }
    }

    /// Whether a queue would have it in memory alone.
    pub(super) fn stays_in_memory(&self) -> bool {
        let head = &self.message.head;
        self.targets.iter().any(|queue| !queue.is_stream() && !queue.logs(head))
    }

    /// As it stands in the log, if any queue may want it there.
    fn encode(&self) -> Option<Bytes> {
        let logged = self.targets.iter().any(|queue| queue.logs(&self.message.head));
        logged.then(|| self.message.encode())
    }
}

impl Plan {
    fn push(&mut self, item: Item) -> usize {
        self.frame.push(item);
        self.items += 1;
        self.items - 1
    }

    /// What leaves in any case.
    fn leave(&mut self, leaving: &[Leaving], guards: &mut Guards<'_>) {
        self.end(leaving.iter().filter(|leaves| leaves.with.is_none()), guards);
    }

    /// What leaves because it arrives elsewhere.
    fn leave_along(&mut self, leaving: &[Leaving], guards: &mut Guards<'_>) {
        let arrives = |index: usize| {
            self.fates.get(index).is_some_and(|fate| !fate.rejected && !fate.takers.is_empty())
        };
        let along: Vec<&Leaving> =
            leaving.iter().filter(|leaves| leaves.with.is_some_and(arrives)).collect();
        self.end(along.into_iter(), guards);
    }

    fn end<'a>(&mut self, leaving: impl Iterator<Item = &'a Leaving>, guards: &mut Guards<'_>) {
        for leaves in leaving {
            let Some((_, state)) = guards.get_mut(&leaves.queue.id) else { continue };
            let ended = leaves.seqs.iter().filter_map(|seq| state.remove(*seq));
            let mut messages: Vec<Lsn> = ended.collect();
            if !messages.is_empty() {
                messages.sort_unstable();
                self.push(Item::Settle { queue: leaves.queue.id, messages });
            }
        }
    }

    /// Asks every queue whether it takes the message.
    fn take_in(
        &mut self,
        arrives: &Arriving,
        body: Option<Bytes>,
        guards: &mut Guards<'_>,
        work: &mut Work,
    ) {
        let head = &arrives.message.head;
        let mut takers = Vec::with_capacity(arrives.targets.len());
        let mut rejected = false;
        for target in arrives.targets.iter() {
            let Some((queue, state)) = guards.get_mut(&target.id) else { continue };
            if state.machine.is_gone() {
                continue;
            }
            if state.delayed.is_some() {
                takers.push((queue.id, true)); // nothing limits who waits
                continue;
            }
            let acceptance = state.machine.accepts(head.bytes);
            if acceptance == Acceptance::Accept {
                state.machine.stage(head.bytes);
                takers.push((queue.id, queue.logs(head)));
                continue;
            }
            rejected = true;
            if acceptance == Acceptance::RejectAndDeadLetter && state.rules_bury() {
                let what = Remains::Refused(Arc::clone(&arrives.message));
                let queue = Arc::clone(queue);
                work.dead.push_back(Corpse { queue, what, reason: Death::MaxLength });
            }
        }
        let queues: Vec<StreamId> = takers.iter().filter(|(_, logs)| *logs).map(|t| t.0).collect();
        let item = match body {
            Some(body) if !queues.is_empty() => Some(self.push(Item::Message { queues, body })),
            _ => None,
        };
        self.fates.push(Fate { takers, items: item.into_iter().collect(), own: item, rejected });
    }

    /// Adds the batches of a stream.
    fn add(&mut self, additions: &Additions) {
        let stream = additions.view.partition.stream();
        let first = self.items;
        for batch in &additions.batches {
            self.push(Item::Batch { stream, batch: batch.clone() });
        }
        for (message, batch) in &additions.members {
            if let Some(fate) = self.fates.get_mut(*message) {
                fate.items.push(first + batch);
            }
        }
        for message in &additions.refused {
            if let Some(fate) = self.fates.get_mut(*message) {
                fate.rejected = true;
            }
        }
    }
}

/// Items and bytes of the frame, at most.
fn size(
    arriving: &[Arriving],
    leaving: &[Leaving],
    bodies: &[Option<Bytes>],
    streams: &[Additions],
) -> (usize, usize) {
    let bodies = arriving.iter().zip(bodies).filter_map(|(arrives, body)| {
        body.as_ref().map(|body| body.len() + 8 * arrives.targets.len())
    });
    let leaves = leaving.iter().filter(|leaves| leaves.queue.is_logged());
    let batches = streams.iter().flat_map(|additions| &additions.batches);
    let batches = batches.map(ottla_store::batch::PreparedBatch::bytes_len);
    let (mut items, mut bytes) = (0, 0);
    for length in batches.chain(bodies).chain(leaves.map(|leaves| 8 * leaves.seqs.len())) {
        items += 1;
        bytes += length;
    }
    (items, bytes)
}

fn lock<'a>(arriving: &'a [Arriving], leaving: &'a [Leaving]) -> Guards<'a> {
    let targets = arriving.iter().flat_map(|arrives| arrives.targets.iter());
    let targets = targets.filter(|target| !target.is_stream());
    let queues = targets.chain(leaving.iter().map(|leaves| &leaves.queue));
    let queues: BTreeMap<StreamId, &Arc<Queue>> = queues.map(|queue| (queue.id, queue)).collect();
    queues.into_iter().map(|(id, queue)| (id, (queue, queue.lock()))).collect()
}

/// Those whose topics were not deleted meanwhile.
fn lock_partitions(streams: &[Additions]) -> Partitions<'_> {
    let locked = streams.iter().map(|additions| (additions, additions.view.partition.lock()));
    locked.filter(|(additions, _)| !additions.view.partition.is_closed()).collect()
}
