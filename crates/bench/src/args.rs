//! The command line.

use clap::{Args, Parser, Subcommand};

use crate::amqp::Amqp;
use crate::disk::Disk;
use crate::process::Watched;
use crate::store::StoreBench;

/// Loads a server with pre-encoded requests and prints one row of figures.
#[derive(Debug, Parser)]
#[command(name = "ottla-bench", version, about)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) protocol: Protocol,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Protocol {
    /// A Kafka broker.
    Kafka(Kafka),
    /// A broker of AMQP 0-9-1.
    Amqp(Amqp),
    /// The store without a broker: how long a commit takes while all that is written is retired.
    Store(StoreBench),
    /// The disk itself: how long one fdatasync of an overwritten block takes.
    Disk(Disk),
}

#[derive(Debug, Args)]
pub(crate) struct Kafka {
    #[command(subcommand)]
    pub(crate) mode: Mode,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Mode {
    /// Produces as fast as the broker acknowledges: a full window on every connection.
    Produce(Load),
    /// Produces at a fixed rate and consumes at the same time; latency counts from when a batch was due.
    Latency {
        /// Batches a second over all connections.
        #[arg(long, default_value_t = 1000)]
        rate: u32,
        #[command(flatten)]
        load: Load,
    },
    /// Reads a topic from its start to its end, as a consumer that has fallen behind.
    Read {
        /// Bytes of one answer (fetch.max.bytes).
        #[arg(long, default_value_t = 50 << 20)]
        fetch_bytes: i32,
        /// Bytes of one partition in one answer (max.partition.fetch.bytes).
        #[arg(long, default_value_t = 1 << 20)]
        partition_bytes: i32,
        /// read_committed; else read_uncommitted.
        #[arg(long)]
        committed: bool,
        #[command(flatten)]
        load: Load,
    },
    /// Makes the topic and does nothing with it.
    Topic(Load),
    /// Starts consumers, each in a group of its own, until they have their first record.
    FirstRecord {
        #[arg(long, default_value_t = 20)]
        samples: u32,
        #[command(flatten)]
        load: Load,
    },
    /// Lets all members of a group join again, time after time.
    Rebalance {
        #[arg(long, default_value_t = 100)]
        members: u32,
        #[command(flatten)]
        load: Load,
    },
    /// Commits offsets.
    Commits {
        #[arg(long, default_value_t = 100)]
        groups: u32,
        /// Commits a second; 0 is as fast as they are answered.
        #[arg(long, default_value_t = 1000)]
        rate: u32,
        #[command(flatten)]
        load: Load,
    },
    /// Transactions one after the other, each with one batch for every partition.
    Transactions {
        /// Every so many transactions one is aborted; 0 is none.
        #[arg(long, default_value_t = 0)]
        abort_every: u32,
        #[command(flatten)]
        load: Load,
    },
}

/// What all modes share.
#[derive(Clone, Debug, Args)]
pub(crate) struct Load {
    /// The broker that leads all partitions.
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub(crate) broker: String,
    /// The topic; made if it does not exist.
    #[arg(long, default_value = "ottla-bench")]
    pub(crate) topic: String,
    /// Leave the topic when done.
    #[arg(long)]
    pub(crate) keep: bool,
    #[arg(long, default_value_t = 1)]
    pub(crate) partitions: u32,
    /// Bytes of a record's value; it has no key.
    #[arg(long, default_value_t = 1024)]
    pub(crate) record_bytes: usize,
    /// Bytes of a batch; it has as many records as fit, at least one.
    #[arg(long, default_value_t = 16 << 10)]
    pub(crate) batch_bytes: usize,
    /// Connections; each has its own partitions if there are enough.
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: u32,
    /// Requests of one batch each that wait for their answers, on each connection.
    #[arg(long, default_value_t = 5)]
    pub(crate) in_flight: usize,
    /// 0, 1 or -1 (all).
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    pub(crate) acks: i16,
    /// Seconds before anything counts.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) warm_up: f64,
    /// Seconds that count.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Go on until this many bytes were produced after the warm-up, if the seconds are over before.
    #[arg(long, default_value_t = 0)]
    pub(crate) min_bytes: u64,
    /// But no longer than this, in seconds.
    #[arg(long, default_value_t = 3600.0)]
    pub(crate) max_seconds: f64,
    #[command(flatten)]
    pub(crate) watched: Watched,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}
