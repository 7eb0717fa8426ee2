//! Produces at a fixed rate whether or not the broker keeps up, and consumes at the same time. Every
//! batch carries when it was due, so that a stall is counted for all batches that it delays.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope, ScopedJoinHandle, scope};

use ottla_kafka_proto::ApiKey;

use super::batch::{PRODUCE, Stamped, Template};
use super::produce::accepted;
use super::read::{Limits, Reader, pieces};
use super::wire::Wire;
use super::{Tally, share};
use crate::Failure;
use crate::args::Load;
use crate::clock::{Clock, nanos, seconds};
use crate::process::Usage;
use crate::report::Row;
use crate::spread::Spread;

pub(super) fn run(load: &Load, rate: u32) -> Result<Row, Failure> {
    if rate == 0 || load.acks == 0 {
        return Err("a rate above 0, and acks 1 or -1".into());
    }
    let template = Template::new(load);
    let run = Run {
        load,
        template: &template,
        clock: Clock::start(),
        warm: nanos(load.warm_up),
        until: nanos(load.warm_up + load.seconds),
        every: u64::from(load.connections) * 1_000_000_000 / u64::from(rate),
        sent: AtomicU64::new(0),
        senders: AtomicU64::new(u64::from(load.connections)),
    };
    let (acknowledged, consumed, used) = run.go()?;
    let span = seconds(consumed.last.saturating_sub(run.warm)).max(f64::EPSILON);
    let mut row = Row::new("latency", load, (template.bytes_len(), template.records()));
    row = row.counted(span, consumed.records, consumed.bytes);
    row.server =
        used.map(|(before, after)| after.since(&before, span, consumed.records, consumed.bytes));
    row.answer_ms = Spread::of(acknowledged.answers);
    row.end_to_end_ms = Spread::of(consumed.answers);
    Ok(row)
}

type Handle<'scope> = ScopedJoinHandle<'scope, Result<Tally, Failure>>;
type Outcome = (Tally, Tally, Option<(Usage, Usage)>);

struct Run<'a> {
    load: &'a Load,
    template: &'a Template,
    clock: Clock,
    warm: u64,
    until: u64,
    /// Nanoseconds between two batches of a connection.
    every: u64,
    /// Batches sent by all connections.
    sent: AtomicU64,
    /// Connections that still send.
    senders: AtomicU64,
}

impl Run<'_> {
    fn go(&self) -> Result<Outcome, Failure> {
        scope(|scope| {
            let consumer = Reader::open(self.load, all(self.load), FETCH_LIMITS)?;
            let consumer = spawn(scope, "consumer", move || self.consume(consumer))?;
            let mut threads = Vec::new();
            for connection in 0..self.load.connections {
                let wire = Wire::connect(&self.load.broker)?;
                let twin = wire.twin()?;
                let (due, dues) = sync_channel(OPEN_MAX);
                threads.push(spawn(scope, "answers", move || self.acknowledge(twin, &dues))?);
                threads.push(spawn(scope, "sender", move || self.send(wire, connection, &due))?);
            }
            let usage = || Usage::of_server(&self.load.watched);
            self.clock.wait_until(self.warm);
            let before = usage()?;
            let acknowledged = super::join(threads)?;
            let consumed = super::join(vec![consumer])?;
            Ok((acknowledged, consumed, before.zip(usage()?)))
        })
    }

    fn send(&self, wire: Wire, connection: u32, dues: &SyncSender<u64>) -> Result<Tally, Failure> {
        let outcome = self.send_all(wire, connection, dues);
        self.senders.fetch_sub(1, Ordering::Release); // also when it failed: the consumer ends then
        outcome
    }

    fn send_all(
        &self,
        mut wire: Wire,
        connection: u32,
        dues: &SyncSender<u64>,
    ) -> Result<Tally, Failure> {
        let partitions = share(self.load, connection);
        let frames = partitions.iter().map(|index| self.template.stamped(self.load, *index));
        let mut frames = frames.collect::<Result<Vec<Stamped>, Failure>>()?;
        let lag = self.every * u64::from(connection) / u64::from(self.load.connections);
        for (turn, due) in (0..).map(|batch| lag + batch * self.every).enumerate() {
            if due >= self.until {
                break;
            }
            self.clock.wait_until(due);
            let count = frames.len();
            let frame = frames.get_mut(turn % count).ok_or("a connection without partitions")?;
            wire.send(std::iter::once(frame.at(due)))?;
            self.sent.fetch_add(1, Ordering::Relaxed);
            dues.send(due)?;
        }
        Ok(Tally::default())
    }

    fn acknowledge(&self, mut wire: Wire, dues: &Receiver<u64>) -> Result<Tally, Failure> {
        let mut tally = Tally::default();
        for due in dues {
            accepted(&wire.answer(ApiKey::Produce, PRODUCE)?)?;
            if due >= self.warm {
                tally.answers.push(self.clock.now().saturating_sub(due));
            }
        }
        Ok(tally)
    }

    /// Consumes until everything sent has come.
    fn consume(&self, mut reader: Reader) -> Result<Tally, Failure> {
        let mut tally = Tally::default();
        let mut got = 0;
        let (records, bytes) =
            (u64::try_from(self.template.records())?, u64::try_from(self.template.bytes_len())?);
        loop {
            if self.senders.load(Ordering::Acquire) == 0 && got >= self.sent.load(Ordering::Relaxed)
            {
                return Ok(tally);
            }
            if self.clock.now() > self.until + nanos(PATIENCE_SECONDS) {
                return Err(format!("only {got} of the batches came back").into());
            }
            let response = reader.fetch()?;
            let now = self.clock.now();
            for (index, _, fetched) in pieces(response)? {
                let next = self.template.stamps(&fetched, |due| {
                    got += 1;
                    if due >= self.warm {
                        tally.batches += 1;
                        tally.records += records;
                        tally.bytes += bytes;
                        tally.answers.push(now.saturating_sub(due));
                        tally.last = now;
                    }
                });
                reader.go_on(index, next);
            }
        }
    }
}

fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> Result<Tally, Failure> + Send + 'scope,
) -> Result<Handle<'scope>, Failure> {
    Ok(Builder::new().name(name.to_owned()).spawn_scoped(scope, work)?)
}

fn all(load: &Load) -> Vec<i32> {
    (0..load.partitions).filter_map(|partition| i32::try_from(partition).ok()).collect()
}

/// What consumers ask for unless told otherwise.
const FETCH_LIMITS: Limits =
    Limits { bytes: 50 << 20, partition_bytes: 1 << 20, wait_ms: 500, committed: false };
/// Requests of one connection without an answer; the sender waits beyond.
const OPEN_MAX: usize = 100_000;
/// How long the last batches may take.
const PATIENCE_SECONDS: f64 = 30.0;
