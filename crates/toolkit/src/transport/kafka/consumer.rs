//! One consumer of a group, on a thread of its own: librdkafka calls back while it is polled, and a
//! partition is let go only after what is in flight of it was settled and committed.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{ANSWER_MAX, config, failed, is_permanent, now_ms, patiently, unreachable, wire};
use crate::envelope::Envelope;
use crate::error::{Error, Result};
use crate::mint::Mint;
use crate::transport::feed::{Credit, Event, Handed, Lane, RawFeed, Revoked, feed};
use crate::transport::log::Tracker;
use crate::transport::orders::{Order, orders};
use crate::transport::{Settlement, Settler, Token};

/// Begins to read. Without a group: everything from the beginning.
pub(super) fn begin(
    brokers: &str,
    topic: &str,
    later: Option<String>,
    group: Option<String>,
    max: u32,
) -> Result<RawFeed> {
    let (out, events) = feed(max);
    let shared = Arc::new(Shared { state: Mutex::default(), settled: Condvar::new() });
    let names = Names { topic: topic.to_owned(), later };
    let context =
        Context { shared: Arc::clone(&shared), names: names.clone(), out: out.downgrade() };
    let name = group.clone().unwrap_or_else(|| format!("ottla-{}", Mint::system().id()));
    let consumer: BaseConsumer<Context> = config(brokers)
        .set("group.id", name)
        .set("enable.auto.commit", if group.is_some() { "true" } else { "false" })
        .set("enable.auto.offset.store", "false") // but what was settled
        .set("auto.commit.interval.ms", COMMIT_EVERY.as_millis().to_string())
        .set("auto.offset.reset", "earliest")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("fetch.wait.max.ms", "100")
        .create_with_context(context)
        .map_err(|error| Error::refused("setting up librdkafka", error))?;
    let (control, orders) = orders();
    let reader = Reader {
        brokers: brokers.to_owned(),
        consumer,
        shared,
        names,
        out,
        orders,
        max,
        grouped: group.is_some(),
        targets: None,
        later: BTreeMap::new(),
        held_back: false,
        stopped: false,
        broken: None,
        commit_at: Instant::now(),
    };
    let started = std::thread::Builder::new().name("ottla-kafka".to_owned()).spawn(|| reader.run());
    started.map_err(|error| Error::refused("starting a thread", error))?;
    Ok(RawFeed::new(events, control))
}

/// The topics of a consumer, and their partitions as lanes.
#[derive(Clone, Debug)]
struct Names {
    topic: String,
    later: Option<String>,
}

impl Names {
    fn lane(&self, topic: &str, partition: i32) -> Lane {
        let number = u32::try_from(partition).unwrap_or(0);
        Lane(if topic == self.topic { number } else { number + LATER })
    }

    fn place(&self, lane: Lane) -> (&str, i32) {
        match (lane.0.checked_sub(LATER), &self.later) {
            (Some(number), Some(later)) => (later, i32::try_from(number).unwrap_or(0)),
            _ => (&self.topic, i32::try_from(lane.0).unwrap_or(0)),
        }
    }
}

/// What settlements change.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lanes: BTreeMap<Lane, Reading>,
    in_flight: u32,
    closing: bool,
}

/// One partition.
#[derive(Debug)]
struct Reading {
    tracker: Tracker,
    /// What is unsettled, to be handed out again if it is given back.
    kept: BTreeMap<u64, Envelope>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, token: Token, settle: impl FnOnce(&mut Reading)) {
        let mut state = self.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        if let Some(reading) = state.lanes.get_mut(&token.lane) {
            settle(reading);
        }
        drop(state);
        self.settled.notify_all();
    }
}

impl Settler for Shared {
    fn ack(&self, token: Token) {
        self.settle(token, |reading| {
            reading.tracker.ack(token.number);
            reading.kept.remove(&token.number);
        });
    }

    fn release(&self, token: Token) {
        self.settle(token, |reading| {
            reading.tracker.release(token.number);
        });
    }
}

/// What librdkafka calls back.
struct Context {
    shared: Arc<Shared>,
    names: Names,
    out: mpsc::WeakSender<Result<Event>>,
}

