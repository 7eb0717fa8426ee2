//! Queue arguments and policies: judged in RabbitMQ's words, compared, merged into [`Settings`].

mod fault;
mod reader;
#[cfg(test)]
mod tests;

pub use self::reader::interval_ms;
use self::reader::{Reader, overflow, retry_on};
use super::settings::{Overflow, Retry, RetryOn, Settings};
use crate::value::{Arguments, Inequivalent, Value};

pub use fault::{ArgumentError, ArgumentFault, InvalidProperty};

/// The queue types of `x-queue-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum QueueType {
    /// `classic`
    #[default]
    Classic,
    /// `quorum`
    Quorum,
    /// `stream`
    Stream,
}

/// What arguments or a policy ask for; what is `None` was not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Milliseconds.
    pub message_ttl: Option<u64>,
    /// Milliseconds.
    pub expires: Option<u64>,
    /// Messages.
    pub max_length: Option<u64>,
    /// Bytes of bodies.
    pub max_bytes: Option<u64>,
    /// What happens to the one too many.
    pub overflow: Option<Overflow>,
    /// Where dead letters go; `""` is the default exchange.
    pub dead_letter_exchange: Option<Box<str>>,
    /// Under which key.
    pub dead_letter_routing_key: Option<Box<str>>,
    /// `at-least-once`; only arguments and policies of quorum queues say so.
    pub dead_letter_at_least_once: Option<bool>,
    /// Classic queues: the highest priority.
    pub max_priority: Option<u8>,
    /// Failed deliveries; a negative number for no limit.
    pub delivery_limit: Option<i64>,
    /// One consumer at a time.
    pub single_active: Option<bool>,
    /// Milliseconds.
    pub consumer_timeout: Option<u64>,
    /// Which returns wait; `Some(None)` for none.
    pub retry_on: Option<Option<RetryOn>>,
    /// Milliseconds for each delivery.
    pub retry_min: Option<u64>,
    /// Milliseconds at most.
    pub retry_max: Option<u64>,
    /// Streams: milliseconds that messages are kept.
    pub max_age: Option<u64>,
    /// Streams: bytes of a segment file.
    pub segment_bytes: Option<u64>,
}

/// What a declaration says about a queue beyond its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Declaration {
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// Belongs to one connection.
    pub exclusive: bool,
    /// From `x-queue-type`, or the virtual host's default.
    pub queue_type: QueueType,
    /// All of them, as declared.
    pub arguments: Arguments,
}

impl QueueType {
    /// The type in the arguments, or `default`.
    ///
    /// # Errors
    /// A type that does not exist.
    pub fn of(arguments: &Arguments, default: Self) -> Result<Self, ArgumentError> {
        let error = |fault| ArgumentError { argument: QUEUE_TYPE.into(), fault };
        match arguments.get(QUEUE_TYPE) {
            None => Ok(default),
            Some(value) => match value.as_str() {
                Some("classic") => Ok(Self::Classic),
                Some("quorum") => Ok(Self::Quorum),
                Some("stream") => Ok(Self::Stream),
                Some(other) => Err(error(ArgumentFault::UnknownType(other.into()))),
                None => Err(error(ArgumentFault::NotText(value.type_name()))),
            },
        }
    }

    /// The word in `x-queue-type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }

    /// RabbitMQ 4.3 has retries, delivery limits and timeouts for quorum queues only; here classic
    /// queues have them, too. What is only about placing replicas is accepted everywhere.
    fn knows(self, argument: &str) -> bool {
        match argument {
            "x-max-priority" => self == Self::Classic,
            "x-dead-letter-strategy" => self == Self::Quorum,
            "x-max-age" | "x-stream-max-segment-size-bytes" | "x-stream-filter-size-bytes" => {
                self == Self::Stream
            }
            "x-max-length-bytes" | "x-ottla-topic" | "x-ottla-partition" => true,
            _ if QUEUE_ONLY.contains(&argument) => self != Self::Stream,
            _ => true,
        }
    }
}

impl Declaration {
    /// Whether the type allows the properties (research 1.4).
    ///
    /// # Errors
    /// A quorum queue or stream that is not durable, exclusive, or auto-delete.
    pub const fn check_properties(&self) -> Result<(), InvalidProperty> {
        match self.queue_type {
            QueueType::Classic => Ok(()),
            _ if self.auto_delete => Err(InvalidProperty("auto-delete")),
            _ if self.exclusive => Err(InvalidProperty("exclusive-owner")),
            _ if !self.durable => Err(InvalidProperty("non-durable")),
            _ => Ok(()),
        }
    }

