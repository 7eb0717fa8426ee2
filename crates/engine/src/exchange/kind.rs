//! Exchange types: their names on the wire and the arguments that change them.

use super::DeclareError;
use crate::value::{Arguments, Value};

/// An exchange type with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// How it chooses among its bindings.
    pub routing: Routing,
    /// `x-delayed-message`: the header `x-delay` holds a message back before it is routed.
    pub delayed: bool,
}

/// How an exchange chooses among its bindings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routing {
    /// Binding key equals routing key.
    Direct,
    /// Every binding.
    Fanout,
    /// Words with `*` and `#`.
    Topic,
    /// By the message's headers.
    Headers,
    /// `x-consistent-hash`: one destination, each by its weight.
    ConsistentHash(HashOn),
    /// `x-modulus-hash`: one destination, by the hash of the keys.
    ModulusHash,
    /// `x-random`: one destination by chance.
    Random,
    /// `x-local-random`: the same; on one node every queue is local.
    LocalRandom,
    /// `x-recent-history`: every binding, and a new binding gets the last messages.
    RecentHistory {
        /// How many messages it remembers, at most [`HISTORY_MAX`].
        length: u32,
    },
}

/// What `x-consistent-hash` hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// The routing key.
    RoutingKey,
    /// The header of that name (`hash-header`).
    Header(Box<str>),
    /// Property `message_id`.
    MessageId,
    /// Property `correlation_id`.
    CorrelationId,
    /// Property `timestamp`.
    Timestamp,
}

/// The most messages `x-recent-history` remembers; more is clamped.
pub const HISTORY_MAX: u32 = 65_536;
const HISTORY_DEFAULT: u32 = 20;

impl Kind {
    /// A type without options.
    #[must_use]
    pub const fn plain(routing: Routing) -> Self {
        Self { routing, delayed: false }
    }

    /// Understands the type of a declaration and the arguments that belong to it.
    ///
    /// # Errors
    /// An unknown type; an argument of the type that cannot be understood.
    pub fn parse(name: &str, arguments: &Arguments) -> Result<Self, DeclareError> {
        if name != DELAYED {
            return Ok(Self::plain(Routing::parse(name, arguments)?));
        }
        let inner = match arguments.get("x-delayed-type") {
            Some(Value::LongString(_)) => arguments.get("x-delayed-type").and_then(Value::as_str),
            _ => None,
        };
        inner
            .filter(|inner| *inner != DELAYED)
            .and_then(|inner| Routing::parse(inner, arguments).ok())
            .map(|routing| Self { routing, delayed: true })
            .ok_or_else(|| {
                DeclareError::InvalidArgument(
                    "'x-delayed-type' must be an existing exchange type".into(),
                )
            })
    }

    /// The type's name on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        if self.delayed { DELAYED } else { self.routing.name() }
    }

    /// How long the message asks to be held back, in ms; `None` if not at all.
    #[must_use]
    pub fn delay(&self, headers: &Arguments) -> Option<u64> {
        if !self.delayed {
            return None;
        }
        let delay = headers.get("x-delay")?;
        let ms = delay.as_int().or_else(|| delay.as_str()?.parse().ok())?;
        u64::try_from(ms).ok().filter(|ms| *ms > 0)
    }

    /// Whether it looks at the routing keys and its bindings, and at nothing else.
    #[must_use]
    pub const fn is_by_keys(&self) -> bool {
        !self.delayed
            && matches!(
                self.routing,
                Routing::Direct
                    | Routing::Fanout
                    | Routing::Topic
                    | Routing::ConsistentHash(HashOn::RoutingKey)
                    | Routing::ModulusHash
                    | Routing::RecentHistory { .. }
            )
    }

    /// Whether it looks at headers to route.
    #[must_use]
    pub const fn reads_headers(&self) -> bool {
        self.delayed
            || matches!(
                self.routing,
                Routing::Headers
                    | Routing::ConsistentHash(HashOn::Header(_))
                    | Routing::RecentHistory { .. }
            )
    }
}

impl Routing {
    fn parse(name: &str, arguments: &Arguments) -> Result<Self, DeclareError> {
        Ok(match name {
            "direct" => Self::Direct,
            "fanout" => Self::Fanout,
            "topic" => Self::Topic,
            "headers" => Self::Headers,
            "x-consistent-hash" => Self::ConsistentHash(HashOn::parse(arguments)?),
            "x-modulus-hash" => Self::ModulusHash,
            "x-random" => Self::Random,
            "x-local-random" => Self::LocalRandom,
            "x-recent-history" => Self::RecentHistory { length: history_length(arguments)? },
            _ => return Err(DeclareError::UnknownKind(name.into())),
        })
    }

    /// The type's name on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash(_) => "x-consistent-hash",
            Self::ModulusHash => "x-modulus-hash",
            Self::Random => "x-random",
            Self::LocalRandom => "x-local-random",
            Self::RecentHistory { .. } => "x-recent-history",
        }
    }
}

impl HashOn {
    fn parse(arguments: &Arguments) -> Result<Self, DeclareError> {
        let text = |name| arguments.get(name).and_then(Value::as_str);
        match (text("hash-header"), text("hash-property")) {
            (Some(_), Some(_)) => Err(DeclareError::InvalidArgument(
                "hash-header and hash-property are mutually exclusive".into(),
            )),
            (Some(header), None) => Ok(Self::Header(header.into())),
            (None, Some("message_id")) => Ok(Self::MessageId),
            (None, Some("correlation_id")) => Ok(Self::CorrelationId),
            (None, Some("timestamp")) => Ok(Self::Timestamp),
            (None, Some(other)) => Err(DeclareError::InvalidArgument(
                format!("unsupported property for hash-property: {other}").into(),
            )),
            (None, None) => Ok(Self::RoutingKey),
        }
    }
}

fn history_length(arguments: &Arguments) -> Result<u32, DeclareError> {
    let Some(length) = arguments.get("x-recent-history-length") else {
        return Ok(HISTORY_DEFAULT);
    };
    match length.as_int() {
        Some(n) if n > 0 => Ok(u32::try_from(n).unwrap_or(u32::MAX).min(HISTORY_MAX)),
        _ => Err(DeclareError::InvalidArgument(
            "'x-recent-history-length' must be a positive integer".into(),
        )),
    }
}

const DELAYED: &str = "x-delayed-message";
