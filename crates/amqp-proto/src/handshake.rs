//! The decisions of the handshake: protocol header, login, tuning.

use bytes::Bytes;

use crate::fault::{Fault, ReplyCode};
use crate::frame::PROTOCOL_HEADER;
use crate::ids::{ChannelId, ShortStr};
use crate::methods::{ConnectionStartOk, ConnectionTune, ConnectionTuneOk};
use crate::settings::{Limits, Settings};
use crate::value::{FieldRef, RawTable};

/// A client wants to log in: answer with `accept_login` or `refuse_login`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticate {
    /// One of the mechanisms we offered.
    pub mechanism: ShortStr,
    /// What the mechanism says; PLAIN is `\0user\0password`, AMQPLAIN the content of a table.
    pub response: Bytes,
    /// What the client says about itself.
    pub client_properties: RawTable,
}

/// What the client declared in its properties that it understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "five independent words of the protocol")]
pub struct Capabilities {
    /// It wants to read why its login failed.
    pub authentication_failure_close: bool,
    /// It takes `basic.cancel` from the server.
    pub consumer_cancel_notify: bool,
    /// It takes `connection.blocked` and `unblocked`.
    pub connection_blocked: bool,
    /// It takes `basic.nack` from the server.
    pub basic_nack: bool,
    /// It knows confirms.
    pub publisher_confirms: bool,
}

/// How a refused login ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `connection.close` was written: the client answers close-ok.
    Said,
    /// The client does not understand that: wait a moment, then drop the socket without a word.
    Silent,
}

impl Capabilities {
    pub(crate) fn of(properties: &RawTable) -> Self {
        let Some(FieldRef::Table(table)) = properties.get("capabilities") else {
            return Self::default();
        };
        let has = |name| table.get(name).and_then(|value| value.as_bool()) == Some(true);
        Self {
            authentication_failure_close: has("authentication_failure_close"),
            consumer_cancel_notify: has("consumer_cancel_notify"),
            connection_blocked: has("connection.blocked"),
            basic_nack: has("basic.nack"),
            publisher_confirms: has("publisher_confirms"),
        }
    }
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    Incomplete,
    Ours,
    /// Another version, another protocol, TLS or HTTP on the wrong port.
    Foreign,
}

/// Judges the protocol header (§4.2.2) as soon as a byte of it is wrong. 0-9 announced itself as
/// `AMQP 1 1 0 9`; RabbitMQ takes it, its clients speak 0-9-1.
pub(crate) fn opening(input: &[u8]) -> Opening {
    const OLD: [u8; 8] = *b"AMQP\x01\x01\x00\x09";
    let seen = input.get(..PROTOCOL_HEADER.len()).unwrap_or(input);
    if !PROTOCOL_HEADER.starts_with(seen) && !OLD.starts_with(seen) {
        return Opening::Foreign;
    }
    if seen.len() < PROTOCOL_HEADER.len() { Opening::Incomplete } else { Opening::Ours }
}

/// Checks the mechanism a client chose.
pub(crate) fn login(start_ok: &ConnectionStartOk, settings: &Settings) -> Result<(), Fault> {
    let chosen = start_ok.mechanism.as_bytes();
    if settings.mechanisms.split(|octet| *octet == b' ').any(|offered| offered == chosen) {
        return Ok(());
    }
    let text = format!("unknown authentication mechanism '{}'", start_ok.mechanism);
    Err(Fault::connection(ReplyCode::CommandInvalid, text, ConnectionStartOk::ID))
}

/// Checks a tune-ok: the client's values hold if none is beyond what we offered; 0, "no limit", is
/// beyond any limit.
pub(crate) fn tune(tune_ok: &ConnectionTuneOk, settings: &Settings) -> Result<Limits, Fault> {
    negotiated("frame_max", tune_ok.frame_max, settings.frame_min, settings.frame_max)?;
    negotiated("channel_max", tune_ok.channel_max.into(), 1, settings.channel_max.into())?;
    let frame_max = if tune_ok.frame_max == 0 { settings.frame_max } else { tune_ok.frame_max };
    Ok(Limits { frame_max, channel_max: tune_ok.channel_max, heartbeat: tune_ok.heartbeat })
}

fn negotiated(field: &str, asked: u32, least: u32, most: u32) -> Result<(), Fault> {
    let (relation, bound, allowed) = if asked != 0 && asked < least {
        ("lower", "minimum", least)
    } else if most != 0 && (asked == 0 || asked > most) {
        ("higher", "maximum", most)
    } else {
        return Ok(());
    };
    let unlimited = if asked == 0 { " (no limit)" } else { "" };
    let text = format!(
        "negotiated {field} = {asked}{unlimited} is {relation} than the {bound} allowed value ({allowed})"
    );
    Err(Fault::new(ChannelId::CONNECTION, ReplyCode::NotAllowed, text, ConnectionTune::ID))
}