impl ClientContext for Context {}

impl ConsumerContext for Context {
    /// Before partitions go: what is in flight of them is settled and committed.
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(gone) = rebalance else { return };
        let lanes: Vec<Lane> =
            gone.elements().iter().map(|e| self.names.lane(e.topic(), e.partition())).collect();
        if lanes.is_empty() {
            return;
        }
        if !self.shared.state().closing {
            self.wait_for(&lanes);
        }
        drop(commit(consumer, &self.shared, &self.names, &lanes)); // else delivered again
        let mut state = self.shared.state();
        lanes.iter().for_each(|lane| drop(state.lanes.remove(lane)));
    }

    /// What librdkafka commits now and then; what was not taken down, it commits again the next time.
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result
            && error.rdkafka_error_code() != Some(RDKafkaErrorCode::NoOffset)
        {
            tracing::warn!(%error, "positions were not committed: tried again");
        }
    }
}

impl Context {
    fn wait_for(&self, lanes: &[Lane]) {
        let (told, mut done) = oneshot::channel();
        let event = Event::Revoked(Revoked { lanes: lanes.to_vec(), done: Some(told) });
        if self.out.upgrade().is_none_or(|out| out.try_send(Ok(event)).is_err()) {
            return;
        }
        let deadline = Instant::now() + REVOKE_MAX;
        let mut state = self.shared.state();
        while Instant::now() < deadline {
            let idle = |lane: &Lane| state.lanes.get(lane).is_none_or(|r| r.tracker.is_idle());
            let over = !matches!(done.try_recv(), Err(oneshot::error::TryRecvError::Empty));
            if over || lanes.iter().all(idle) {
                return;
            }
            let waited = self.shared.settled.wait_timeout(state, POLL);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// How far these lanes are settled.
fn positions(
    shared: &Shared,
    names: &Names,
    lanes: &[Lane],
    position: impl Fn(&mut Tracker) -> Option<u64>,
) -> KafkaResult<TopicPartitionList> {
    let mut positions = TopicPartitionList::new();
    let mut state = shared.state();
    for lane in lanes {
        let Some(reading) = state.lanes.get_mut(lane) else { continue };
        let Some(position) = position(&mut reading.tracker) else { continue };
        let (topic, partition) = names.place(*lane);
        let offset = Offset::Offset(i64::try_from(position).unwrap_or(i64::MAX));
        positions.add_partition_offset(topic, partition, offset)?;
    }
    Ok(positions)
}

/// Commits how far these lanes are settled, and waits for it.
fn commit<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    shared: &Shared,
    names: &Names,
    lanes: &[Lane],
) -> KafkaResult<()> {
    // All of it: of what is committed now and then nobody knows yet whether it was taken down.
    let positions = positions(shared, names, lanes, |tracker| Some(tracker.watermark()))?;
    if positions.count() == 0 {
        return Ok(());
    }
    let committed = consumer.commit(&positions, CommitMode::Sync);
    if let Err(error) = &committed {
        tracing::warn!(%error, "positions were not committed");
    }
    committed
}

struct Reader {
    brokers: String,
    consumer: BaseConsumer<Context>,
    shared: Arc<Shared>,
    names: Names,
    out: Credit,
    orders: mpsc::Receiver<Order>,
    max: u32,
    grouped: bool,
    /// Ends as they were at the beginning; `None` once they were passed, or nobody asked.
    targets: Option<BTreeMap<Lane, u64>>,
    /// Not due yet, by when they are. They are read, so they hold up nobody; at most [`LATER_MAX`].
    later: BTreeMap<(u64, Lane, u64), ()>,
    held_back: bool,
    stopped: bool,
    /// Why it ends, until the feed was told.
    broken: Option<Error>,
    commit_at: Instant,
}

impl Reader {
    fn run(mut self) {
        if let Err(error) = self.subscribe() {
            let doing = || format!("reading {}", self.names.topic);
            drop(self.out.try_send(Err(failed(&self.brokers, doing, error))));
            return;
        }
        loop {
            match self.orders.try_recv() {
                Ok(Order::Stop(done)) => {
                    self.stopped = true;
                    done.send(()).ok();
                }
                Ok(Order::Close(done)) => {
                    drop(done.send(self.leave()));
                    return;
                }
                Err(mpsc::error::TryRecvError::Disconnected) => return drop(self.leave()),
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
            if self.has_told_why() {
                return drop(self.leave());
            }
            self.hand_out_again();
            self.hold_back();
            self.announce_live();
            match self.consumer.poll(POLL) {
                Some(Ok(record)) => {
                    let lane = self.names.lane(record.topic(), record.partition());
                    let offset = u64::try_from(record.offset()).unwrap_or(0);
                    let (envelope, due) = wire::envelope(&record);
                    drop(record);
                    self.take(lane, offset, envelope, due);
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "librdkafka says"); // it tries again by itself, mostly
                    self.broken = self.broken.take().or_else(|| self.for_good(error));
                }
                None => {}
            }
            self.commit_now_and_then();
        }
    }

    /// What trying again cannot help: whoever reads must know it, or would wait for ever.
    fn for_good(&self, error: KafkaError) -> Option<Error> {
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        let permanent = error.rdkafka_error_code().is_some_and(is_permanent);
        (fatal || permanent).then(|| Error::refused(format!("reading {}", self.names.topic), error))
    }

    /// Whether the feed knows that it ends, and why.
    fn has_told_why(&mut self) -> bool {
        let Some(error) = self.broken.take() else { return false };
        match self.out.try_send(Err(error)) {
            Err(mpsc::error::TrySendError::Full(error)) => self.broken = error.err(),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => return true,
        }
        false
    }

    fn subscribe(&mut self) -> KafkaResult<()> {
        let topics: Vec<&str> = [Some(&self.names.topic), self.names.later.as_ref()]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        let mut count = 0;
        for topic in topics.iter().rev() {
            count = self.partitions(topic)?;
        }
        if self.grouped {
            return self.consumer.subscribe(&topics);
        }
        let topic = self.names.topic.as_str();
        let (mut all, mut targets) = (TopicPartitionList::new(), BTreeMap::new());
        for partition in 0..count {
            let bounds = || self.consumer.fetch_watermarks(topic, partition, ANSWER_MAX);
            let (low, high) = patiently(bounds)?;
            all.add_partition_offset(topic, partition, Offset::Beginning)?;
            if high > low {
                targets.insert(self.names.lane(topic, partition), u64::try_from(high).unwrap_or(0));
            }
        }
        self.targets = Some(targets);
        self.consumer.assign(&all)
    }

    /// How many a topic has, at least one: a broker may learn a little later of one that was just made, and
    /// who reads nothing of it would read nothing for ever.
    fn partitions(&self, topic: &str) -> KafkaResult<i32> {
        patiently(|| {
            let metadata = self.consumer.fetch_metadata(Some(topic), ANSWER_MAX)?;
            let found = metadata.topics().first();
            let count = found.map_or(0, |topic| topic.partitions().len());
            let led = found.is_some_and(|it| it.partitions().iter().all(|p| p.leader() >= 0));
            if count == 0 || !led {
                return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable));
            }
            Ok(i32::try_from(count).unwrap_or(i32::MAX))
        })
    }

