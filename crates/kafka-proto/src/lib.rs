//! The Kafka protocol without a socket: frames, versions, messages, and the machine of a connection.
//!
//! - [`Connection`] turns the bytes of a client into [`Event`]s; [`encode_response`] turns an answer into pieces to write.
//! - [`encode_request`] and [`decode_response`] are the client's half.
//! - [`messages`] has the structs. A field that a version does not have is its default after decoding and dropped in
//!   encoding; a null that a version does not have is written as empty. So a handler fills in everything it knows.
//!
//! Nothing here waits, allocates more than a frame can justify, or knows what a topic is.

pub mod api;
pub mod connection;
pub mod consumer_protocol;
#[cfg(test)]
mod dice;
pub mod error_code;
pub mod frame;
pub mod header;
mod malformed;
#[rustfmt::skip]
#[expect(clippy::field_reassign_with_default, reason = "generated: fields are read in wire order, some by version")]
pub mod messages;
mod reader;
mod value;
mod writer;

pub use api::{ApiKey, ApiSpec, ApiVersion};
pub use connection::{Connection, Event, Fault, Limits};
pub use error_code::ErrorCode;
pub use frame::{decode_request, decode_response, encode_request, encode_response, take_frame};
pub use header::{CorrelationId, RequestHeader};
pub use malformed::{Malformed, Unencodable};
pub use messages::{Request, Response};
pub use value::{Records, Str, Uuid};
pub use writer::Encoded;
