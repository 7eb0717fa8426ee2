//! Avro: bodies in binary, read with the writer's schema and resolved to the reader's.

use std::sync::Arc;

use apache_avro::Schema as Parsed;
use apache_avro::types::Value as Datum;
use serde_json::Value;

use super::shape::{Shape, join};
use crate::error::Cause;

#[derive(Debug)]
pub(super) struct Avro {
    schema: Parsed,
    others: Vec<Parsed>,
    text: Value,
    texts: Vec<Value>,
}

impl Avro {
    pub(super) fn parse(text: &str, others: &[(String, Arc<str>)]) -> Result<Self, Cause> {
        let others: Vec<&str> = others.iter().map(|(_, text)| &**text).collect();
        let (schema, parsed) = Parsed::parse_str_with_list(text, &others)?;
        let texts =
            others.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?;
        Ok(Self { schema, others: parsed, text: serde_json::from_str(text)?, texts })
    }

    pub(super) fn write(&self, value: &Value, into: &mut Vec<u8>) -> Result<(), Cause> {
        let others: Vec<&Parsed> = self.others.iter().collect();
        let datum = Datum::from(value.clone()).resolve_schemata(&self.schema, others.clone())?;
        into.extend(apache_avro::to_avro_datum_schemata(&self.schema, others, datum)?);
        Ok(())
    }

    pub(super) fn read(&self, mut body: &[u8], reader: Option<&Self>) -> Result<Value, Cause> {
        let others: Vec<&Parsed> = self.others.iter().collect();
        let datum = apache_avro::from_avro_datum_reader_schemata(
            &self.schema,
            others,
            &mut body,
            reader.map(|reader| &reader.schema),
            reader.map(|reader| reader.others.iter().collect()).unwrap_or_default(),
        )?;
        if !body.is_empty() {
            return Err(format!("{} bytes follow the value", body.len()).into());
        }
        Ok(Value::try_from(datum)?)
    }

    pub(super) fn shape(&self) -> Shape {
        let mut shape = Shape::default();
        let mut named = Vec::new();
        for text in &self.texts {
            gather(text, &mut named);
        }
        gather(&self.text, &mut named);
        Walk { named: &named, shape: &mut shape }.kinds(&self.text, "", 0);
        shape
    }
}

/// The named types of a schema, by simple name: what Avro compares by.
fn gather<'a>(schema: &'a Value, named: &mut Vec<(&'a str, &'a Value)>) {
    match schema {
        Value::Array(branches) => branches.iter().for_each(|branch| gather(branch, named)),
        Value::Object(object) => {
            if let Some(name) = object.get("name").and_then(Value::as_str) {
                named.push((simple(name), schema));
            }
            for inner in ["type", "items", "values"].iter().filter_map(|part| object.get(*part)) {
                gather(inner, named);
            }
            let fields = object.get("fields").and_then(Value::as_array);
            for field in fields.into_iter().flatten().filter_map(|field| field.get("type")) {
                gather(field, named);
            }
        }
        _ => {}
    }
}

fn simple(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Walks a schema and notes its fields.
struct Walk<'a> {
    named: &'a [(&'a str, &'a Value)],
    shape: &'a mut Shape,
}

impl Walk<'_> {
    /// Notes what lies below `path`, and gives the kinds that a value of the schema may have.
    fn kinds(&mut self, schema: &Value, path: &str, depth: usize) -> Vec<String> {
        if depth > DEPTH_MAX {
            return vec![ANY.to_owned()];
        }
        match schema {
            Value::Array(branches) => {
                branches.iter().flat_map(|branch| self.kinds(branch, path, depth + 1)).collect()
            }
            Value::String(name) => {
                match self.named.iter().find(|(known, _)| *known == simple(name)) {
                    Some((_, definition)) => self.kinds(definition, path, depth + 1),
                    None => vec![name.clone()],
                }
            }
            Value::Object(object) => match object.get("type") {
                Some(Value::String(kind)) => self.complex(kind, schema, path, depth + 1),
                Some(nested) => self.kinds(nested, path, depth + 1),
                None => vec![ANY.to_owned()],
            },
            _ => vec![ANY.to_owned()],
        }
    }

    fn complex(&mut self, kind: &str, schema: &Value, path: &str, depth: usize) -> Vec<String> {
        let listed = |part| schema.get(part).and_then(Value::as_array).into_iter().flatten();
        match kind {
            "record" | "error" => {
                for field in listed("fields") {
                    let name = field.get("name").and_then(Value::as_str).unwrap_or_default();
                    let path = join(path, name);
                    let kinds = field.get("type").map(|kind| self.kinds(kind, &path, depth));
                    let optional = field.get("default").is_some();
                    self.shape.field(path, kinds.unwrap_or_default(), optional);
                }
            }
            "enum" => {
                let symbols = listed("symbols").filter_map(Value::as_str).map(str::to_owned);
                self.shape.symbols(path, symbols.collect(), schema.get("default").is_some());
            }
            "array" | "map" => {
                let part = if kind == "array" { "items" } else { "values" };
                let path = format!("{path}[]");
                let kinds = schema.get(part).map(|inner| self.kinds(inner, &path, depth));
                self.shape.field(path, kinds.unwrap_or_default(), true);
            }
            named => return self.kinds(&Value::String(named.to_owned()), path, depth),
        }
        vec![kind.to_owned()]
    }
}

const ANY: &str = "any";
/// Deeper than that nothing is compared: a type that contains itself has no end.
const DEPTH_MAX: usize = 24;
