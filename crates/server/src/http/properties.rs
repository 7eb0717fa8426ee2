//! A message's properties as JSON, and the other way round.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ottla_amqp_proto::{
    Array, BasicProperties, FieldRef, Properties, RawTable, ShortStr, Table, TableRef,
    Value as Field,
};
use ottla_engine::value::{Arguments, Value as Own};
use serde_json::{Map, Number, Value, json};

use super::problem::Problem;
use super::values;

/// Properties for a reader; what is absent is not there.
pub(super) fn shown(bytes: &Bytes) -> Value {
    let Ok(properties) = Properties::new(bytes.clone()) else { return json!({}) };
    let basic = properties.to_basic();
    let mut found = Map::new();
    let texts = [
        ("content_type", &basic.content_type),
        ("content_encoding", &basic.content_encoding),
        ("correlation_id", &basic.correlation_id),
        ("reply_to", &basic.reply_to),
        ("expiration", &basic.expiration),
        ("message_id", &basic.message_id),
        ("type", &basic.kind),
        ("user_id", &basic.user_id),
        ("app_id", &basic.app_id),
        ("cluster_id", &basic.cluster_id),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            found.insert(name.to_owned(), json!(text.to_string()));
        }
    }
    if let Some(headers) = &basic.headers {
        found.insert("headers".to_owned(), table(headers.view()));
    }
    let numbers = [
        ("delivery_mode", basic.delivery_mode.map(u64::from)),
        ("priority", basic.priority.map(u64::from)),
        ("timestamp", basic.timestamp),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            found.insert(name.to_owned(), json!(number));
        }
    }
    Value::Object(found)
}

/// Depth is bounded by the codec's check, so that recursion here is.
fn table(table: TableRef<'_>) -> Value {
    let fields = table
        .iter()
        .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), field(value)));
    Value::Object(fields.collect())
}

fn field(value: FieldRef<'_>) -> Value {
    match value {
        FieldRef::Bool(truth) => json!(truth),
        FieldRef::F32(n) => Number::from_f64(f64::from(n)).map_or(Value::Null, Value::Number),
        FieldRef::F64(n) => Number::from_f64(n).map_or(Value::Null, Value::Number),
        FieldRef::Decimal(scale, value) => json!({"scale": scale, "value": value}),
        FieldRef::Str(octets) | FieldRef::Binary(octets) => match std::str::from_utf8(octets) {
            Ok(text) => json!(text),
            Err(_) => json!(STANDARD.encode(octets)),
        },
        FieldRef::Timestamp(seconds) => json!(seconds),
        FieldRef::Array(fields) => Value::Array(fields.iter().map(field).collect()),
        FieldRef::Table(inner) => table(inner),
        FieldRef::Void => Value::Null,
        number => json!(number.as_integer()),
    }
}

/// Properties that a client wrote. Unknown names are refused: a typo shall not go unnoticed.
pub(super) fn read(value: &Value) -> Result<Bytes, Problem> {
    let fields = match value {
        Value::Object(fields) => fields.clone(),
        Value::Array(empty) if empty.is_empty() => Map::new(),
        _ => return Err(Problem::bad("properties must be an object")),
    };
    let mut basic = BasicProperties::default();
    for (name, value) in &fields {
        match name.as_str() {
            "content_type" => basic.content_type = Some(text(name, value)?),
            "content_encoding" => basic.content_encoding = Some(text(name, value)?),
            "correlation_id" => basic.correlation_id = Some(text(name, value)?),
            "reply_to" => basic.reply_to = Some(text(name, value)?),
            "expiration" => basic.expiration = Some(text(name, value)?),
            "message_id" => basic.message_id = Some(text(name, value)?),
            "type" => basic.kind = Some(text(name, value)?),
            "user_id" => basic.user_id = Some(text(name, value)?),
            "app_id" => basic.app_id = Some(text(name, value)?),
            "cluster_id" => basic.cluster_id = Some(text(name, value)?),
            "delivery_mode" => basic.delivery_mode = Some(octet(name, value)?),
            "priority" => basic.priority = Some(octet(name, value)?),
            "timestamp" => basic.timestamp = Some(value.as_u64().ok_or_else(|| wrong(name))?),
            "headers" => basic.headers = Some(headers(value)?),
            _ => return Err(Problem::bad(format!("unknown property {name}"))),
        }
    }
    Ok(basic.encode().as_bytes().clone())
}

fn wrong(name: &str) -> Problem {
    Problem::bad(format!("property {name} has the wrong type"))
}

fn text(name: &str, value: &Value) -> Result<ShortStr, Problem> {
    let text = value.as_str().ok_or_else(|| wrong(name))?;
    let long = || Problem::bad(format!("property {name} has at most 255 bytes"));
    ShortStr::try_from(text).map_err(|_| long())
}

fn octet(name: &str, value: &Value) -> Result<u8, Problem> {
    value.as_u64().and_then(|number| u8::try_from(number).ok()).ok_or_else(|| wrong(name))
}

fn headers(value: &Value) -> Result<RawTable, Problem> {
    let arguments = values::arguments(Some(value))?;
    wire(&arguments).encode().map_err(|_| Problem::bad("the headers are too large"))
}

/// Depth is bounded by whoever read the arguments.
fn wire(arguments: &Arguments) -> Table {
    let fields = arguments.iter().map(|(name, value)| (ShortStr::cut(name), wire_field(value)));
    Table(fields.collect())
}

fn wire_field(value: &Own) -> Field {
    match value {
        Own::Bool(truth) => Field::Bool(*truth),
        Own::F64(n) => Field::F64(*n),
        Own::LongString(octets) => Field::Str(Bytes::copy_from_slice(octets)),
        Own::Table(table) => Field::Table(wire(table)),
        Own::Array(values) => Field::Array(Array(values.iter().map(wire_field).collect())),
        number => number.as_int().map_or(Field::Void, Field::I64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_come_back_as_they_were_written() {
        let written = json!({
            "content_type": "text/plain", "delivery_mode": 2, "timestamp": 7, "type": "order",
            "headers": {"n": 1, "deep": {"list": ["a", true]}},
        });
        assert_eq!(shown(&read(&written).unwrap()), written);
        assert_eq!(shown(&read(&json!([])).unwrap()), json!({}));
    }

    #[test]
    fn what_cannot_be_a_property_is_refused_by_name() {
        for (bad, word) in [
            (json!({"contenttype": "a"}), "contenttype"),
            (json!({"delivery_mode": 256}), "delivery_mode"),
            (json!({"expiration": 5}), "expiration"),
            (json!({"message_id": "x".repeat(256)}), "message_id"),
        ] {
            let reason = read(&bad).unwrap_err().reason();
            assert!(reason.contains(word), "{reason}");
        }
    }
}
