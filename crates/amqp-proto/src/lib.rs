//! AMQP 0-9-1 without a socket, as RabbitMQ speaks it.
//!
//! Bytes go in, [`Event`]s come out; calls go in, bytes come out in an [`Output`]. No socket, no
//! clock, no chance: time is an argument.
//!
//! ```text
//! socket ─▶ BytesMut ─▶ Connection::receive ─▶ Event ─▶ the session
//! socket ◀─ Output ◀── Connection::{send, deliver, get_ok, return_message, ack, fail} ◀┘
//! ```
//!
//! A session keeps what it owes in [`Tags`] (deliveries) and [`Confirms`] (publishes). Whatever goes
//! wrong is a [`Fault`], from here or from the session's own handlers, and goes to
//! [`Connection::fail`], which closes the channel or the connection, whichever the fault says.

mod channel;
mod channels;
mod confirms;
mod connection;
mod fault;
mod frame;
mod handshake;
mod heartbeat;
mod hot;
mod ids;
pub mod methods;
mod output;
mod properties;
#[cfg(test)]
mod sample;
mod settings;
mod tags;
mod value;
mod wire;

pub use channel::{Assembler, Command, Content, Delivery, GetOk, Publish, Returned, write_command};
pub use confirms::{Confirm, Confirms};
pub use connection::{Connection, Event, Phase};
pub use fault::{Failure, Fault, ReplyCode};
pub use frame::{
    BodyCut, FRAME_OVERHEAD, Frame, FrameKind, PROTOCOL_HEADER, split_frame, write_heartbeat,
    write_method, write_method_frame,
};
pub use handshake::{Authenticate, Capabilities, Refusal};
pub use heartbeat::Tick;
pub use ids::{ChannelId, DeliveryTag, MethodId, ShortStr, TooLong};
pub use methods::Method;
pub use output::{Output, SPLICE_MIN};
pub use properties::{BasicProperties, DeliveryMode, Properties};
pub use settings::{Limits, Settings, server_capabilities};
pub use tags::{Tags, UnknownTag};
pub use value::{Array, ArrayRef, FieldRef, RawTable, Table, TableRef, Value};
pub use wire::Malformed;
