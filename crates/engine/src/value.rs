//! Arguments and headers: typed values in the order the client sent them. Knows no wire format.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One field value, with the types of RabbitMQ's dialect of AMQP 0-9-1 (§4.2.5.5 and its errata).
///
/// Recursion is bounded by whoever decodes it from the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l` and `L`
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: `value / 10^scale`
    Decimal {
        /// Decimal places.
        scale: u8,
        /// Unscaled.
        value: u32,
    },
    /// `S`: any octets, most often UTF-8.
    LongString(Vec<u8>),
    /// `A`
    Array(Vec<Self>),
    /// `T`: seconds since 1970-01-01 UTC.
    Timestamp(u64),
    /// `F`
    Table(Arguments),
    /// `V`
    Void,
    /// `x`
    Bytes(Vec<u8>),
}

/// A table: named values in the order they came. Of two equal names the first counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Arguments(Vec<(Box<str>, Value)>);

impl Value {
    /// A long string.
    #[must_use]
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::LongString(text.as_ref().as_bytes().to_vec())
    }

    /// The name RabbitMQ gives this type in its error texts.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::I8(_) => "byte",
            Self::U8(_) => "unsignedbyte",
            Self::I16(_) => "short",
            Self::U16(_) => "unsignedshort",
            Self::I32(_) => "signedint",
            Self::U32(_) => "unsignedint",
            Self::I64(_) => "long",
            Self::F32(_) => "float",
            Self::F64(_) => "double",
            Self::Decimal { .. } => "decimal",
            Self::LongString(_) => "longstr",
            Self::Array(_) => "array",
            Self::Timestamp(_) => "timestamp",
            Self::Table(_) => "table",
            Self::Void => "void",
            Self::Bytes(_) => "binary",
        }
    }

    /// The number, whatever its width; `None` for what is not a whole number type.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match *self {
            Self::I8(n) => Some(n.into()),
            Self::U8(n) => Some(n.into()),
            Self::I16(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::I32(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::I64(n) => Some(n),
            _ => None,
        }
    }

    /// The text of a long string, if it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::LongString(octets) => std::str::from_utf8(octets).ok(),
            _ => None,
        }
    }

    /// The truth value of a `bool`.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// Whether two arguments mean the same for a redeclaration: whole numbers by value across their
    /// widths, likewise floating ones, everything else by type and value.
    #[must_use]
    pub fn is_equivalent(&self, other: &Self) -> bool {
        match (self.as_int(), other.as_int(), self.as_float(), other.as_float()) {
            (Some(a), Some(b), _, _) => a == b,
            (None, None, Some(a), Some(b)) => a.total_cmp(&b) == Ordering::Equal,
            (None, None, None, None) => self == other,
            _ => false,
        }
    }

    /// Whether a header has the value a headers binding asks for: types are not compared where the
    /// values can be.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        if let (Some(a), Some(b)) = (self.as_octets(), other.as_octets()) {
            return a == b;
        }
        match (self.as_instant_or_int(), other.as_instant_or_int()) {
            (Some(a), Some(b)) => a == b,
            (Some(a), None) => other.as_float().is_some_and(|b| int_equals(a, b)),
            (None, Some(b)) => self.as_float().is_some_and(|a| int_equals(b, a)),
            (None, None) => match (self.as_float(), other.as_float()) {
                (Some(a), Some(b)) => a.partial_cmp(&b) == Some(Ordering::Equal),
                _ => self == other,
            },
        }
    }

    fn as_float(&self) -> Option<f64> {
        match *self {
            Self::F32(n) => Some(n.into()),
            Self::F64(n) => Some(n),
            _ => None,
        }
    }

    fn as_octets(&self) -> Option<&[u8]> {
        match self {
            Self::LongString(octets) | Self::Bytes(octets) => Some(octets),
            _ => None,
        }
    }

    fn as_instant_or_int(&self) -> Option<i128> {
        match *self {
            Self::Timestamp(seconds) => Some(seconds.into()),
            _ => self.as_int().map(i128::from),
        }
    }
}

