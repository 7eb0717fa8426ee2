//! The store without a broker: commits while everything that is written is retired behind them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{park_timeout, scope};
use std::time::Duration;

use clap::Args;
use ottla_store::batch::{BatchBuilder, PreparedBatch, RecordDraft};
use ottla_store::codec::Codec;
use ottla_store::disk::FileDisk;
use ottla_store::frame::{Frame, Item, StreamKind};
use ottla_store::{
    Fatal, Lsn, Options, Purpose, Refused, Replay, ReplayItem, State, Store, StreamId,
};

use crate::Failure;
use crate::clock::{Clock, nanos, seconds};
use crate::figures::Figures;
use crate::noise::noise;
use crate::process::float;
use crate::spread::Spread;

/// Each writer appends a batch, waits until it is durable, appends the next.
#[derive(Debug, Args)]
pub(crate) struct StoreBench {
    /// A folder on the disk; the data in it are removed at the end.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Of one commit.
    #[arg(long, default_value_t = 64 << 10)]
    bytes: usize,
    /// Each has a partition of its own.
    #[arg(long, default_value_t = 4)]
    writers: u32,
    /// MiB written before anything counts, so that the log is full and is retired.
    #[arg(long, default_value_t = 512)]
    fill_mib: u64,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &StoreBench) -> Result<String, Failure> {
    let folder = args.folder.join(format!("ottla-bench-store-{}", std::process::id()));
    let figures = measured(args, &folder);
    std::fs::remove_dir_all(&folder)?;
    Ok(figures?.shown(args.json))
}

fn measured(args: &StoreBench, folder: &std::path::Path) -> Result<Figures, Failure> {
    let disk = Arc::new(FileDisk::open(folder)?);
    let store = Store::open(disk, Options::default(), &mut Nothing)?;
    let over = AtomicBool::new(false);
    let (spans, span, retired) = scope(|scope| {
        let log = scope.spawn(|| write_log(&store, &over));
        let keeper = scope.spawn(|| keep(&store, &over));
        let outcome = load(args, &store);
        over.store(true, Ordering::Release);
        store.stop();
        log.join().map_err(|_| "the log's thread panicked")??;
        keeper.join().map_err(|_| "the keeper's thread panicked")??;
        outcome
    })?;
    let (waits, commits): (Vec<u64>, Vec<u64>) = spans.into_iter().unzip();
    let count = float(u64::try_from(commits.len())?);
    Ok(Figures::of("store")
        .with("bytes", args.bytes)
        .with("writers", args.writers)
        .with("seconds", span)
        .with("mb_per_second", count * float(u64::try_from(args.bytes)?) / 1e6 / span)
        .with("retired_mb_per_second", float(retired) / 1e6 / span)
        .with("admission_ms", Spread::of(waits))
        .with("commit_ms", Spread::of(commits)))
}

/// Nanoseconds for room, and from there until durable.
type Spans = Vec<(u64, u64)>;

/// Fills, then measures; returns the spans, the seconds, and the bytes that were retired in them.
fn load(args: &StoreBench, store: &Store) -> Result<(Spans, f64, u64), Failure> {
    let streams: Vec<StreamId> = (0..args.writers).map(|_| store.new_stream_id()).collect();
    let mut frame = Frame::new();
    for stream in &streams {
        frame.push(Item::Create { stream: *stream, kind: StreamKind::Partition });
    }
    let reservation = store.reserve(Purpose::Grow, streams.len(), 0)?;
    store.append(reservation, frame);
    let batch = batch(args.bytes);
    let turns = (args.fill_mib << 20) / u64::try_from(batch.bytes_len())? / u64::from(args.writers);
    let clock = Clock::start();
    in_threads(&streams, |stream| write(store, stream, &batch, clock, |turn, _| turn < turns))?;
    let (began, floor) = (clock.now(), store.floor());
    let until = began + nanos(args.seconds);
    let spans =
        in_threads(&streams, |stream| write(store, stream, &batch, clock, |_, now| now < until))?;
    let span = seconds(clock.now() - began);
    Ok((spans, span, store.floor().0 - floor.0))
}

fn in_threads(
    streams: &[StreamId],
    work: impl Fn(StreamId) -> Result<Spans, Failure> + Sync,
) -> Result<Spans, Failure> {
    scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            streams.iter().map(|stream| scope.spawn(move || work(*stream))).collect();
        let mut spans = Vec::new();
        for thread in threads {
            spans.extend(thread.join().map_err(|_| "a writer panicked")??);
        }
        Ok(spans)
    })
}

fn write(
    store: &Store,
    stream: StreamId,
    batch: &PreparedBatch,
    clock: Clock,
    goes_on: impl Fn(u64, u64) -> bool,
) -> Result<Spans, Failure> {
    let mut spans = Vec::new();
    for turn in 0.. {
        let began = clock.now();
        if !goes_on(turn, began) {
            break;
        }
        let reservation = loop {
            match store.reserve(Purpose::Grow, 1, batch.bytes_len()) {
                Ok(reservation) => break reservation,
                Err(Refused::Busy) => park_timeout(BUSY),
                Err(refused) => return Err(refused.into()),
            }
        };
        let staged = clock.now();
        let mut frame = Frame::new();
        frame.push(Item::Batch { stream, batch: batch.clone() });
        let appended = store.append(reservation, frame);
        if !store.wait(appended.lsn) {
            return Err("the log failed".into());
        }
        spans.push((staged - began, clock.now() - staged));
    }
    Ok(spans)
}

fn batch(bytes: usize) -> PreparedBatch {
    let mut builder = BatchBuilder::new(Codec::None);
    let value = noise(bytes);
    builder.push(&RecordDraft { value: Some(&value), ..Default::default() });
    builder.build()
}

/// The log role, as the engine runs it.
fn write_log(store: &Store, over: &AtomicBool) -> Result<(), Fatal> {
    loop {
        store.park(LOG_IDLE);
        let stopping = over.load(Ordering::Acquire);
        if store.commit()?.is_none() && stopping {
            return Ok(());
        }
    }
}

/// The keeper role, as the engine runs it.
fn keep(store: &Store, over: &AtomicBool) -> Result<(), Fatal> {
    while !over.load(Ordering::Acquire) {
        if !store.keep(&Nothing)? {
            park_timeout(KEEPER_IDLE);
        } else if !store.is_behind() {
            park_timeout(KEEPER_REST);
        }
    }
    Ok(())
}

/// An engine without any state.
struct Nothing;

impl State for Nothing {
    fn snapshot(&self, _: &mut dyn FnMut(&[u8], Lsn, &[u8])) {}

    fn holds(&self, _: StreamId, _: Lsn) -> bool {
        false
    }
}

impl Replay for Nothing {
    fn object(&mut self, _: &[u8], _: Lsn, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn frame(&mut self, _: Lsn, _: &[ReplayItem<'_>]) -> Result<(), String> {
        Ok(())
    }
}

const BUSY: Duration = Duration::from_micros(200);
const LOG_IDLE: Duration = Duration::from_millis(1);
const KEEPER_IDLE: Duration = Duration::from_millis(20);
const KEEPER_REST: Duration = Duration::from_millis(1);
