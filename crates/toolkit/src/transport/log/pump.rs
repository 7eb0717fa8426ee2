//! One consumer of a topic: reads the partitions it owns, hands out within its credit, commits what is
//! settled, lets go what is another's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::tracker::{Tracker, Trackers};
use super::{Group, PartitionLog};
use crate::envelope::Envelope;
use crate::error::Result;
use crate::transport::feed::{Credit, Event, Handed, Lane, RawFeed, Revoked, feed};
use crate::transport::orders::{Order, orders};
use crate::transport::{Settlement, Settler, Token};

/// Who reads what.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) log: Arc<dyn PartitionLog>,
    /// Its name and its members; `None`: all of it from the beginning.
    pub(crate) group: Option<(String, Arc<Group>)>,
    pub(crate) max_in_flight: u32,
}

/// Begins to read, in a task of its own.
pub(crate) fn subscribe(reading: Reading) -> RawFeed {
    let (out, events) = feed(reading.max_in_flight);
    let shared = Arc::new(Shared { state: Mutex::default(), wake: Notify::new() });
    let (control, orders) = orders();
    let member = reading.group.as_ref().map(|(_, group)| group.join());
    let pump = Pump {
        arrivals: reading.log.arrivals(),
        changes: reading.group.as_ref().map(|(_, group)| group.changes()),
        member,
        shared: Arc::clone(&shared),
        out,
        orders,
        revoking: Vec::new(),
        targets: None,
        stopped: false,
        commit_at: None,
        turn: 0,
        reading,
    };
    tokio::spawn(pump.run());
    RawFeed::new(events, control)
}

/// What settlements change.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    trackers: Trackers,
    in_flight: u32,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settler for Shared {
    fn ack(&self, token: Token) {
        let mut state = self.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        if let Some(tracker) = state.trackers.get_mut(&token.lane.0) {
            tracker.ack(token.number);
        }
        drop(state);
        self.wake.notify_one();
    }

    fn release(&self, token: Token) {
        let mut state = self.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        if let Some(tracker) = state.trackers.get_mut(&token.lane.0) {
            tracker.release(token.number);
        }
        drop(state);
        self.wake.notify_one();
    }
}

/// Partitions on their way to another consumer.
#[derive(Debug)]
struct Revoking {
    partitions: BTreeSet<u32>,
    done: oneshot::Receiver<()>,
    deadline: Instant,
}

#[derive(Debug)]
struct Pump {
    reading: Reading,
    arrivals: watch::Receiver<u64>,
    changes: Option<watch::Receiver<u64>>,
    member: Option<u64>,
    shared: Arc<Shared>,
    out: Credit,
    orders: mpsc::Receiver<Order>,
    revoking: Vec<Revoking>,
    /// Ends as they were at the beginning; `None` once they were passed, or nobody asked.
    targets: Option<BTreeMap<u32, u64>>,
    stopped: bool,
    commit_at: Option<Instant>,
    turn: u32,
}

impl Pump {
    async fn run(mut self) {
        if let Err(error) = self.begin() {
            drop(self.out.send(Err(error)).await);
            return;
        }
        loop {
            self.arrivals.mark_unchanged();
            if let Some(changes) = &mut self.changes {
                changes.mark_unchanged();
            }
            self.finish_revocations();
            self.rebalance();
            if let Err(error) = self.fill() {
                drop(self.out.send(Err(error)).await);
                break;
            }
            self.announce_live();
            self.schedule_commit();
            match self.wait().await {
                Woken::News => {}
                Woken::Commit => drop(self.commit()),
                Woken::Stop(done) => {
                    self.stopped = true;
                    done.send(()).ok();
                }
                Woken::Close(done) => {
                    let committed = self.leave();
                    drop(done.map(|done| done.send(committed)));
                    return;
                }
            }
        }
        drop(self.leave());
    }

    /// A reader without a group owns everything from the beginning.
    fn begin(&mut self) -> Result<()> {
        if self.member.is_some() {
            return Ok(());
        }
        let mut targets = BTreeMap::new();
        let mut trackers = Trackers::new();
        for partition in 0..self.reading.log.partitions() {
            let (start, end) = self.reading.log.bounds(partition)?;
            trackers.insert(partition, Tracker::new(start));
            targets.insert(partition, end);
        }
        self.shared.state().trackers = trackers;
        self.targets = Some(targets);
        Ok(())
    }

