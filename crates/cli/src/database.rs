//! What all commands share that read a database: the address, and how failures end.

use std::path::Path;

use clap::{Arg, ArgMatches};
use ottla::Error;
use ottla::db::{Db, DbError};

use crate::exit::{Code, Failure};
use crate::kafka::text;

/// `--database URL`.
pub(crate) fn argument() -> Arg {
    Arg::new("database")
        .long("database")
        .short('d')
        .value_name("URL")
        .required(true)
        .help("sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/DATABASE")
}

/// Opens a database that is there already: a command must not make an empty one of a slip of the pen.
pub(crate) async fn open(arguments: &ArgMatches) -> Result<Db, Failure> {
    let url = text(arguments, "database");
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path).split('?').next().unwrap_or_default();
        if !path.is_empty() && !Path::new(path).exists() {
            return Err(Failure::new(Code::NoInput, format!("there is no database {path}")));
        }
    }
    Db::open(&url).await.map_err(|error| match error {
        DbError::Address { .. } => Failure::new(Code::Usage, error),
        _ => Failure::new(Code::Unavailable, error),
    })
}

pub(crate) fn failure(error: Error) -> Failure {
    let code = if error.is_transient() { Code::Unavailable } else { Code::Config };
    Failure::new(code, error)
}

/// Runs a command that waits for a database and perhaps for signals.
pub(crate) fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| Failure::new(Code::Io, error))?.block_on(command)
}
