//! What a server offers, and what one connection agreed on.

use std::time::Duration;

use bytes::Bytes;

use crate::value::{RawTable, Table, Value};

/// What the server offers to every connection.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Product, version, capabilities: see [`server_capabilities`] for the last.
    pub server_properties: RawTable,
    /// The mechanisms, separated by blanks, such as `PLAIN AMQPLAIN`.
    pub mechanisms: Bytes,
    /// The largest frame offered, in bytes; not 0.
    pub frame_max: u32,
    /// The smallest `frame_max` a client may ask for. RabbitMQ asks for 8192 since 4.1; old clients
    /// offer 4096, the smallest of §4.2.3.
    pub frame_min: u32,
    /// How many channels a connection may open; 0 is no limit.
    pub channel_max: u16,
    /// The heartbeat proposed, in seconds; 0 is none. The client's answer holds.
    pub heartbeat: u16,
    /// The largest message body, in bytes.
    pub message_max: u64,
    /// How long a client may take from the first byte to `connection.open`.
    pub handshake_timeout: Duration,
    /// How long we wait for `connection.close-ok`.
    pub close_timeout: Duration,
}

impl Default for Settings {
    /// RabbitMQ's defaults, with no server properties but the capabilities.
    fn default() -> Self {
        let properties = Table::new().with("capabilities", server_capabilities());
        Self {
            server_properties: properties.encode().unwrap_or_default(),
            mechanisms: Bytes::from_static(b"PLAIN AMQPLAIN"),
            frame_max: 131_072,
            frame_min: 4096,
            channel_max: 2047,
            heartbeat: 60,
            message_max: 16 << 20,
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(30),
        }
    }
}

/// The capabilities RabbitMQ declares, all true.
#[must_use]
pub fn server_capabilities() -> Table {
    let names = [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ];
    names.into_iter().fold(Table::new(), |table, name| table.with(name, Value::Bool(true)))
}

/// What holds on one connection after tune-ok.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest frame either way, in bytes; never 0.
    pub frame_max: u32,
    /// How many channels may be open; 0 is no limit but the 65,535 numbers there are.
    pub channel_max: u16,
    /// The heartbeat in seconds; 0 is none.
    pub heartbeat: u16,
}

/// Before tune-ok no frame may be longer than this, in bytes (RabbitMQ's `initial_frame_max`).
pub(crate) const HANDSHAKE_FRAME_MAX: u32 = 8192;