    /// Whether a redeclaration means this queue: its flags, and the arguments that matter to the type.
    /// Whose exclusive queue it is must have been judged before.
    ///
    /// # Errors
    /// The first property or argument that differs.
    pub fn check_same(&self, received: &Self) -> Result<(), Inequivalent> {
        Inequivalent::check("durable", received.durable, self.durable)?;
        Inequivalent::check("auto_delete", received.auto_delete, self.auto_delete)?;
        Inequivalent::check("exclusive", received.exclusive, self.exclusive)?;
        // a missing type is the default one
        let typed = |declaration: &Self| -> Arguments {
            [(QUEUE_TYPE, Value::text(declaration.queue_type.as_str()))].into_iter().collect()
        };
        Inequivalent::check_argument(QUEUE_TYPE, &typed(received), &typed(self))?;
        let compared = COMPARED.iter().filter(|argument| self.queue_type.knows(argument));
        compared.into_iter().try_for_each(|argument| {
            Inequivalent::check_argument(argument, &received.arguments, &self.arguments)
        })
    }
}

impl Rules {
    /// Understands the arguments of a queue. Unknown ones, and those of features that are gone
    /// (`x-queue-mode`, `x-ha-policy`, …), are ignored.
    ///
    /// # Errors
    /// A value of the wrong type or range; an argument that the queue type does not know.
    pub fn of_arguments(
        queue_type: QueueType,
        arguments: &Arguments,
    ) -> Result<Self, ArgumentError> {
        if let Some((name, _)) = arguments.iter().find(|(name, _)| !queue_type.knows(name)) {
            let fault = ArgumentFault::Unsupported(queue_type);
            return Err(ArgumentError { argument: name.into(), fault });
        }
        let rules = Self::read(arguments, "x-")?;
        let error = |argument: &str, fault| Err(ArgumentError { argument: argument.into(), fault });
        if rules.dead_letter_routing_key.is_some() && rules.dead_letter_exchange.is_none() {
            return error("x-dead-letter-routing-key", ArgumentFault::RoutingKeyWithoutExchange);
        }
        if rules.segment_bytes.is_some_and(|bytes| bytes > SEGMENT_BYTES_MAX) {
            return error(SEGMENT_BYTES, ArgumentFault::SegmentTooLarge);
        }
        let filter = Reader { table: arguments, prefix: "x-" }.count("stream-filter-size-bytes")?;
        if filter.is_some_and(|bytes| !(16..=255).contains(&bytes)) {
            return error("x-stream-filter-size-bytes", ArgumentFault::FilterSize);
        }
        if queue_type == QueueType::Quorum
            && rules.overflow == Some(Overflow::RejectPublishDeadLetter)
        {
            return error("x-overflow", ArgumentFault::Unsupported(queue_type));
        }
        Ok(rules)
    }

    /// Understands the definition of a policy, whose keys have no `x-`.
    ///
    /// # Errors
    /// A value of the wrong type or range.
    pub fn of_policy(definition: &Arguments) -> Result<Self, ArgumentError> {
        Self::read(definition, "")
    }

    fn read(table: &Arguments, prefix: &'static str) -> Result<Self, ArgumentError> {
        let reader = Reader { table, prefix };
        Ok(Self {
            message_ttl: reader.millis("message-ttl")?,
            expires: reader.positive_millis("expires")?,
            max_length: reader.count("max-length")?,
            max_bytes: reader.count("max-length-bytes")?,
            overflow: reader.word("overflow", "invalid_overflow", overflow)?,
            dead_letter_exchange: reader.text("dead-letter-exchange")?,
            dead_letter_routing_key: reader.text("dead-letter-routing-key")?,
            dead_letter_at_least_once: reader.word(
                "dead-letter-strategy",
                "invalid_dlx_strategy",
                |word| match word {
                    "at-most-once" => Some(false),
                    "at-least-once" => Some(true),
                    _ => None,
                },
            )?,
            max_priority: reader.priority("max-priority")?,
            delivery_limit: reader.int("delivery-limit")?,
            single_active: reader.flag("single-active-consumer")?,
            consumer_timeout: reader.count("consumer-timeout")?,
            retry_on: reader.word("delayed-retry-type", "invalid_delayed_retry_type", retry_on)?,
            retry_min: reader.count("delayed-retry-min")?,
            retry_max: reader.count("delayed-retry-max")?,
            max_age: reader.word("max-age", "invalid_max_age", interval_ms)?,
            segment_bytes: reader.count("stream-max-segment-size-bytes")?,
        })
    }

