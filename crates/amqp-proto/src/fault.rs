//! What goes wrong, how far it reaches, and the words RabbitMQ says it with.

use std::fmt;

use crate::ids::{ChannelId, MethodId, ShortStr};
use crate::wire::Malformed;

/// The reply codes of §1.2 that RabbitMQ sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ReplyCode {
    /// 200: nothing went wrong; a client that closes normally says this.
    Success = 200,
    /// 311: a message too large for the moment.
    ContentTooLarge = 311,
    /// 312: a mandatory message reached no queue (in `basic.return`).
    NoRoute = 312,
    /// 313: an immediate message met no consumer (in `basic.return`).
    NoConsumers = 313,
    /// 320: an operator closed the connection.
    ConnectionForced = 320,
    /// 402: the virtual host was given wrongly.
    InvalidPath = 402,
    /// 403: not allowed by permissions, or a reserved name.
    AccessRefused = 403,
    /// 404: no such queue or exchange.
    NotFound = 404,
    /// 405: another connection's exclusive queue.
    ResourceLocked = 405,
    /// 406: the request contradicts what is there.
    PreconditionFailed = 406,
    /// 501: a frame that cannot be a frame.
    FrameError = 501,
    /// 502: a field that cannot be its type.
    SyntaxError = 502,
    /// 503: a method that has no place here.
    CommandInvalid = 503,
    /// 504: a channel not open, or open twice.
    ChannelError = 504,
    /// 505: a frame out of order.
    UnexpectedFrame = 505,
    /// 506: the server has too little of something.
    ResourceError = 506,
    /// 530: forbidden by negotiation, limits or a missing virtual host.
    NotAllowed = 530,
    /// 540: a feature RabbitMQ does not have.
    NotImplemented = 540,
    /// 541: the server's own failure.
    InternalError = 541,
}

impl ReplyCode {
    /// Every code, in ascending order.
    pub const ALL: [Self; 19] = [
        Self::Success,
        Self::ContentTooLarge,
        Self::NoRoute,
        Self::NoConsumers,
        Self::ConnectionForced,
        Self::InvalidPath,
        Self::AccessRefused,
        Self::NotFound,
        Self::ResourceLocked,
        Self::PreconditionFailed,
        Self::FrameError,
        Self::SyntaxError,
        Self::CommandInvalid,
        Self::ChannelError,
        Self::UnexpectedFrame,
        Self::ResourceError,
        Self::NotAllowed,
        Self::NotImplemented,
        Self::InternalError,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The word in front of every reply text.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::ContentTooLarge => "CONTENT_TOO_LARGE",
            Self::NoRoute => "NO_ROUTE",
            Self::NoConsumers => "NO_CONSUMERS",
            Self::ConnectionForced => "CONNECTION_FORCED",
            Self::InvalidPath => "INVALID_PATH",
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::ResourceLocked => "RESOURCE_LOCKED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::FrameError => "FRAME_ERROR",
            Self::SyntaxError => "SYNTAX_ERROR",
            Self::CommandInvalid => "COMMAND_INVALID",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::UnexpectedFrame => "UNEXPECTED_FRAME",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    /// Whether it ends the connection; the others end the channel (§1.2, "hard error").
    #[must_use]
    pub const fn is_hard(self) -> bool {
        !matches!(
            self,
            Self::Success
                | Self::ContentTooLarge
                | Self::NoRoute
                | Self::NoConsumers
                | Self::AccessRefused
                | Self::NotFound
                | Self::ResourceLocked
                | Self::PreconditionFailed
        )
    }
}

/// What a close says: why, in words, and which method is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reply code.
    pub code: ReplyCode,
    /// The whole reply text, `NAME - explanation`, at most 255 bytes.
    pub text: ShortStr,
    /// The method that caused it, or [`MethodId::NONE`].
    pub culprit: MethodId,
}

impl Failure {
    /// A failure with RabbitMQ's text: the code's name, a dash, the explanation; what is longer than
    /// 255 bytes ends in three dots.
    #[must_use]
    pub fn new(code: ReplyCode, explanation: impl fmt::Display, culprit: MethodId) -> Self {
        let mut text = format!("{} - {explanation}", code.name());
        if text.len() > ShortStr::LEN_MAX {
            text.truncate(text.floor_char_boundary(ShortStr::LEN_MAX - 3));
            text.push_str("...");
        }
        Self { code, text: ShortStr::cut(&text), culprit }
    }
}

/// A failure and its radius.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Closes one channel; the connection lives on.
    #[error("channel {}: {}", .channel.0, .failure.text)]
    Channel {
        /// The channel that dies of it.
        channel: ChannelId,
        /// Why.
        failure: Failure,
    },
    /// Closes the connection with all its channels.
    #[error("connection: {}", .0.text)]
    Connection(Failure),
}

impl Fault {
    /// The fault `code` on `channel`: its radius follows from the code, except that on channel 0
    /// everything ends the connection.
    #[must_use]
    pub fn new(
        channel: ChannelId,
        code: ReplyCode,
        explanation: impl fmt::Display,
        culprit: MethodId,
    ) -> Self {
        let failure = Failure::new(code, explanation, culprit);
        if code.is_hard() || channel == ChannelId::CONNECTION {
            Self::Connection(failure)
        } else {
            Self::Channel { channel, failure }
        }
    }

    /// The fault `code` of the connection itself.
    #[must_use]
    pub fn connection(code: ReplyCode, explanation: impl fmt::Display, culprit: MethodId) -> Self {
        Self::Connection(Failure::new(code, explanation, culprit))
    }

    /// Bytes that are no method, table or property list.
    #[must_use]
    pub fn malformed(error: Malformed, culprit: MethodId) -> Self {
        Self::connection(ReplyCode::SyntaxError, error, culprit)
    }

    /// What it says, whatever its radius.
    #[must_use]
    pub const fn failure(&self) -> &Failure {
        match self {
            Self::Channel { failure, .. } | Self::Connection(failure) => failure,
        }
    }
}
