//! Arguments as JSON, and the other way round, as RabbitMQ's management plugin does it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ottla_engine::value::{Arguments, Value as Field};
use serde_json::{Map, Number, Value, json};

use super::problem::Problem;

/// A table for a reader.
pub(super) fn shown(arguments: &Arguments) -> Value {
    let fields = arguments.iter().map(|(name, value)| (name.to_owned(), shown_field(value)));
    Value::Object(fields.collect())
}

fn shown_field(field: &Field) -> Value {
    match field {
        Field::Bool(truth) => json!(truth),
        Field::F32(n) => Number::from_f64(f64::from(*n)).map_or(Value::Null, Value::Number),
        Field::F64(n) => Number::from_f64(*n).map_or(Value::Null, Value::Number),
        Field::Decimal { .. } => json!(field.to_string()),
        Field::Timestamp(seconds) => json!(seconds),
        Field::Void => Value::Null,
        Field::Table(table) => shown(table),
        Field::Array(fields) => Value::Array(fields.iter().map(shown_field).collect()),
        Field::LongString(octets) | Field::Bytes(octets) => match std::str::from_utf8(octets) {
            Ok(text) => json!(text),
            Err(_) => json!(STANDARD.encode(octets)),
        },
        number => json!(number.as_int()),
    }
}

/// A table that a client wrote.
pub(super) fn arguments(value: Option<&Value>) -> Result<Arguments, Problem> {
    match value {
        None | Some(Value::Null) => Ok(Arguments::new()),
        Some(Value::Object(fields)) => table(fields, DEPTH_MAX),
        // RabbitMQ writes empty tables as empty lists now and then
        Some(Value::Array(empty)) if empty.is_empty() => Ok(Arguments::new()),
        Some(_) => Err(Problem::bad("arguments must be an object")),
    }
}

fn table(fields: &Map<String, Value>, depth: u8) -> Result<Arguments, Problem> {
    let deeper = depth.checked_sub(1).ok_or_else(too_deep)?;
    let mut arguments = Arguments::new();
    for (name, value) in fields {
        if name.len() > usize::from(u8::MAX) {
            return Err(Problem::bad("the name of an argument has at most 255 bytes"));
        }
        arguments.push(name.as_str(), field(value, deeper)?);
    }
    Ok(arguments)
}

fn field(value: &Value, depth: u8) -> Result<Field, Problem> {
    Ok(match value {
        Value::Null => Field::Void,
        Value::Bool(truth) => Field::Bool(*truth),
        Value::String(text) => Field::text(text),
        Value::Object(fields) => Field::Table(table(fields, depth)?),
        Value::Array(values) => {
            let deeper = depth.checked_sub(1).ok_or_else(too_deep)?;
            let fields: Result<Vec<_>, _> = values.iter().map(|v| field(v, deeper)).collect();
            Field::Array(fields?)
        }
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Field::I64(whole),
            (None, Some(float)) => Field::F64(float),
            _ => return Err(Problem::bad("a number is too large")),
        },
    })
}

fn too_deep() -> Problem {
    Problem::bad("arguments are nested too deeply")
}

/// Tables in tables; more is refused.
const DEPTH_MAX: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_back_as_they_were_written() {
        let written = json!({"x-max-length": 5, "deep": {"list": [true, null, 1.5, "a"]}});
        let read = arguments(Some(&written)).unwrap();
        assert_eq!(read.get("x-max-length"), Some(&Field::I64(5)));
        assert_eq!(shown(&read), written);
    }

    #[test]
    fn nesting_has_an_end() {
        let mut value = json!(1);
        for _ in 0..40 {
            value = json!({"a": value});
        }
        assert!(arguments(Some(&value)).is_err());
        assert!(arguments(Some(&json!("text"))).is_err());
        assert!(arguments(None).unwrap().is_empty());
    }
}
