//! Exchanges and bindings of one virtual host: who is bound to what, and where a message goes.
//!
//! Pure: no store, no wire, no clock; chance is an argument. [`Topology`] is the public face.

mod error;
mod hash;
mod headers;
mod kind;
mod route;
mod table;
mod topic;
mod topology;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use ottla_store::StreamId;

use crate::value::{Arguments, Value};

pub use error::{BindError, BindingFault, DeclareError, DeleteError, RouteError};
pub use kind::{HISTORY_MAX, HashOn, Kind, Routing};
pub use route::Routes;
pub use topology::{Exchange, Removed, Topology};

/// The name of an exchange; `""` is the default exchange.
pub type ExchangeName = Arc<str>;

/// What a binding leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// A queue.
    Queue(StreamId),
    /// Another exchange (`exchange.bind`).
    Exchange(ExchangeName),
}

/// One binding. Two bindings are the same when all four are equal, the arguments in any order.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// Where messages come from.
    pub source: ExchangeName,
    /// Where they go.
    pub destination: Destination,
    /// Routing or binding key, at most 255 bytes.
    pub key: Box<str>,
    /// Arguments, such as those of a headers exchange.
    pub arguments: Arguments,
}

/// What an exchange may look at in a message.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// The routing key first, then the keys of CC and BCC; see [`routing_keys`].
    pub keys: &'a [&'a str],
    /// The headers; may be empty where [`Topology::reads_headers`] says that nobody looks.
    pub headers: &'a Arguments,
    /// Property `message_id`, for `hash-property`.
    pub message_id: Option<&'a str>,
    /// Property `correlation_id`, for `hash-property`.
    pub correlation_id: Option<&'a str>,
    /// Property `timestamp`, for `hash-property`.
    pub timestamp: Option<u64>,
    /// A random number, for the random exchanges.
    pub chance: u64,
}

/// A `CC` or `BCC` header that is no array: 406 `invalid message: {unacceptable_type_in_header,…}`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("invalid message: {{unacceptable_type_in_header,\"{header}\",{}}}", value.type_name())]
pub struct BadSelector {
    /// `CC` or `BCC`.
    pub header: &'static str,
    /// What it holds.
    pub value: Value,
}

/// Every key a message is routed by: its own, then those of the headers `CC` and `BCC`.
/// Elements that are no text are ignored, as in RabbitMQ.
///
/// # Errors
/// When one of the two headers is no array.
pub fn routing_keys<'a>(key: &'a str, headers: &'a Arguments) -> Result<Vec<&'a str>, BadSelector> {
    let mut keys = vec![key];
    for header in ["CC", "BCC"] {
        match headers.get(header) {
            None => {}
            Some(Value::Array(values)) => keys.extend(values.iter().filter_map(Value::as_str)),
            Some(value) => return Err(BadSelector { header, value: value.clone() }),
        }
    }
    Ok(keys)
}

/// A declared name without carriage returns and line feeds, which RabbitMQ removes.
#[must_use]
pub fn clean_name(name: &str) -> Cow<'_, str> {
    if name.contains(['\r', '\n']) {
        Cow::Owned(name.replace(['\r', '\n'], ""))
    } else {
        Cow::Borrowed(name)
    }
}