    async fn wait(&mut self) -> Woken {
        let commit_at = self.commit_at;
        let revoked = self.revoking.iter().map(|revoking| revoking.deadline).min();
        let changes = &mut self.changes;
        let revocation = &mut self.revoking;
        tokio::select! {
            biased;
            order = self.orders.recv() => match order {
                Some(Order::Stop(done)) => Woken::Stop(done),
                Some(Order::Close(done)) => Woken::Close(Some(done)),
                None => Woken::Close(None), // the feed was dropped
            },
            () = sleep_until(commit_at) => Woken::Commit,
            () = self.shared.wake.notified() => Woken::News,
            _ = self.arrivals.changed() => Woken::News,
            () = changed(changes) => Woken::News,
            () = any_done(revocation) => Woken::News,
            () = sleep_until(revoked) => Woken::News,
        }
    }

    /// Takes what is due to this member, and tells it what is another's.
    fn rebalance(&mut self) {
        let (Some(member), Some((name, group))) = (self.member, &self.reading.group) else {
            return;
        };
        let turn = group.turn(member, self.reading.log.partitions());
        let log = &self.reading.log;
        let mut state = self.shared.state();
        for partition in turn.gained {
            let start = log.bounds(partition).map_or(0, |(start, _)| start);
            let position = log.committed(name, partition).unwrap_or(start).max(start);
            state.trackers.insert(partition, Tracker::new(position));
        }
        drop(state);
        let known =
            |partition: &u32| self.revoking.iter().any(|r| r.partitions.contains(partition));
        let partitions: BTreeSet<u32> = turn.lost.into_iter().filter(|p| !known(p)).collect();
        if partitions.is_empty() {
            return;
        }
        let (told, done) = oneshot::channel();
        let lanes = partitions.iter().copied().map(Lane).collect();
        let event = Event::Revoked(Revoked { lanes, done: Some(told) });
        if self.out.try_send(Ok(event)).is_ok() {
            let deadline = Instant::now() + REVOKE_MAX;
            self.revoking.push(Revoking { partitions, done, deadline });
        }
    }

    /// Lets go what nobody works on any more.
    fn finish_revocations(&mut self) {
        if self.revoking.is_empty() {
            return;
        }
        let idle = |state: &State, partitions: &BTreeSet<u32>| {
            partitions.iter().all(|p| state.trackers.get(p).is_none_or(Tracker::is_idle))
        };
        let mut gone = BTreeSet::new();
        let now = Instant::now();
        let state = self.shared.state();
        self.revoking.retain_mut(|revoking| {
            let told =
                !matches!(revoking.done.try_recv(), Err(oneshot::error::TryRecvError::Empty));
            let over = told || now >= revoking.deadline || idle(&state, &revoking.partitions);
            if over {
                gone.append(&mut revoking.partitions);
            }
            !over
        });
        drop(state);
        drop(self.commit());
        if let (Some(member), Some((_, group))) = (self.member, &self.reading.group) {
            for partition in gone {
                self.shared.state().trackers.remove(&partition);
                group.let_go(member, partition);
            }
        }
    }

    /// Hands out while there is credit, partition by partition.
    fn fill(&mut self) -> Result<()> {
        if self.stopped || self.out.is_closed() {
            return Ok(());
        }
        let partitions: Vec<u32> = self.shared.state().trackers.keys().copied().collect();
        let count = u32::try_from(partitions.len()).unwrap_or(u32::MAX).max(1);
        self.turn = (self.turn + 1) % count;
        let first = usize::try_from(self.turn).unwrap_or(0);
        for partition in partitions.iter().cycle().skip(first).take(partitions.len()) {
            if self.revoking.iter().any(|revoking| revoking.partitions.contains(partition)) {
                continue;
            }
            self.hand_out(*partition)?;
        }
        Ok(())
    }

