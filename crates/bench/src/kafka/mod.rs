//! Load on a Kafka broker.

mod batch;
mod commits;
mod group;
mod latency;
mod produce;
mod read;
mod topic;
mod transactions;
mod wire;

use std::thread::{Builder, ScopedJoinHandle, scope};

use crate::Failure;
use crate::args::{Kafka, Load, Mode};
use crate::clock::Clock;
use crate::figures::Figures;
use crate::process::Usage;
use crate::report::Row;

/// Runs one mode and returns its row as it is printed.
pub(crate) fn run(kafka: Kafka) -> Result<String, Failure> {
    let Kafka { mode } = kafka;
    match mode {
        Mode::Produce(load) => row(&load, produce::run),
        Mode::Latency { rate, load } => row(&load, |load| latency::run(load, rate)),
        Mode::Read { fetch_bytes, partition_bytes, committed, load } => {
            let (bytes, wait_ms) = (fetch_bytes, 500);
            let limits = read::Limits { bytes, partition_bytes, wait_ms, committed };
            row(&load, |load| read::run(load, limits))
        }
        Mode::Topic(load) => figures(&load, |_| Ok(Figures::of("topic"))),
        Mode::FirstRecord { samples, load } => {
            figures(&load, |load| group::first_record(load, samples))
        }
        Mode::Rebalance { members, load } => figures(&load, |load| group::rebalance(load, members)),
        Mode::Commits { groups, rate, load } => {
            figures(&load, |load| commits::run(load, groups, rate))
        }
        Mode::Transactions { abort_every, load } => {
            figures(&load, |load| transactions::run(load, abort_every))
        }
    }
}

fn row(load: &Load, run: impl FnOnce(&Load) -> Result<Row, Failure>) -> Result<String, Failure> {
    let row = on_topic(load, run)?;
    Ok(if load.json { row.json() } else { row.table() })
}

fn figures(
    load: &Load,
    run: impl FnOnce(&Load) -> Result<Figures, Failure>,
) -> Result<String, Failure> {
    Ok(on_topic(load, run)?.shown(load.json))
}

/// Runs with the topic there, and deletes it afterwards unless it is to be kept.
fn on_topic<T>(load: &Load, run: impl FnOnce(&Load) -> Result<T, Failure>) -> Result<T, Failure> {
    if load.partitions == 0 || load.connections == 0 || load.in_flight == 0 {
        return Err("at least one partition, connection and request in flight".into());
    }
    topic::ensure(load)?;
    let row = run(load)?;
    if !load.keep {
        topic::delete(load)?;
    }
    Ok(row)
}

/// What one thread counted between the warm-up and the end.
#[derive(Debug, Default)]
struct Tally {
    batches: u64,
    records: u64,
    bytes: u64,
    /// Nanoseconds of each answer.
    answers: Vec<u64>,
    /// When the last thing that counts came.
    last: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.batches += other.batches;
        self.records += other.records;
        self.bytes += other.bytes;
        self.answers.extend(other.answers);
        self.last = self.last.max(other.last);
    }
}

/// Runs `work` for every connection on a thread of its own and adds up; the broker's process is
/// looked at when the warm-up is over and when the last thread is done.
fn on_every_connection(
    load: &Load,
    clock: Clock,
    warm: u64,
    work: impl Fn(u32) -> Result<Tally, Failure> + Sync,
) -> Result<(Tally, Option<(Usage, Usage)>), Failure> {
    let usage = || Usage::of_server(&load.watched);
    scope(|scope| {
        let work = &work;
        let mut threads = Vec::new();
        for connection in 0..load.connections {
            let thread = Builder::new().name(format!("connection {connection}"));
            threads.push(thread.spawn_scoped(scope, move || work(connection))?);
        }
        clock.wait_until(warm);
        let before = usage()?;
        let tally = join(threads)?;
        let used = before.zip(usage()?);
        Ok((tally, used))
    })
}

fn join(threads: Vec<ScopedJoinHandle<'_, Result<Tally, Failure>>>) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    for thread in threads {
        tally.add(thread.join().map_err(|_| "a connection's thread panicked")??);
    }
    Ok(tally)
}

/// The partitions of one connection: every `connections`th, or one if there are fewer partitions.
fn share(load: &Load, connection: u32) -> Vec<i32> {
    let of_connection = |partition: &u32| {
        partition % load.connections == connection
            || (load.partitions < load.connections && *partition == connection % load.partitions)
    };
    let partitions = (0..load.partitions).filter(of_connection);
    partitions.filter_map(|partition| i32::try_from(partition).ok()).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Bench, Protocol};

    fn load(partitions: &str, connections: &str) -> Load {
        let line =
            ["b", "kafka", "produce", "--partitions", partitions, "--connections", connections];
        let Protocol::Kafka(Kafka { mode: Mode::Produce(load) }) = Bench::parse_from(line).protocol
        else {
            panic!("not a load on Kafka")
        };
        load
    }

    #[test]
    fn connections_share_partitions_evenly() {
        let load = load("5", "2");
        assert_eq!(share(&load, 0), [0, 2, 4]);
        assert_eq!(share(&load, 1), [1, 3]);
    }

    #[test]
    fn connections_beyond_the_partitions_share_them() {
        let load = load("2", "5");
        assert_eq!(share(&load, 1), [1]);
        assert_eq!(share(&load, 4), [0]);
    }
}