/// The value as RabbitMQ prints it inside quotes in its error texts.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LongString(octets) | Self::Bytes(octets) => {
                f.write_str(&String::from_utf8_lossy(octets))
            }
            Self::Bool(b) => write!(f, "{b}"),
            Self::F32(n) => write!(f, "{n:?}"),
            Self::F64(n) => write!(f, "{n:?}"),
            Self::Decimal { scale, value } => write!(f, "{{{scale},{value}}}"),
            Self::Timestamp(seconds) => write!(f, "{seconds}"),
            Self::Void => f.write_str("undefined"),
            Self::Array(values) => {
                f.write_str("[")?;
                for (i, value) in values.iter().enumerate() {
                    write!(
                        f,
                        "{}{{{},{value}}}",
                        if i == 0 { "" } else { "," },
                        value.type_name()
                    )?;
                }
                f.write_str("]")
            }
            Self::Table(table) => write!(f, "{table}"),
            number => write!(f, "{}", number.as_int().unwrap_or_default()),
        }
    }
}

impl Arguments {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The first value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| &**key == name).map(|(_, value)| value)
    }

    /// Replaces the value of that name, or adds it at the end.
    pub fn set(&mut self, name: impl Into<Box<str>>, value: Value) {
        let name = name.into();
        match self.0.iter_mut().find(|(key, _)| *key == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// Takes every value of that name out and returns the first.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let found = self.get(name).cloned();
        self.0.retain(|(key, _)| &**key != name);
        found
    }

    /// Adds at the end without looking for the name; for decoders.
    pub fn push(&mut self, name: impl Into<Box<str>>, value: Value) {
        self.0.push((name.into(), value));
    }

    /// All values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    /// How many values.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether two tables name the same binding: the same names and values in any order.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.iter().all(|(name, value)| other.get(name).is_some_and(|o| o == value))
    }
}

impl fmt::Display for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, (name, value)) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{{<<\"{name}\">>,{},{value}}}", value.type_name())?;
        }
        f.write_str("]")
    }
}

/// A redeclaration that does not mean what exists: the 406 `inequivalent arg`.
#[derive(Clone, Debug, PartialEq)]
pub struct Inequivalent {
    /// `durable`, `type`, `x-message-ttl` …
    pub argument: Box<str>,
    /// What the client asked for.
    pub received: Shown,
    /// What exists.
    pub current: Shown,
}

/// One side of an [`Inequivalent`].
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// The argument is absent: `none`.
    Absent,
    /// A property of the object, or an argument that both sides have: `'true'`, `'direct'`.
    Property(Box<str>),
    /// An argument that only one side has, with its type: `the value '10' of type 'signedint'`.
    Argument(Value),
}

impl Inequivalent {
    /// Compares a flag or a type.
    ///
    /// # Errors
    /// When the two differ.
    pub fn check(
        argument: &str,
        received: impl ToString,
        current: impl ToString,
    ) -> Result<(), Self> {
        let (received, current) = (received.to_string(), current.to_string());
        if received == current {
            return Ok(());
        }
        Err(Self {
            argument: argument.into(),
            received: Shown::Property(received.into()),
            current: Shown::Property(current.into()),
        })
    }

    /// Compares one argument of two tables.
    ///
    /// # Errors
    /// When one has it and the other has not, or their values are not equivalent.
    pub fn check_argument(
        argument: &str,
        received: &Arguments,
        current: &Arguments,
    ) -> Result<(), Self> {
        let show = |value: Option<&Value>| value.cloned().map_or(Shown::Absent, Shown::Argument);
        match (received.get(argument), current.get(argument)) {
            (None, None) => Ok(()),
            (Some(a), Some(b)) if a.is_equivalent(b) => Ok(()),
            // RabbitMQ names the types only where one side has none
            (Some(a), Some(b)) => Err(Self {
                argument: argument.into(),
                received: Shown::Property(a.to_string().into()),
                current: Shown::Property(b.to_string().into()),
            }),
            (a, b) => Err(Self { argument: argument.into(), received: show(a), current: show(b) }),
        }
    }

