//! What can be wrong with an argument, in RabbitMQ's words.

use std::fmt;

use super::QueueType;

/// An argument that cannot be used: 406.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentError {
    /// Its name with `x-`.
    pub argument: Box<str>,
    /// What is wrong with it.
    pub fault: ArgumentFault,
}

/// What is wrong with an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArgumentFault {
    /// `{value_negative,-1}`
    Negative(i64),
    /// `{value_zero,0}`
    Zero,
    /// `{value_too_big,…}`: more than RabbitMQ's timers can hold.
    TooBig(i64),
    /// `{max_value_exceeded,…}`: a priority above 255.
    PriorityTooHigh(i64),
    /// `"expected integer, got longstr"`
    NotInteger(&'static str),
    /// `"expected boolean, got longstr"`
    NotBoolean(&'static str),
    /// `{unacceptable_type,…}`: no text.
    NotText(&'static str),
    /// `"unsupported queue type 'zzz'"`
    UnknownType(Box<str>),
    /// A word that is none of those expected, such as `invalid_overflow`.
    UnknownWord(&'static str),
    /// A dead-letter routing key without an exchange.
    RoutingKeyWithoutExchange,
    /// A stream's segment of more than 3,000,000,000 bytes.
    SegmentTooLarge,
    /// A stream's filter of less than 16 or more than 255 bytes.
    FilterSize,
    /// The queue type does not know the argument.
    Unsupported(QueueType),
}

/// A property the queue type does not allow: 406 `invalid property 'non-durable' for queue …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid property '{0}'")]
pub struct InvalidProperty(pub &'static str);

impl ArgumentError {
    /// RabbitMQ's explanation, for an object named like `queue 'q' in vhost '/'`.
    #[must_use]
    pub fn explain(&self, object: &str) -> String {
        match &self.fault {
            ArgumentFault::Unsupported(queue_type) => {
                let (argument, name) = (&self.argument, queue_type.as_str());
                format!("invalid arg '{argument}' for {object} of queue type rabbit_{name}_queue")
            }
            ArgumentFault::SegmentTooLarge => format!("Exceeded max value for {}", self.argument),
            ArgumentFault::FilterSize => format!("Invalid value for {}", self.argument),
            fault => format!("invalid arg '{}' for {object}: {fault}", self.argument),
        }
    }
}

/// As Erlang prints it.
impl fmt::Display for ArgumentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Negative(n) => write!(f, "{{value_negative,{n}}}"),
            Self::Zero => f.write_str("{value_zero,0}"),
            Self::TooBig(n) => write!(f, "{{value_too_big,{n}}}"),
            Self::PriorityTooHigh(n) => write!(f, "{{max_value_exceeded,{n}}}"),
            Self::NotInteger(got) => write!(f, "\"expected integer, got {got}\""),
            Self::NotBoolean(got) => write!(f, "\"expected boolean, got {got}\""),
            Self::NotText(got) => write!(f, "{{unacceptable_type,{got}}}"),
            Self::UnknownType(name) => write!(f, "\"unsupported queue type '{name}'\""),
            Self::UnknownWord(error) => f.write_str(error),
            Self::RoutingKeyWithoutExchange => f.write_str("routing_key_but_no_dlx_defined"),
            Self::SegmentTooLarge => f.write_str("too large"),
            Self::FilterSize => f.write_str("not from 16 to 255"),
            Self::Unsupported(queue_type) => write!(f, "unsupported by {}", queue_type.as_str()),
        }
    }
}
