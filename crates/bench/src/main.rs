//! `ottla-bench`: load generators of pre-encoded requests, so that the server and not the client is
//! measured. Works against any server that speaks the protocol.

mod amqp;
mod args;
mod clock;
mod disk;
mod figures;
mod kafka;
mod noise;
mod process;
mod report;
mod spread;
mod store;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use self::args::Protocol;

/// Why a run gives no figures.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match run(args::Bench::parse().protocol) {
        Ok(row) => {
            print(&row);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("ottla-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The row of a run as it is printed.
fn run(protocol: Protocol) -> Result<String, Failure> {
    match protocol {
        Protocol::Kafka(run) => kafka::run(run),
        Protocol::Amqp(run) => amqp::run(&run),
        Protocol::Store(run) => store::run(&run),
        Protocol::Disk(run) => disk::run(&run),
    }
}

#[expect(clippy::print_stdout, reason = "the row is what the command is for")]
fn print(text: &str) {
    println!("{text}");
}