    fn take(&mut self, lane: Lane, offset: u64, envelope: Envelope, due: Option<u64>) {
        {
            let mut state = self.shared.state();
            let new = || Reading { tracker: Tracker::new(offset), kept: BTreeMap::new() };
            let reading = state.lanes.entry(lane).or_insert_with(new);
            reading.tracker.handed_out(offset);
            reading.kept.insert(offset, envelope);
        }
        match due.filter(|due| *due > now_ms()) {
            Some(due) => drop(self.later.insert((due, lane, offset), ())),
            None => self.hand(lane, offset),
        }
    }

    /// Hands out, or keeps for when there is room.
    fn hand(&self, lane: Lane, offset: u64) {
        let mut state = self.shared.state();
        let room = state.in_flight < self.max && !self.stopped && self.out.capacity() > 0;
        let Some(reading) = state.lanes.get_mut(&lane) else { return };
        if !room {
            reading.tracker.release(offset);
            return;
        }
        let Some(envelope) = reading.kept.get(&offset).cloned() else { return };
        state.in_flight += 1;
        drop(state);
        let settler: Arc<dyn Settler> = Arc::clone(&self.shared) as Arc<dyn Settler>;
        let settlement = Settlement::new(settler, Token { lane, number: offset });
        let handed = Handed { envelope, redelivered: 0, settlement };
        drop(self.out.try_send(Ok(Event::Delivery(handed)))); // refused: dropped, given back
    }

