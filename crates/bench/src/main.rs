//! `ottla-bench`: load generators of pre-encoded requests, so that the server and not the client is
//! measured. Works against any server that speaks the protocol.

mod args;
mod clock;
mod kafka;
mod process;
mod report;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

/// Why a run gives no figures.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let args::Bench { protocol: args::Protocol::Kafka(run) } = args::Bench::parse();
    let json = run.load().json;
    match kafka::run(run) {
        Ok(row) => {
            print(&if json { row.json() } else { row.table() });
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("ottla-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the row is what the command is for")]
fn print(text: &str) {
    println!("{text}");
}
