//! The server's side of one connection: bytes in, requests out. What must be refused is refused here.

use bytes::{Buf, Bytes, BytesMut};

use crate::api::{ApiKey, ApiVersion};
use crate::frame::LENGTH_BYTES;
use crate::header::{CorrelationId, RequestStart};
use crate::malformed::Malformed;
use crate::messages::Request;
use crate::reader::Reader;
use crate::value::Str;

/// What one connection may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request without its length prefix (`socket.request.max.bytes`). Longer closes the connection.
    pub request_bytes_max: usize,
    /// The same until the client has proved who it is.
    pub handshake_bytes_max: usize,
    /// Requests until the client has proved who it is. One more closes the connection.
    pub handshake_requests_max: u32,
    /// Array items in one request over all its arrays. More closes the connection.
    pub items_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes_max: 100 * 1024 * 1024,
            handshake_bytes_max: 64 * 1024,
            handshake_requests_max: 10,
            items_max: 200_000,
        }
    }
}

/// What a client asks for. Answers must leave in the order in which events come.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "nearly every event is the large one")]
pub enum Event {
    /// A request in a version that is served.
    Request {
        /// To be repeated in the answer.
        correlation_id: CorrelationId,
        /// The version to answer in.
        version: ApiVersion,
        /// What the client calls itself.
        client_id: Option<Str>,
        /// The request.
        request: Request,
    },
    /// ApiVersions in a version that is not served: answer with the body of version 0, error 35 (UNSUPPORTED_VERSION) and the
    /// range of ApiVersions itself, so that the client can ask again (KIP-511).
    ApiVersionsTooNew {
        /// To be repeated in the answer.
        correlation_id: CorrelationId,
    },
    /// A SASL token without a Kafka header, after SaslHandshake version 0. The answer is a token of the same form: its length
    /// as int32, then its bytes.
    SaslToken(Bytes),
}

/// Why the connection is to be closed. Nothing is answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The first bytes are those of an HTTP request.
    #[error("the client speaks HTTP: this is the Kafka port")]
    Http,
    /// The first bytes are a TLS handshake.
    #[error("the client speaks TLS: this Kafka port does not")]
    Tls,
    /// The first bytes are an AMQP protocol header.
    #[error("the client speaks AMQP: this is the Kafka port")]
    Amqp,
    /// A length of zero or below.
    #[error("a request of {len} bytes")]
    Length {
        /// The length.
        len: i32,
    },
    /// A request longer than allowed.
    #[error("a request of {len} bytes, {max} are allowed")]
    TooLong {
        /// The length the client announced.
        len: usize,
        /// What is allowed now.
        max: usize,
    },
    /// An API that is not served.
    #[error("unknown api {api} in version {version}")]
    UnknownApi {
        /// The key on the wire.
        api: i16,
        /// The version on the wire.
        version: i16,
    },
    /// A version that is not served.
    #[error("{api} has no version {version} here")]
    UnsupportedVersion {
        /// The API.
        api: ApiKey,
        /// The version on the wire.
        version: i16,
    },
    /// Anything but a handshake before the client has proved who it is.
    #[error("{api} before authentication")]
    NotAuthenticated {
        /// The API.
        api: ApiKey,
    },
    /// More requests than a handshake needs.
    #[error("more than {max} requests before authentication")]
    HandshakeTooLong {
        /// What is allowed.
        max: u32,
    },
    /// A body or header that is not what it claims to be.
    #[error("malformed request: {0}")]
    Malformed(#[from] Malformed),
}

/// The machine. After a [`Fault`] it must not be used again.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    phase: Phase,
    handshake_requests: u32,
    is_first_frame: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Only a handshake is allowed.
    Handshake,
    /// Frames are SASL tokens.
    Tokens,
    /// Everything is allowed.
    Open,
}

impl Connection {
    /// A connection on which every request is allowed at once.
    pub const fn open(limits: Limits) -> Self {
        Self { limits, phase: Phase::Open, handshake_requests: 0, is_first_frame: true }
    }

    /// A connection that must authenticate first: until [`Connection::authenticated`] only ApiVersions, SaslHandshake and
    /// SaslAuthenticate are allowed, and each of their requests must be handled before `receive` is called again.
    pub const fn needs_authentication(limits: Limits) -> Self {
        Self { limits, phase: Phase::Handshake, handshake_requests: 0, is_first_frame: true }
    }

