//! What can be wrong with a declaration, a binding, a deletion or a publish. Wire codes live elsewhere.

use crate::value::{Inequivalent, Value};

/// `exchange.declare` refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DeclareError {
    /// 403 `operation not permitted on the default exchange`
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    /// 403 `exchange name '…' contains reserved prefix 'amq.*'`
    #[error("exchange name contains reserved prefix 'amq.*'")]
    ReservedName,
    /// 406 `unknown exchange type '…'`
    #[error("unknown exchange type '{0}'")]
    UnknownKind(Box<str>),
    /// 406; use [`Inequivalent::explain`].
    #[error("inequivalent arg '{}'", .0.argument)]
    Inequivalent(Inequivalent),
    /// 406 `invalid type '…' for arg '…' in exchange '…'`
    #[error("invalid type '{}' for arg '{argument}'", value.type_name())]
    InvalidType {
        /// The argument.
        argument: &'static str,
        /// What came.
        value: Value,
    },
    /// 406: an argument of the exchange type cannot be understood.
    #[error("Invalid argument, {0}")]
    InvalidArgument(Box<str>),
    /// The virtual host holds as many exchanges as it may.
    #[error("too many exchanges")]
    TooMany,
}

/// `queue.bind`, `exchange.bind` or their opposites refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// 403 `operation not permitted on the default exchange`
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    /// 404 `no exchange '…' in vhost '…'`
    #[error("no exchange '{0}'")]
    NoExchange(Box<str>),
    /// 406: the exchange type cannot use this binding.
    #[error(transparent)]
    Fault(#[from] BindingFault),
    /// The virtual host holds as many bindings as it may.
    #[error("too many bindings")]
    TooMany,
}

/// A binding that its source's type cannot use; the text is RabbitMQ's.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BindingFault {
    /// Headers exchange: an unknown mode.
    #[error(
        "Invalid x-match field value <<\"{0}\">>; expected all, any, all-with-x, or any-with-x"
    )]
    MatchValue(Box<str>),
    /// Headers exchange: a mode that is no text.
    #[error("Invalid x-match field type {} (value {value}); expected longstr", value.type_name())]
    MatchType {
        /// What came.
        value: Value,
    },
    /// Consistent hash exchange: the key must be a positive weight.
    #[error("The binding key must be an integer: '{0}'")]
    Weight(Box<str>),
}

/// `exchange.delete` refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// 403 `operation not permitted on the default exchange`
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    /// 403 `deletion of system exchange '…' in vhost '…' not allowed`
    #[error("deletion of system exchange not allowed")]
    SystemExchange,
    /// 406 `exchange '…' in vhost '…' in use`
    #[error("exchange in use")]
    InUse,
}

/// `basic.publish` refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// 404 `no exchange '…' in vhost '…'`
    #[error("no such exchange")]
    NoExchange,
    /// 403 `cannot publish to internal exchange '…' in vhost '…'`
    #[error("cannot publish to internal exchange")]
    Internal,
}