    fn hand_out(&self, partition: u32) -> Result<()> {
        loop {
            let (room, again, position) = {
                let mut state = self.shared.state();
                let room = self.reading.max_in_flight.saturating_sub(state.in_flight);
                let room = room.min(u32::try_from(self.out.capacity()).unwrap_or(room));
                let Some(tracker) = state.trackers.get_mut(&partition) else { return Ok(()) };
                if room == 0 {
                    return Ok(());
                }
                (room, tracker.pop_again(), tracker.position())
            };
            let (from, max) = match again {
                Some(offset) => (offset, 1),
                None => (position, usize::try_from(room).unwrap_or(READ_MAX).min(READ_MAX)),
            };
            let piece = self.reading.log.read(partition, from, max)?;
            if let Some(offset) = again
                && piece.records.first().is_none_or(|(found, _)| *found != offset)
            {
                let mut state = self.shared.state(); // deleted meanwhile
                state.trackers.get_mut(&partition).map(|tracker| tracker.ack(offset));
                continue;
            }
            let empty = piece.records.is_empty();
            for (offset, envelope) in piece.records.into_iter().take(max) {
                if !self.hand(partition, offset, envelope) {
                    return Ok(());
                }
            }
            if again.is_some() {
                continue;
            }
            if empty {
                let mut state = self.shared.state();
                if let Some(tracker) = state.trackers.get_mut(&partition) {
                    tracker.read_to(piece.next);
                }
                if piece.next <= from {
                    return Ok(());
                }
            }
        }
    }

    /// False: there is no room.
    fn hand(&self, partition: u32, offset: u64, envelope: Envelope) -> bool {
        let token = Token { lane: Lane(partition), number: offset };
        {
            let mut state = self.shared.state();
            let Some(tracker) = state.trackers.get_mut(&partition) else { return false };
            tracker.handed_out(offset);
            state.in_flight += 1;
        }
        let settler: Arc<dyn Settler> = Arc::clone(&self.shared) as Arc<dyn Settler>;
        let settlement = Settlement::new(settler, token);
        let handed = Handed { envelope, redelivered: 0, settlement };
        self.out.try_send(Ok(Event::Delivery(handed))).is_ok() // else dropped: given back
    }

    fn announce_live(&mut self) {
        let Some(targets) = &self.targets else { return };
        let state = self.shared.state();
        let passed = |(partition, end): (&u32, &u64)| {
            state.trackers.get(partition).is_some_and(|tracker| tracker.position() >= *end)
        };
        let live = targets.iter().all(passed);
        drop(state);
        if live && self.out.try_send(Ok(Event::Live)).is_ok() {
            self.targets = None;
        }
    }

    fn schedule_commit(&mut self) {
        if self.commit_at.is_none() && self.reading.group.is_some() {
            let moved = self.shared.state().trackers.values().any(Tracker::has_moved);
            self.commit_at = moved.then(|| Instant::now() + COMMIT_EVERY);
        }
    }

    fn commit(&mut self) -> Result<()> {
        self.commit_at = None;
        let Some((name, _)) = &self.reading.group else { return Ok(()) };
        let mut state = self.shared.state();
        let moved = state.trackers.iter_mut();
        let positions: Vec<(u32, u64)> =
            moved.filter_map(|(partition, t)| t.take_commit().map(|at| (*partition, at))).collect();
        drop(state);
        if positions.is_empty() {
            return Ok(());
        }
        let committed = self.reading.log.commit(name, &positions);
        if let Err(error) = &committed {
            tracing::warn!(group = name, %error, "positions were not committed");
            self.shared.state().trackers.values_mut().for_each(Tracker::commit_failed);
        }
        committed
    }

    fn leave(&mut self) -> Result<()> {
        let committed = self.commit();
        self.shared.state().trackers.clear(); // what is settled later changes nothing
        if let (Some(member), Some((_, group))) = (self.member, &self.reading.group) {
            group.leave(member);
        }
        committed
    }
}

enum Woken {
    News,
    Commit,
    Stop(oneshot::Sender<()>),
    Close(Option<oneshot::Sender<Result<()>>>),
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

async fn changed(changes: &mut Option<watch::Receiver<u64>>) {
    if let Some(changes) = changes
        && changes.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Resolves when a revocation was carried out.
async fn any_done(revoking: &mut [Revoking]) {
    std::future::poll_fn(|context| {
        let done = revoking
            .iter_mut()
            .any(|revoking| std::pin::Pin::new(&mut revoking.done).poll(context).is_ready());
        if done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// Records read at a time.
const READ_MAX: usize = 256;
/// How long settled positions wait to be committed: what a crash delivers again.
const COMMIT_EVERY: Duration = Duration::from_millis(100);
/// How long a consumer may take to let a partition go.
const REVOKE_MAX: Duration = Duration::from_secs(30);
