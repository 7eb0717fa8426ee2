//! Contracts: what a message looks like, agreed in a schema registry, checked when a service starts.
//!
//! A registry that speaks Confluent's REST API keeps schemas under subjects and gives them ids; a message
//! carries the id in front of its body. [`Contracts`] names the schema of each message of a service.
//! [`Service::contracts`](crate::Service::contracts) holds them against the registry before anything is read
//! or published: a change that readers cannot live with stops the service, with the field it is about.
//! Bodies are then written as the contract says, and read whatever version they were written in.
//!
//! ```no_run
//! use ottla::schema::{Contracts, Registry, Schema};
//! use ottla::{Connection, Message, Service, handler::Msg, signals};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, Message)]
//! #[message(name = "order.paid", key = "order")]
//! struct OrderPaid { order: String, cents: i64 }
//!
//! const ORDER_PAID: &str = r#"{"type": "record", "name": "OrderPaid", "fields": [
//!     {"name": "order", "type": "string"}, {"name": "cents", "type": "long"}]}"#;
//!
//! # async fn on_paid(Msg(_): Msg<OrderPaid>) {}
//! # #[tokio::main] async fn main() -> ottla::Result<()> {
//! let registry = Registry::open("http://127.0.0.1:8081")?;
//! let contracts = Contracts::new(&registry).of::<OrderPaid>("orders-value", Schema::avro(ORDER_PAID)).registering();
//! let connection = Connection::open("memory:").await?;
//! Service::new("shipping", &connection).contracts(contracts).on("orders", on_paid).run(signals()).await
//! # }
//! ```

mod avro;
mod contract;
mod json;
mod protobuf;
mod registry;
mod shape;

use std::sync::Arc;

use serde_json::Value;

use crate::error::{Cause, Result};

pub use self::contract::{Agreed, Contracts};
pub use self::registry::{Level, Registered, Registry};

/// The language of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Apache Avro.
    Avro,
    /// JSON Schema.
    Json,
    /// Protocol Buffers.
    Protobuf,
}

/// A schema as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    format: Format,
    text: Arc<str>,
    references: Vec<Reference>,
}

/// What a schema refers to by name: a version of another subject.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reference {
    /// The name in the text: a full name in Avro, a file in Protobuf, a URI in JSON Schema.
    pub name: String,
    /// Where it is registered.
    pub subject: String,
    /// Which version of it.
    pub version: u32,
}

impl Format {
    /// As the registry says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Json => "JSON",
            Self::Protobuf => "PROTOBUF",
        }
    }
}

impl Schema {
    /// An Avro schema.
    pub fn avro(text: impl Into<Arc<str>>) -> Self {
        Self::of(Format::Avro, text)
    }

    /// A JSON Schema.
    pub fn json(text: impl Into<Arc<str>>) -> Self {
        Self::of(Format::Json, text)
    }

    /// A `.proto` file. Its first message is meant.
    pub fn protobuf(text: impl Into<Arc<str>>) -> Self {
        Self::of(Format::Protobuf, text)
    }

    pub(crate) fn of(format: Format, text: impl Into<Arc<str>>) -> Self {
        Self { format, text: text.into(), references: Vec::new() }
    }

    /// The same, referring to a version of another subject. Avro and Protobuf.
    #[must_use]
    pub fn referring(mut self, reference: Reference) -> Self {
        self.references.push(reference);
        self
    }

    /// Its language.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it refers to.
    #[must_use]
    pub fn references(&self) -> &[Reference] {
        &self.references
    }
}

/// A schema, understood.
#[derive(Debug)]
enum Codec {
    Avro(avro::Avro),
    Json(json::Json),
    Protobuf(protobuf::Protobuf),
}

impl Codec {
    /// `others` are the names and texts of what it refers to, the farthest first.
    fn of(schema: &Schema, others: &[(String, Arc<str>)]) -> Result<Self, Cause> {
        Ok(match schema.format {
            Format::Avro => Self::Avro(avro::Avro::parse(&schema.text, others)?),
            Format::Json => Self::Json(json::Json::parse(&schema.text)?),
            Format::Protobuf => Self::Protobuf(protobuf::Protobuf::parse(&schema.text, others)?),
        })
    }

    /// What stands behind the id: the index of the message in Protobuf, then the value.
    fn write(&self, value: &Value, into: &mut Vec<u8>) -> Result<(), Cause> {
        match self {
            Self::Avro(avro) => avro.write(value, into),
            Self::Json(json) => json.write(value, into),
            Self::Protobuf(protobuf) => protobuf.write(value, into),
        }
    }

    /// Reads what was written with this schema, as `reader` sees it if that is of the same language.
    fn read(&self, body: &[u8], reader: Option<&Self>) -> Result<Value, Cause> {
        match (self, reader) {
            (Self::Avro(avro), Some(Self::Avro(reader))) => avro.read(body, Some(reader)),
            (Self::Avro(avro), _) => avro.read(body, None),
            (Self::Json(json), _) => json.read(body),
            (Self::Protobuf(protobuf), _) => protobuf.read(body),
        }
    }

    fn shape(&self) -> shape::Shape {
        match self {
            Self::Avro(avro) => avro.shape(),
            Self::Json(json) => json.shape(),
            Self::Protobuf(protobuf) => protobuf.shape(),
        }
    }
}

/// The first byte of a body that says which schema it was written with.
const MAGIC: u8 = 0;
/// The magic byte and an id of four bytes, big-endian.
const HEAD_BYTES: usize = 5;

/// The id and what stands behind it.
fn split(body: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = body.split_first_chunk::<HEAD_BYTES>()?;
    let [MAGIC, a, b, c, d] = *head else { return None };
    Some((u32::from_be_bytes([a, b, c, d]), rest))
}

#[cfg(test)]
mod tests;
