//! What all commands share that talk to a Kafka cluster: the address, and how failures end.

use std::io;

use clap::{Arg, ArgAction, ArgMatches};
use ottla_client::{ClientError, Cluster};

use crate::exit::{Code, Failure};

/// `--bootstrap HOST:PORT`.
pub(crate) fn bootstrap() -> Arg {
    Arg::new("bootstrap")
        .long("bootstrap")
        .short('b')
        .value_name("HOST:PORT")
        .env("OTTLA_BOOTSTRAP")
        .default_value("127.0.0.1:9092")
        .help("a broker of the cluster; any Kafka will do")
}

/// `--json`.
pub(crate) fn json() -> Arg {
    Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("JSON for programs instead of text for people")
}

pub(crate) fn connect(arguments: &ArgMatches) -> Result<Cluster, Failure> {
    let address = text(arguments, "bootstrap");
    Cluster::connect(&address).map_err(failure)
}

/// The value of a text argument; empty if it has none.
pub(crate) fn text(arguments: &ArgMatches, name: &str) -> String {
    arguments.get_one::<String>(name).cloned().unwrap_or_default()
}

pub(crate) fn failure(error: ClientError) -> Failure {
    match &error {
        ClientError::Unreachable { .. } => Failure::new(Code::Unavailable, &error).remedy(
            "start a broker with `ottla serve`, or name another with --bootstrap HOST:PORT",
        ),
        ClientError::Refused { .. } => Failure::new(Code::Data, &error),
        _ => Failure::new(Code::Unavailable, &error),
    }
}

/// A failure to write to stdout; a closed pipe is how the reader says that it has enough.
pub(crate) fn output(error: io::Error) -> Failure {
    Failure::new(Code::Io, error)
}

/// An answer that is not the one to the question.
pub(crate) fn unexpected() -> Failure {
    Failure::new(Code::Unavailable, "the broker answered another request than was asked")
}