    /// These arguments under a policy: the smaller of two numbers, else the argument.
    #[must_use]
    pub fn under(self, policy: Self) -> Self {
        Self {
            message_ttl: smaller(self.message_ttl, policy.message_ttl),
            expires: smaller(self.expires, policy.expires),
            max_length: smaller(self.max_length, policy.max_length),
            max_bytes: smaller(self.max_bytes, policy.max_bytes),
            overflow: self.overflow.or(policy.overflow),
            dead_letter_exchange: self.dead_letter_exchange.or(policy.dead_letter_exchange),
            dead_letter_routing_key: self
                .dead_letter_routing_key
                .or(policy.dead_letter_routing_key),
            dead_letter_at_least_once: self
                .dead_letter_at_least_once
                .or(policy.dead_letter_at_least_once),
            max_priority: self.max_priority, // the lanes of a queue are fixed when it is declared
            delivery_limit: smaller_limit(self.delivery_limit, policy.delivery_limit),
            single_active: self.single_active,
            consumer_timeout: smaller(self.consumer_timeout, policy.consumer_timeout),
            retry_on: self.retry_on.or(policy.retry_on),
            retry_min: self.retry_min.or(policy.retry_min),
            retry_max: self.retry_max.or(policy.retry_max),
            max_age: smaller(self.max_age, policy.max_age),
            segment_bytes: smaller(self.segment_bytes, policy.segment_bytes),
        }
    }

    /// The same below what an operator says: the smaller of two numbers, else the operator's.
    #[must_use]
    pub fn below(self, operator: Self) -> Self {
        let overflow = operator.overflow.or(self.overflow);
        Self { overflow, ..self.under(operator) }
    }

    /// What the machine is to do.
    #[must_use]
    pub fn settings(&self, queue_type: QueueType, auto_delete: bool) -> Settings {
        let base = match queue_type {
            QueueType::Quorum => Settings::quorum(),
            QueueType::Classic | QueueType::Stream => Settings::classic(),
        };
        let retry = self.retry_on.flatten().map(|on| {
            let min = self.retry_min.unwrap_or(RETRY_MIN_MS);
            Retry { on, min, max: self.retry_max.unwrap_or(RETRY_MAX_MS).max(min) }
        });
        Settings {
            max_priority: self.max_priority.unwrap_or(base.max_priority),
            max_length: self.max_length,
            max_bytes: self.max_bytes,
            overflow: self.overflow.unwrap_or(base.overflow),
            message_ttl: self.message_ttl,
            expires: self.expires,
            dead_letters: self.dead_letter_exchange.is_some(),
            delivery_limit: match self.delivery_limit {
                None => base.delivery_limit,
                Some(limit) => u32::try_from(limit).ok(), // negative, or never reached: no limit
            },
            retry,
            consumer_timeout: self.consumer_timeout,
            single_active: self.single_active.unwrap_or(false),
            auto_delete,
            ..base
        }
    }
}

fn smaller(argument: Option<u64>, policy: Option<u64>) -> Option<u64> {
    argument.into_iter().chain(policy).min()
}

/// A negative limit is none, and so larger than any.
fn smaller_limit(argument: Option<i64>, policy: Option<i64>) -> Option<i64> {
    let limited = argument.into_iter().chain(policy).filter(|limit| *limit >= 0).min();
    limited.or(argument).or(policy)
}

const QUEUE_TYPE: &str = "x-queue-type";
const SEGMENT_BYTES: &str = "x-stream-max-segment-size-bytes";
/// RabbitMQ's bound.
const SEGMENT_BYTES_MAX: u64 = 3_000_000_000;
const RETRY_MIN_MS: u64 = 1_000;
const RETRY_MAX_MS: u64 = 600_000;
/// What streams do not know.
const QUEUE_ONLY: [&str; 14] = [
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-max-length",
    "x-overflow",
    "x-single-active-consumer",
    "x-delivery-limit",
    "x-consumer-timeout",
    "x-delayed-retry-type",
    "x-delayed-retry-min",
    "x-delayed-retry-max",
    "x-max-priority",
];
/// What a redeclaration must repeat, beside the type.
const COMPARED: [&str; 18] = [
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-max-length",
    "x-max-length-bytes",
    "x-overflow",
    "x-max-priority",
    "x-single-active-consumer",
    "x-delivery-limit",
    "x-consumer-timeout",
    "x-delayed-retry-type",
    "x-delayed-retry-min",
    "x-delayed-retry-max",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
];
