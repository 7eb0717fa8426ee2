//! Load on a Kafka broker.

mod batch;
mod latency;
mod produce;
mod read;
mod topic;
mod wire;

use std::thread::{Builder, ScopedJoinHandle, scope};

use crate::Failure;
use crate::args::{Kafka, Load, Mode};
use crate::clock::Clock;
use crate::process::Usage;
use crate::report::Row;

/// Runs one mode and returns its row.
pub(crate) fn run(kafka: Kafka) -> Result<Row, Failure> {
    let Kafka { mode } = kafka;
    match mode {
        Mode::Produce(load) => on_topic(&load, produce::run),
        Mode::Latency { rate, load } => on_topic(&load, |load| latency::run(load, rate)),
        Mode::Read { fetch_bytes, partition_bytes, load } => {
            on_topic(&load, |load| read::run(load, fetch_bytes, partition_bytes))
        }
    }
}

/// Runs with the topic there, and deletes it afterwards unless it is to be kept.
fn on_topic(load: &Load, run: impl FnOnce(&Load) -> Result<Row, Failure>) -> Result<Row, Failure> {
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
        let Protocol::Kafka(kafka) = Bench::parse_from(line).protocol else { panic!("not Kafka") };
        kafka.load().clone()
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
