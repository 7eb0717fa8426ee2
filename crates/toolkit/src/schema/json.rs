//! JSON Schema: bodies are JSON, and judged before they are written and after they are read.

use jsonschema::Validator;
use serde_json::Value;

use super::shape::{Shape, join};
use crate::error::Cause;

#[derive(Debug)]
pub(super) struct Json {
    text: Value,
    validator: Validator,
}

impl Json {
    pub(super) fn parse(text: &str) -> Result<Self, Cause> {
        let text: Value = serde_json::from_str(text)?;
        let validator = jsonschema::validator_for(&text).map_err(|error| error.to_string())?;
        Ok(Self { text, validator })
    }

    pub(super) fn write(&self, value: &Value, into: &mut Vec<u8>) -> Result<(), Cause> {
        self.judge(value)?;
        into.extend(serde_json::to_vec(value)?);
        Ok(())
    }

    pub(super) fn read(&self, body: &[u8]) -> Result<Value, Cause> {
        let value = serde_json::from_slice(body)?;
        self.judge(&value)?;
        Ok(value)
    }

    fn judge(&self, value: &Value) -> Result<(), Cause> {
        let wrong: Vec<String> = self
            .validator
            .iter_errors(value)
            .take(WRONG_MAX)
            .map(|error| match error.instance_path().to_string() {
                place if place.is_empty() => error.to_string(),
                place => format!("{place}: {error}"),
            })
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ").into()) }
    }

    pub(super) fn shape(&self) -> Shape {
        let mut shape = Shape::default();
        walk(&self.text, "", 0, &mut shape);
        shape
    }
}

fn walk(schema: &Value, path: &str, depth: usize, shape: &mut Shape) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    for (name, property) in properties {
        let path = join(path, name);
        let kinds = match property.get("type") {
            Some(Value::String(kind)) => vec![kind.clone()],
            Some(Value::Array(kinds)) => {
                kinds.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => vec!["any".to_owned()],
        };
        if let Some(symbols) = property.get("enum").and_then(Value::as_array) {
            shape.symbols(&path, symbols.iter().map(ToString::to_string).collect(), false);
        }
        if depth < DEPTH_MAX {
            walk(property, &path, depth + 1, shape);
            if let Some(items) = property.get("items") {
                walk(items, &format!("{path}[]"), depth + 1, shape);
            }
        }
        shape.field(path, kinds, !required.contains(&&**name));
    }
}

const DEPTH_MAX: usize = 24;
/// Of what is wrong with a value; the rest is as wrong.
const WRONG_MAX: usize = 3;
