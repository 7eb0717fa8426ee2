//! Field tables of the wire as the engine's arguments.

use ottla_amqp_proto::{FieldRef, RawTable, TableRef};
use ottla_engine::value::{Arguments, Value};

/// The arguments of a method. Of two equal names the last counts on the wire and the first in the
/// engine: only that one is kept.
pub(super) fn arguments(table: &RawTable) -> Arguments {
    convert(table.view())
}

/// Depth is bounded by the codec's check, so that recursion here is.
fn convert(table: TableRef<'_>) -> Arguments {
    let mut arguments = Arguments::new();
    for (name, value) in table.iter() {
        arguments.set(String::from_utf8_lossy(name), value_of(value));
    }
    arguments
}

fn value_of(field: FieldRef<'_>) -> Value {
    match field {
        FieldRef::Bool(truth) => Value::Bool(truth),
        FieldRef::I8(n) => Value::I8(n),
        FieldRef::U8(n) => Value::U8(n),
        FieldRef::I16(n) => Value::I16(n),
        FieldRef::U16(n) => Value::U16(n),
        FieldRef::I32(n) => Value::I32(n),
        FieldRef::U32(n) => Value::U32(n),
        FieldRef::I64(n) => Value::I64(n),
        FieldRef::F32(n) => Value::F32(n),
        FieldRef::F64(n) => Value::F64(n),
        FieldRef::Decimal(scale, value) => Value::Decimal { scale, value },
        FieldRef::Str(bytes) => Value::LongString(bytes.to_vec()),
        FieldRef::Binary(bytes) => Value::Bytes(bytes.to_vec()),
        FieldRef::Timestamp(seconds) => Value::Timestamp(seconds),
        FieldRef::Array(array) => Value::Array(array.iter().map(value_of).collect()),
        FieldRef::Table(table) => Value::Table(convert(table)),
        FieldRef::Void => Value::Void,
    }
}

#[cfg(test)]
mod tests {
    use ottla_amqp_proto::{Table, Value as Wire};

    use super::*;

    #[test]
    fn of_two_equal_names_the_last_counts() {
        let table = Table::new()
            .with("x-max-length", Wire::I32(1))
            .with("inner", Table::new().with("deep", true))
            .with("x-max-length", Wire::I64(2));
        let arguments = arguments(&table.encode().unwrap());
        assert_eq!(arguments.len(), 2);
        assert_eq!(arguments.get("x-max-length"), Some(&Value::I64(2)));
        let Some(Value::Table(inner)) = arguments.get("inner") else { panic!("{arguments}") };
        assert_eq!(inner.get("deep"), Some(&Value::Bool(true)));
    }
}
