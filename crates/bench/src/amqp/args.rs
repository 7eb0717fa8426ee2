//! The command line of `amqp`.

use clap::{Args, Subcommand, ValueEnum};

use crate::process::Watched;

/// Loads a broker of AMQP 0-9-1 with pre-encoded frames.
#[derive(Debug, Args)]
pub(crate) struct Amqp {
    #[command(subcommand)]
    pub(super) mode: Mode,
    #[command(flatten)]
    pub(super) load: Load,
}

#[derive(Debug, Subcommand)]
pub(super) enum Mode {
    /// Publishes and consumes at once, as fast as both go.
    Flow,
    /// One message after the other: published, confirmed if it is to be, and consumed.
    RoundTrip,
    /// Publishes at a fixed rate with confirms; latency counts from when a message was due.
    Paced {
        /// Messages a second over all publishers.
        #[arg(long, default_value_t = 1000)]
        rate: u32,
    },
    /// Fills a queue that nobody reads, then empties it.
    Backlog {
        /// Fill until so many messages are there.
        #[arg(long, default_value_t = 1_000_000)]
        messages: u64,
        /// Or until so many seconds are over.
        #[arg(long, default_value_t = 600.0)]
        fill_seconds: f64,
    },
    /// Opens connections with a channel each and leaves them idle.
    Connections {
        #[arg(long, default_value_t = 1000)]
        count: u32,
    },
    /// Declares durable queues and leaves them empty; they stay.
    Queues {
        #[arg(long, default_value_t = 100_000)]
        count: u32,
        /// Or as many as there are after so many seconds.
        #[arg(long, default_value_t = 600.0)]
        declare_seconds: f64,
    },
}

/// What all modes share.
#[derive(Clone, Debug, Args)]
pub(super) struct Load {
    #[arg(long, default_value = "127.0.0.1:5672", global = true)]
    pub(super) broker: String,
    /// What the names of the run's queues begin with. They are durable; they are deleted before and after.
    #[arg(long, default_value = "ottla-bench", global = true)]
    pub(super) queue: String,
    #[arg(long, default_value_t = 1, global = true)]
    pub(super) queues: u32,
    #[arg(long, value_enum, default_value_t = Kind::Classic, global = true)]
    pub(super) queue_type: Kind,
    #[arg(long, default_value_t = 1024, global = true)]
    pub(super) body_bytes: usize,
    /// delivery-mode 2.
    #[arg(long, global = true)]
    pub(super) persistent: bool,
    /// Publishers wait for confirms, `in_flight` of them on each connection.
    #[arg(long, global = true)]
    pub(super) confirms: bool,
    #[arg(long, default_value_t = 1000, global = true)]
    pub(super) in_flight: usize,
    /// Connections that publish, with one channel each, to all queues in turn.
    #[arg(long, default_value_t = 1, global = true)]
    pub(super) publishers: u32,
    /// Connections that consume, with one channel each; each has its own queues if there are enough.
    #[arg(long, default_value_t = 1, global = true)]
    pub(super) consumers: u32,
    #[arg(long, value_enum, default_value_t = Acks::Auto, global = true)]
    pub(super) acks: Acks,
    /// `basic.qos` of a consumer that acknowledges; 0 is no limit.
    #[arg(long, default_value_t = 1000, global = true)]
    pub(super) prefetch: u16,
    /// Publishers wait while so many messages are published and not consumed, or 64 MiB of them.
    #[arg(long, default_value_t = 20_000, global = true)]
    pub(super) ahead: u64,
    /// Seconds before anything counts.
    #[arg(long, default_value_t = 1.0, global = true)]
    pub(super) warm_up: f64,
    /// Seconds that count.
    #[arg(long, default_value_t = 5.0, global = true)]
    pub(super) seconds: f64,
    /// The server's process: its CPU, memory and writes are read from /proc.
    #[arg(long, global = true)]
    pub(super) pid: Option<u32>,
    /// The disk, as /sys/class/block names it: what all processes write to it is counted.
    #[arg(long, global = true)]
    pub(super) device: Option<String>,
    /// One JSON object instead of lines.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// `x-queue-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    Classic,
    Quorum,
}

/// How consumers acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Acks {
    /// Not at all (`no_ack`).
    Auto,
    /// Each message by a frame of its own.
    Each,
    /// All that one read of the socket brought by one frame (`multiple`).
    Batch,
}

impl Load {
    pub(super) fn watched(&self) -> Watched {
        Watched { pid: self.pid, device: self.device.clone() }
    }

    pub(super) fn queue_name(&self, index: u32) -> String {
        format!("{}-{index:06}", self.queue) // of one length, and so are the messages to them
    }

    /// Messages that may be published and not consumed.
    pub(super) fn ahead(&self) -> u64 {
        let bytes = u64::try_from(self.body_bytes).unwrap_or(u64::MAX).max(1);
        self.ahead.min(AHEAD_BYTES / bytes).max(1)
    }
}

const AHEAD_BYTES: u64 = 64 << 20;
