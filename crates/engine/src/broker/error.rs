//! What the broker refuses, in RabbitMQ's words. Wire codes live with the protocol.

use std::fmt;

use ottla_store::Refused;

use crate::exchange::{BadSelector, BindError, DeclareError, DeleteError, RouteError};
use crate::value::{Inequivalent, Value};

/// What a refusal means to a client: one AMQP reply code each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// 403 `ACCESS_REFUSED`
    AccessRefused,
    /// 404 `NOT_FOUND`
    NotFound,
    /// 405 `RESOURCE_LOCKED`
    ResourceLocked,
    /// 406 `PRECONDITION_FAILED`
    PreconditionFailed,
    /// 506 `RESOURCE_ERROR`
    ResourceError,
    /// 530 `NOT_ALLOWED`
    NotAllowed,
    /// 540 `NOT_IMPLEMENTED`
    NotImplemented,
    /// 541 `INTERNAL_ERROR`
    Internal,
    /// No reply: stop reading this connection until the log is durable further, then call again.
    Busy,
    /// The disk is full: no reply to a publish, `connection.blocked` instead; 506 for the rest.
    DiskFull,
    /// Too much is in memory alone: `connection.blocked` instead of a reply to a publish.
    MemoryFull,
}

/// A refusal. Its `Display` is the explanation of the reply text, after `NAME - `.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerError {
    kind: ErrorKind,
    text: String,
}

impl BrokerError {
    pub(super) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// Which reply code.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What RabbitMQ says behind the name of the code.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn refused(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::AccessRefused, text)
    }

    pub(super) fn precondition(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::PreconditionFailed, text)
    }

    pub(super) fn no_queue(queue: &str, vhost: &str) -> Self {
        Self::new(ErrorKind::NotFound, format!("no queue '{queue}' in vhost '{vhost}'"))
    }

    /// RabbitMQ's words for what streams cannot do.
    pub(super) fn on_stream(method: &str, queue: &str, vhost: &str) -> Self {
        let text =
            format!("{method} not supported by stream queues queue '{queue}' in vhost '{vhost}'");
        Self::new(ErrorKind::NotImplemented, text)
    }

    pub(super) fn no_exchange(exchange: &str, vhost: &str) -> Self {
        Self::new(ErrorKind::NotFound, format!("no exchange '{exchange}' in vhost '{vhost}'"))
    }

    pub(super) fn locked(queue: &str, vhost: &str) -> Self {
        let text = format!(
            "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It could \
             be originally declared on another connection or the exclusive property value does not \
             match that of the original declaration."
        );
        Self::new(ErrorKind::ResourceLocked, text)
    }

    pub(super) fn inequivalent(what: &Inequivalent, object: &str) -> Self {
        Self::precondition(what.explain(object))
    }

    pub(super) fn declare(error: DeclareError, exchange: &str, vhost: &str) -> Self {
        match error {
            DeclareError::DefaultExchange => Self::refused(error.to_string()),
            DeclareError::ReservedName => Self::refused(format!(
                "exchange name '{exchange}' contains reserved prefix 'amq.*'"
            )),
            DeclareError::Inequivalent(what) => {
                Self::inequivalent(&what, &format!("exchange '{exchange}' in vhost '{vhost}'"))
            }
            DeclareError::InvalidType { argument, value } => Self::precondition(format!(
                "invalid type '{}' for arg '{argument}' in exchange '{exchange}' in vhost '{vhost}'",
                value.type_name()
            )),
            DeclareError::TooMany => Self::new(ErrorKind::ResourceError, error.to_string()),
            other => Self::precondition(other.to_string()),
        }
    }

    pub(super) fn bind(error: BindError, vhost: &str) -> Self {
        match error {
            BindError::DefaultExchange => Self::refused(error.to_string()),
            BindError::NoExchange(name) => Self::no_exchange(&name, vhost),
            BindError::TooMany => Self::new(ErrorKind::ResourceError, error.to_string()),
            other => Self::precondition(other.to_string()),
        }
    }

    pub(super) fn delete(error: DeleteError, exchange: &str, vhost: &str) -> Self {
        match error {
            DeleteError::DefaultExchange => Self::refused(error.to_string()),
            DeleteError::SystemExchange => Self::refused(format!(
                "deletion of system exchange '{exchange}' in vhost '{vhost}' not allowed"
            )),
            DeleteError::InUse => {
                Self::precondition(format!("exchange '{exchange}' in vhost '{vhost}' in use"))
            }
        }
    }

    pub(super) fn route(error: RouteError, exchange: &str, vhost: &str) -> Self {
        match error {
            RouteError::NoExchange => Self::no_exchange(exchange, vhost),
            RouteError::Internal => Self::refused(format!(
                "cannot publish to internal exchange '{exchange}' in vhost '{vhost}'"
            )),
        }
    }

    /// An argument of a queue or consumer that cannot be.
    pub(super) fn invalid_argument(name: &str, queue: &str, vhost: &str, why: &str) -> Self {
        Self::precondition(format!(
            "invalid arg '{name}' for queue '{queue}' in vhost '{vhost}': {why}"
        ))
    }

    pub(super) fn wrong_type(
        name: &str,
        queue: &str,
        vhost: &str,
        want: &str,
        got: &Value,
    ) -> Self {
        let why = format!("\"expected {want}, got {}\"", got.type_name());
        Self::invalid_argument(name, queue, vhost, &why)
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for BrokerError {}

impl From<Refused> for BrokerError {
    fn from(refused: Refused) -> Self {
        let kind = match refused {
            Refused::Busy => ErrorKind::Busy,
            Refused::DiskFull => ErrorKind::DiskFull,
            Refused::TooLarge => ErrorKind::PreconditionFailed,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, refused.to_string())
    }
}

impl From<BadSelector> for BrokerError {
    fn from(bad: BadSelector) -> Self {
        Self::precondition(bad.to_string())
    }
}
