//! Load on a broker of AMQP 0-9-1.

mod args;
mod backlog;
mod consume;
mod encode;
mod flow;
mod idle;
mod paced;
mod publish;
mod queues;
mod round_trip;
mod run;
mod wire;

pub(crate) use self::args::Amqp;

use self::args::Mode;
use crate::Failure;

/// Runs one mode and returns its row as it is printed.
pub(crate) fn run(amqp: &Amqp) -> Result<String, Failure> {
    let load = &amqp.load;
    let figures = match amqp.mode {
        Mode::Flow => flow::run(load),
        Mode::RoundTrip => round_trip::run(load),
        Mode::Paced { rate } => paced::run(load, rate),
        Mode::Backlog { messages, fill_seconds } => backlog::run(load, messages, fill_seconds),
        Mode::Connections { count } => idle::connections(load, count),
        Mode::Queues { count, declare_seconds } => idle::queues(load, count, declare_seconds),
    };
    Ok(figures?.shown(load.json))
}
