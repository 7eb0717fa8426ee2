//! Why a call failed; the text is for the person at the command line.

use std::io;

use ottla_kafka_proto::ErrorCode;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody answers there.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// The address as given.
        address: String,
        /// The system's own words.
        #[source]
        source: io::Error,
    },
    /// The connection ended in the middle.
    #[error("{address} closed the connection: {source}")]
    Lost {
        /// The broker.
        address: String,
        /// The system's own words.
        #[source]
        source: io::Error,
    },
    /// What answers does not speak this protocol, or not this request.
    #[error("{address} does not serve {what}")]
    NotServed {
        /// The broker.
        address: String,
        /// The request.
        what: String,
    },
    /// The broker refused.
    #[error("{what}: {}{}", code_name(*code), detail(message))]
    Refused {
        /// What was asked for.
        what: String,
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's own words.
        message: Option<String>,
    },
}

impl ClientError {
    /// Turns a code of an answer into an error, unless it is none.
    pub fn check(
        what: impl FnOnce() -> String,
        code: ErrorCode,
        message: Option<&str>,
    ) -> Result<(), Self> {
        if code.is_ok() {
            return Ok(());
        }
        Err(Self::Refused { what: what(), code, message: message.map(str::to_owned) })
    }
}

fn code_name(code: ErrorCode) -> String {
    code.name().map_or_else(|| format!("error {}", code.0), str::to_owned)
}

fn detail(message: &Option<String>) -> String {
    message.as_ref().map_or_else(String::new, |message| format!(" ({message})"))
}
