//! The broker's refusals as AMQP reply codes: the one place that knows both.

use ottla_amqp_proto::{ChannelId, Fault, MethodId, ReplyCode};
use ottla_engine::broker::{BrokerError, ErrorKind};

/// Why a method is not answered as it was meant.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Closes the channel or the connection.
    Fault(Fault),
    /// Try again once the log has moved.
    Busy,
    /// Try again once there is room; why there is none, in RabbitMQ's words.
    Full(&'static str),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The reply code of a refusal; `None` for those that are no reply at all.
const fn code(kind: ErrorKind) -> Option<ReplyCode> {
    Some(match kind {
        ErrorKind::AccessRefused => ReplyCode::AccessRefused,
        ErrorKind::NotFound => ReplyCode::NotFound,
        ErrorKind::ResourceLocked => ReplyCode::ResourceLocked,
        ErrorKind::PreconditionFailed => ReplyCode::PreconditionFailed,
        ErrorKind::ResourceError => ReplyCode::ResourceError,
        ErrorKind::NotAllowed => ReplyCode::NotAllowed,
        ErrorKind::NotImplemented => ReplyCode::NotImplemented,
        ErrorKind::Busy | ErrorKind::DiskFull | ErrorKind::MemoryFull => return None,
        _ => ReplyCode::InternalError,
    })
}

/// A refusal of any method but `basic.publish`.
pub(super) fn refused(channel: ChannelId, error: &BrokerError, culprit: MethodId) -> Trouble {
    match (error.kind(), code(error.kind())) {
        (_, Some(code)) => Fault::new(channel, code, error, culprit).into(),
        (ErrorKind::DiskFull, None) => {
            Fault::new(channel, ReplyCode::ResourceError, error, culprit).into()
        }
        (_, None) => Trouble::Busy,
    }
}

/// A refusal of `basic.publish` or `tx.commit`: a full disk makes publishers wait.
pub(super) fn publish_refused(
    channel: ChannelId,
    error: &BrokerError,
    culprit: MethodId,
) -> Trouble {
    match error.kind() {
        ErrorKind::DiskFull => Trouble::Full("low on disk"),
        ErrorKind::MemoryFull => Trouble::Full("low on memory"),
        _ => refused(channel, error, culprit),
    }
}
