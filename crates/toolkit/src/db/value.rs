//! What goes into a statement and comes out of it, the same for both databases.

use std::sync::Arc;

use uuid::Uuid;

use super::DbError;

/// One parameter or one column.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL's NULL.
    Null,
    /// A truth value. SQLite keeps it as 0 or 1 and gives it back as [`Value::Int`].
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Real(f64),
    /// Text. PostgreSQL takes it for `text`, `varchar`, `json`, `jsonb` and `uuid` columns.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// One row of an answer.
#[derive(Debug, Clone)]
pub struct Row {
    names: Arc<[String]>,
    values: Vec<Value>,
}

/// What a column can be read as.
pub trait FromValue: Sized {
    /// What stands in an error: "a whole number".
    const WANTED: &'static str;

    /// `None` where the value is of another kind.
    fn from_value(value: Value) -> Option<Self>;
}

/// The parameters of a statement: `params![id, "text", 3]`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { [$($crate::db::Value::from($value)),*] };
}

impl Row {
    pub(crate) const fn new(names: Arc<[String]>, values: Vec<Value>) -> Self {
        Self { names, values }
    }

    /// The column at `index`, counted from 0.
    ///
    /// # Errors
    /// [`DbError::Column`] where there is none or it is of another kind.
    pub fn get<T: FromValue>(&self, index: usize) -> Result<T, DbError> {
        let name = self.names.get(index).map_or("?", String::as_str);
        let value = self.values.get(index).cloned();
        read(value, name)
    }

    /// The column called `name`.
    ///
    /// # Errors
    /// [`DbError::Column`] where there is none or it is of another kind.
    pub fn named<T: FromValue>(&self, name: &str) -> Result<T, DbError> {
        let index = self.names.iter().position(|known| known == name);
        let value = index.and_then(|index| self.values.get(index)).cloned();
        read(value, name)
    }

    /// The columns' names, in the order of the statement.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The columns, in the order of the statement.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.values
    }
}

fn read<T: FromValue>(value: Option<Value>, name: &str) -> Result<T, DbError> {
    let column = || name.to_owned();
    let value =
        value.ok_or_else(|| DbError::Column { column: column(), wanted: "in the answer" })?;
    T::from_value(value).ok_or_else(|| DbError::Column { column: column(), wanted: T::WANTED })
}

/// An unsigned number of ours (a version, a position): never above `i64::MAX`.
pub(crate) fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}
impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}
impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}
impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}
impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}
impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}
impl From<Uuid> for Value {
    fn from(value: Uuid) -> Self {
        Self::Text(value.to_string())
    }
}
impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl FromValue for Value {
    const WANTED: &'static str = "anything";
    fn from_value(value: Value) -> Option<Self> {
        Some(value)
    }
}
impl FromValue for i64 {
    const WANTED: &'static str = "a whole number";
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Int(number) => Some(number),
            Value::Bool(truth) => Some(truth.into()),
            _ => None,
        }
    }
}
impl FromValue for u64 {
    const WANTED: &'static str = "a whole number from 0";
    fn from_value(value: Value) -> Option<Self> {
        i64::from_value(value).and_then(|number| number.try_into().ok())
    }
}
impl FromValue for u32 {
    const WANTED: &'static str = "a whole number from 0 to 4294967295";
    fn from_value(value: Value) -> Option<Self> {
        i64::from_value(value).and_then(|number| number.try_into().ok())
    }
}
impl FromValue for bool {
    const WANTED: &'static str = "true or false";
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Bool(truth) => Some(truth),
            Value::Int(0) => Some(false),
            Value::Int(1) => Some(true),
            _ => None,
        }
    }
}
impl FromValue for f64 {
    const WANTED: &'static str = "a number";
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Real(number) => Some(number),
            Value::Int(number) => i32::try_from(number).ok().map(Self::from),
            _ => None,
        }
    }
}
impl FromValue for String {
    const WANTED: &'static str = "text";
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}
impl FromValue for Vec<u8> {
    const WANTED: &'static str = "bytes or text";
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => Some(bytes),
            Value::Text(text) => Some(text.into_bytes()),
            _ => None,
        }
    }
}
impl FromValue for Uuid {
    const WANTED: &'static str = "a UUID";
    fn from_value(value: Value) -> Option<Self> {
        String::from_value(value).and_then(|text| Self::parse_str(&text).ok())
    }
}
impl<T: FromValue> FromValue for Option<T> {
    const WANTED: &'static str = T::WANTED;
    fn from_value(value: Value) -> Option<Self> {
        if value == Value::Null { Some(None) } else { T::from_value(value).map(Some) }
    }
}