    /// RabbitMQ's explanation, for an object named like `queue 'q' in vhost '/'`.
    #[must_use]
    pub fn explain(&self, object: &str) -> String {
        let Self { argument, received, current } = self;
        format!(
            "inequivalent arg '{argument}' for {object}: received {received} but current is {current}"
        )
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("none"),
            Self::Property(text) => write!(f, "'{text}'"),
            Self::Argument(value) => {
                write!(f, "the value '{value}' of type '{}'", value.type_name())
            }
        }
    }
}

impl<K: Into<Box<str>>> FromIterator<(K, Value)> for Arguments {
    fn from_iter<I: IntoIterator<Item = (K, Value)>>(values: I) -> Self {
        Self(values.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<i32> for Value {
    fn from(n: i32) -> Self {
        Self::I32(n)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::I64(n)
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

#[expect(clippy::cast_precision_loss, reason = "Erlang's == does the same for what a header holds")]
fn int_equals(whole: i128, real: f64) -> bool {
    (whole as f64).total_cmp(&real) == Ordering::Equal
        || (whole == 0 && real.abs() < f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redeclared_number_is_equal_in_any_width_but_not_as_another_type() {
        assert!(Value::I32(10).is_equivalent(&Value::I64(10)));
        assert!(Value::U8(10).is_equivalent(&Value::I16(10)));
        assert!(!Value::I32(10).is_equivalent(&Value::F64(10.0)));
        assert!(!Value::I32(10).is_equivalent(&Value::text("10")));
        assert!(!Value::I32(1).is_equivalent(&Value::Bool(true)));
        assert!(!Value::I32(1).is_equivalent(&Value::Timestamp(1)));
    }

    #[test]
    fn a_header_matches_by_value_whatever_its_type() {
        assert!(Value::I32(1).matches(&Value::F64(1.0)));
        assert!(Value::F32(1.5).matches(&Value::F64(1.5)));
        assert!(Value::Timestamp(7).matches(&Value::I64(7)));
        assert!(Value::text("a").matches(&Value::Bytes(b"a".to_vec())));
        assert!(!Value::I32(1).matches(&Value::text("1")));
        assert!(!Value::I32(1).matches(&Value::Bool(true)));
        assert!(!Value::F64(f64::NAN).matches(&Value::F64(f64::NAN)));
    }

    #[test]
    fn setting_replaces_in_place_and_removing_takes_all_of_the_name() {
        let mut table: Arguments =
            [("a", Value::I32(1)), ("b", Value::I32(2))].into_iter().collect();
        table.set("a", Value::I32(3));
        table.push("b", Value::I32(4));
        assert_eq!(table.remove("b"), Some(Value::I32(2)));
        assert_eq!(table.iter().collect::<Vec<_>>(), [("a", &Value::I32(3))]);
    }

    // research 1.8: the texts of RabbitMQ 3.10.8
    #[test]
    fn an_inequivalent_argument_is_explained_in_rabbitmqs_words() {
        let asked: Arguments = [("x-message-ttl", Value::I32(10))].into_iter().collect();
        let error = Inequivalent::check_argument("x-message-ttl", &asked, &Arguments::new());
        assert_eq!(
            error.unwrap_err().explain("queue 'tq1' in vhost '/'"),
            "inequivalent arg 'x-message-ttl' for queue 'tq1' in vhost '/': received the value '10' of type 'signedint' but current is none"
        );
        let error = Inequivalent::check("durable", true, false).unwrap_err();
        assert_eq!(
            error.explain("queue 'tq1' in vhost '/'"),
            "inequivalent arg 'durable' for queue 'tq1' in vhost '/': received 'true' but current is 'false'"
        );
    }

    #[test]
    fn values_print_as_in_the_error_texts() {
        assert_eq!(Value::I32(10).to_string(), "10");
        assert_eq!(Value::text("zz").to_string(), "zz");
        assert_eq!(Value::Bool(true).to_string(), "true");
        assert_eq!(Value::F64(1.0).to_string(), "1.0");
    }
}