    /// What was given back, and what has become due.
    fn hand_out_again(&mut self) {
        if self.stopped || self.out.is_closed() {
            return;
        }
        let now = now_ms();
        while let Some(first) = self.later.first_entry()
            && first.key().0 <= now
        {
            let ((_, lane, offset), ()) = first.remove_entry();
            self.hand(lane, offset);
        }
        loop {
            let next = {
                let mut state = self.shared.state();
                let room = state.in_flight < self.max && self.out.capacity() > 0;
                let mut lanes = state.lanes.iter_mut().filter(|_| room);
                lanes.find_map(|(lane, reading)| Some((*lane, reading.tracker.pop_again()?)))
            };
            let Some((lane, offset)) = next else { return };
            self.hand(lane, offset);
        }
    }

    /// Without credit partitions are paused: the consumer stays in its group.
    fn hold_back(&mut self) {
        let full = self.stopped
            || self.later.len() >= LATER_MAX
            || self.shared.state().in_flight >= self.max;
        if full || self.held_back {
            let Ok(assigned) = self.consumer.assignment() else { return };
            let told =
                if full { self.consumer.pause(&assigned) } else { self.consumer.resume(&assigned) };
            if let Err(error) = told {
                tracing::debug!(%error, "partitions were not paused or resumed");
            }
        }
        self.held_back = full;
    }

    fn announce_live(&mut self) {
        let Some(targets) = &self.targets else { return };
        let state = self.shared.state();
        let passed = |(lane, end): (&Lane, &u64)| {
            state.lanes.get(lane).is_some_and(|reading| reading.tracker.position() >= *end)
        };
        let live = targets.iter().all(passed);
        drop(state);
        if live && self.out.try_send(Ok(Event::Live)).is_ok() {
            self.targets = None;
        }
    }

    fn commit_now_and_then(&mut self) {
        if !self.grouped || Instant::now() < self.commit_at {
            return;
        }
        self.commit_at = Instant::now() + COMMIT_EVERY;
        let moved = positions(&self.shared, &self.names, &self.lanes(), Tracker::take_commit);
        let stored = moved.and_then(|moved| match moved.count() {
            0 => Ok(()),
            _ => self.consumer.store_offsets(&moved),
        });
        if let Err(error) = stored {
            tracing::debug!(%error, "positions of partitions that are about to go");
            let mut state = self.shared.state();
            state.lanes.values_mut().for_each(|reading| reading.tracker.commit_failed());
        }
    }

    fn lanes(&self) -> Vec<Lane> {
        self.shared.state().lanes.keys().copied().collect()
    }

    /// `Err`: what was settled last will be delivered again.
    fn leave(self) -> Result<()> {
        self.shared.state().closing = true;
        let committed = match self.grouped {
            true => commit(&self.consumer, &self.shared, &self.names, &self.lanes()),
            false => Ok(()),
        };
        self.shared.state().lanes.clear(); // what is settled later changes nothing
        drop(self.consumer); // leaves the group
        committed.map_err(|error| unreachable(&self.brokers, error))
    }
}

/// Lanes from here on are partitions of the topic of delayed messages.
const LATER: u32 = 1 << 24;
/// Delayed messages that a consumer keeps in memory.
const LATER_MAX: usize = 10_000;
/// How often settlements and orders are looked at while nothing arrives.
const POLL: Duration = Duration::from_millis(10);
/// How often positions are told to librdkafka, and by it to the broker.
const COMMIT_EVERY: Duration = Duration::from_millis(100);
/// How long a consumer may take to let partitions go.
const REVOKE_MAX: Duration = Duration::from_secs(30);
