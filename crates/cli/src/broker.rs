//! What all commands share that talk to a broker as the toolkit's services do: the connection line.

use clap::Arg;
use ottla::{Connection, Error};

use crate::database;
use crate::exit::{Code, Failure};

/// `--at LINE`.
pub(crate) fn argument() -> Arg {
    Arg::new("at")
        .long("at")
        .value_name("LINE")
        .required(true)
        .help("the broker of the services: kafka://HOST:PORT, amqp://USER:PASSWORD@HOST:PORT/VHOST or ottla://embedded?data=DIR")
}

/// Connects.
pub(crate) async fn open(line: &str) -> Result<Connection, Failure> {
    if let Some(feature) = lacking(line) {
        let what = format!("this ottla was built without the client for {line}");
        let remedy =
            format!("build it with: cargo build --release -p ottla-cli --features {feature}");
        return Err(Failure::new(Code::Usage, what).remedy(remedy));
    }
    Connection::open(line).await.map_err(failure)
}

pub(crate) fn failure(error: Error) -> Failure {
    match error {
        Error::Address { .. } => Failure::new(Code::Usage, error),
        error => database::failure(error),
    }
}

/// The feature that this binary would need for it.
fn lacking(line: &str) -> Option<&'static str> {
    let kafka = line.starts_with("kafka://")
        || (line.starts_with("ottla://") && !line.starts_with("ottla://embedded"));
    if kafka && !cfg!(feature = "kafka") {
        return Some("kafka");
    }
    (line.starts_with("amqp") && !cfg!(feature = "amqp")).then_some("amqp")
}
