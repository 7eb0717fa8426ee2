//! What the toolkit costs, each time beside the same work written by hand. `bench/toolkit` runs all of it
//! and prints the report of `docs/bench`.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "the figures, and the time they took, are what it is for"
)]

mod append;
mod durable;
mod handler;
mod relay;

use std::process::ExitCode;
use std::time::Duration;

/// Why a run gives no figures.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(row) => {
            println!("{row}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("toolkit: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<String, Failure> {
    match arguments {
        ["handler", side, count] => handler::run(side, count.parse()?),
        ["storm", line, poison, count] => handler::storm(line, *poison == "poison", count.parse()?),
        ["durable", url, at_a_time, count] => durable::run(url, at_a_time.parse()?, count.parse()?),
        ["relay", url, line, count] => relay::run(url, line, count.parse()?),
        ["append", "raw", path, count] => append::raw(path, count.parse()?),
        ["append", url, callers, count] => append::ours(url, callers.parse()?, count.parse()?),
        _ => Err(USAGE.into()),
    }
}

/// A runtime of two workers, as a service on a small machine has.
fn two_workers() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// A row of the report.
fn row(what: &str, count: u64, took: Duration) -> String {
    let each = took.as_secs_f64() / f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    format!("{what} {:.0}", 1.0 / each)
}

const USAGE: &str = "toolkit handler raw|service|layers COUNT
toolkit storm CONNECTION clean|poison COUNT
toolkit durable DATABASE AT_A_TIME COUNT
toolkit relay DATABASE CONNECTION COUNT
toolkit append raw FILE COUNT
toolkit append DATABASE CALLERS COUNT";
