//! What a schema says of its fields, and whether a reader of one shape can read what has another. Says less than
//! the languages do: a registry judges too, this names the field.

use std::collections::BTreeMap;

/// The fields of a schema, by their path.
#[derive(Debug, Default)]
pub(super) struct Shape {
    fields: BTreeMap<String, Field>,
    symbols: BTreeMap<String, (Vec<String>, bool)>,
}

#[derive(Debug)]
struct Field {
    label: String,
    kinds: Vec<String>,
    /// A reader knows what to take where it is missing.
    optional: bool,
}

/// What a reader cannot read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It expects a field that is not written.
    Missing(String),
    /// A field is written as something else.
    Kind { field: String, read: String, written: String },
    /// A value is written that it does not know.
    Symbol { field: String, symbol: String },
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl Shape {
    pub(super) fn field(&mut self, path: String, kinds: Vec<String>, optional: bool) {
        self.fields.insert(path.clone(), Field { label: path, kinds, optional });
    }

    /// A field that may always be missing and is called otherwise than by its path.
    pub(super) fn labelled(&mut self, path: String, name: &str, kinds: Vec<String>) {
        self.fields.insert(path, Field { label: name.to_owned(), kinds, optional: true });
    }

    pub(super) fn symbols(&mut self, path: &str, symbols: Vec<String>, has_default: bool) {
        self.symbols.insert(path.to_owned(), (symbols, has_default));
    }

    /// What this shape's reader cannot read of the writer's.
    pub(super) fn cannot_read(&self, writer: &Self) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        for (path, field) in &self.fields {
            let Some(written) = writer.fields.get(path) else {
                let inside = path.rsplit_once('.').map_or("", |(parent, _)| parent);
                let is_top = inside.is_empty();
                if !field.optional && (is_top || writer.fields.contains_key(inside)) {
                    troubles.push(Trouble::Missing(field.label.clone()));
                }
                continue;
            };
            let is_covered = |kind: &String| field.kinds.iter().any(|read| covers(read, kind));
            if !written.kinds.iter().all(is_covered) {
                troubles.push(Trouble::Kind {
                    field: field.label.clone(),
                    read: field.kinds.join(" or "),
                    written: written.kinds.join(" or "),
                });
            }
        }
        for (path, (known, has_default)) in &self.symbols {
            let written = writer.symbols.get(path).map(|(written, _)| written);
            let unknown = written.into_iter().flatten().filter(|symbol| !known.contains(symbol));
            for symbol in unknown.filter(|_| !has_default) {
                let (field, symbol) = (path.clone(), symbol.clone());
                troubles.push(Trouble::Symbol { field, symbol });
            }
        }
        troubles
    }
}

/// Whether what is written as one kind can be read as another: Avro's promotions, JSON's numbers, Protobuf's wire types.
fn covers(read: &str, written: &str) -> bool {
    let among = |kinds: &[&str]| kinds.contains(&read);
    read == written
        || read == "any"
        || written == "any"
        || match written {
            "int" => among(&["long", "float", "double"]),
            "long" => among(&["float", "double"]),
            "float" => read == "double",
            "string" => read == "bytes",
            "bytes" => read == "string",
            "integer" => read == "number",
            _ => VARINTS.contains(&written) && VARINTS.contains(&read),
        }
}

/// Protobuf's kinds that share a wire type and a meaning.
const VARINTS: [&str; 6] = ["int32", "uint32", "int64", "uint64", "bool", "enum"];

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(fields: &[(&str, &str, bool)]) -> Shape {
        let mut shape = Shape::default();
        for (path, kinds, optional) in fields {
            let kinds = kinds.split('|').map(str::to_owned).collect();
            shape.field((*path).to_owned(), kinds, *optional);
        }
        shape
    }

    #[test]
    fn a_field_that_is_expected_and_not_written_is_missing_unless_it_has_a_default() {
        let old = shape(&[("order", "string", false)]);
        let new = shape(&[("order", "string", false), ("currency", "string", false)]);
        assert_eq!(new.cannot_read(&old), [Trouble::Missing("currency".to_owned())]);
        assert_eq!(old.cannot_read(&new), []);
        let kind = shape(&[("order", "string", false), ("currency", "string", true)]);
        assert_eq!(kind.cannot_read(&old), []);
    }

    #[test]
    fn kinds_may_widen_and_not_narrow() {
        let (int, long) = (shape(&[("n", "int", false)]), shape(&[("n", "null|long", false)]));
        assert_eq!(long.cannot_read(&int), []);
        assert_eq!(
            int.cannot_read(&long),
            [Trouble::Kind {
                field: "n".to_owned(),
                read: "int".to_owned(),
                written: "null or long".to_owned()
            }]
        );
    }

    #[test]
    fn what_is_missing_with_its_whole_record_is_said_once() {
        let old = shape(&[("id", "string", false)]);
        let new = shape(&[("to", "record", false), ("to.street", "string", false)]);
        assert_eq!(new.cannot_read(&old), [Trouble::Missing("to".to_owned())]);
    }
}