    /// The client has proved who it is: from now on everything is allowed.
    pub fn authenticated(&mut self) {
        self.phase = Phase::Open;
    }

    /// SaslHandshake version 0 was answered without an error: frames are bare SASL tokens until `authenticated`.
    pub fn expect_sasl_tokens(&mut self) {
        self.phase = Phase::Tokens;
    }

    /// Takes the next request off the front of `input`, which is what was read from the socket and not taken yet.
    ///
    /// `None`: more bytes are needed; room for some of them is reserved, never more than what has come already or 1 MiB.
    ///
    /// # Errors
    /// A [`Fault`]: log it and close.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Fault> {
        let Some(prefix) = input.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let len = self.judge_length(*prefix)?;
        let end = LENGTH_BYTES + len;
        if input.len() < end {
            let missing = end - input.len();
            let trusted = if self.phase == Phase::Open { READ_AHEAD_BYTES_MAX } else { 0 };
            input.reserve(missing.min(input.len().max(trusted)));
            return Ok(None);
        }
        let mut frame = input.split_to(end).freeze();
        self.is_first_frame = false;
        frame.advance(LENGTH_BYTES);
        self.count_handshake()?;
        if self.phase == Phase::Tokens {
            return Ok(Some(Event::SaslToken(frame)));
        }
        self.request(frame).map(Some)
    }

    fn judge_length(&self, prefix: [u8; LENGTH_BYTES]) -> Result<usize, Fault> {
        if self.is_first_frame {
            judge_protocol(prefix)?;
        }
        let len = i32::from_be_bytes(prefix);
        let max = match self.phase {
            Phase::Open => self.limits.request_bytes_max,
            Phase::Handshake | Phase::Tokens => self.limits.handshake_bytes_max,
        };
        match usize::try_from(len) {
            Ok(len) if len > max => Err(Fault::TooLong { len, max }),
            Ok(bytes) if bytes > 0 || self.phase == Phase::Tokens => Ok(bytes),
            _ => Err(Fault::Length { len }),
        }
    }

    fn count_handshake(&mut self) -> Result<(), Fault> {
        if self.phase == Phase::Open {
            return Ok(());
        }
        self.handshake_requests = self.handshake_requests.saturating_add(1);
        let max = self.limits.handshake_requests_max;
        if self.handshake_requests > max { Err(Fault::HandshakeTooLong { max }) } else { Ok(()) }
    }

    fn request(&self, frame: Bytes) -> Result<Event, Fault> {
        let mut r = Reader::new(frame, self.limits.items_max);
        let start = RequestStart::decode(&mut r)?;
        let version = start.version;
        let Some(api) = ApiKey::from_code(start.api) else {
            return Err(Fault::UnknownApi { api: start.api, version: version.0 });
        };
        let is_handshake =
            matches!(api, ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate);
        if self.phase == Phase::Handshake && !is_handshake {
            return Err(Fault::NotAuthenticated { api });
        }
        if !api.spec().serves(version) {
            let correlation_id = start.correlation_id;
            return match api {
                ApiKey::ApiVersions => Ok(Event::ApiVersionsTooNew { correlation_id }),
                _ => Err(Fault::UnsupportedVersion { api, version: version.0 }),
            };
        }
        let header = start.decode_rest(api, &mut r)?;
        let request = Request::decode(api, &mut r, version)?;
        Ok(Event::Request {
            correlation_id: header.correlation_id,
            version,
            client_id: header.client_id,
            request,
        })
    }
}

/// Tells clients of other protocols by their first four bytes. As a length each would be over 100 MiB.
fn judge_protocol(prefix: [u8; LENGTH_BYTES]) -> Result<(), Fault> {
    match &prefix {
        b"GET " | b"HEAD" | b"POST" | b"PUT " | b"OPTI" | b"DELE" | b"PATC" | b"CONN" | b"PRI " => {
            Err(Fault::Http)
        }
        [22, 3, 0..=4, _] => Err(Fault::Tls), // record type handshake, version 3.x (RFC 8446 5.1)
        b"AMQP" => Err(Fault::Amqp),
        _ => Ok(()),
    }
}

/// Room reserved at once for a request that has only been announced.
const READ_AHEAD_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests;
