//! Headers bindings: which headers a message must have.

use super::{BindingFault, Destination};
use crate::value::{Arguments, Value};

/// The bindings of a headers exchange, in no particular order.
#[derive(Debug, Default)]
pub(super) struct HeadersIndex {
    bindings: Vec<(Pattern, Destination, Arguments)>,
}

/// What one binding asks for.
#[derive(Clone, Debug)]
struct Pattern {
    any: bool,
    fields: Vec<(Box<str>, Value)>,
}

impl HeadersIndex {
    pub(super) fn insert(&mut self, destination: Destination, arguments: &Arguments) {
        if let Ok(pattern) = Pattern::parse(arguments) {
            self.bindings.push((pattern, destination, arguments.clone()));
        }
    }

    pub(super) fn remove(&mut self, destination: &Destination, arguments: &Arguments) {
        let same = |(_, to, with): &(Pattern, Destination, Arguments)| {
            to == destination && with.same_as(arguments)
        };
        if let Some(position) = self.bindings.iter().position(same) {
            self.bindings.swap_remove(position);
        }
    }

    pub(super) fn collect<'a>(&'a self, headers: &Arguments, found: &mut Vec<&'a Destination>) {
        let hits = self.bindings.iter().filter(|(pattern, ..)| pattern.matches(headers));
        found.extend(hits.map(|(_, destination, _)| destination));
    }
}

/// Whether a headers exchange can use these arguments.
pub(super) fn validate(arguments: &Arguments) -> Result<(), BindingFault> {
    Pattern::parse(arguments).map(|_| ())
}

impl Pattern {
    fn parse(arguments: &Arguments) -> Result<Self, BindingFault> {
        let (any, with_x) = match arguments.get("x-match") {
            None => (false, false),
            Some(Value::LongString(octets)) => match octets.as_slice() {
                b"all" => (false, false),
                b"any" => (true, false),
                b"all-with-x" => (false, true),
                b"any-with-x" => (true, true),
                other => {
                    let text = String::from_utf8_lossy(other).into();
                    return Err(BindingFault::MatchValue(text));
                }
            },
            Some(other) => return Err(BindingFault::MatchType { value: other.clone() }),
        };
        let counts = |name: &str| name != "x-match" && (with_x || !name.starts_with("x-"));
        let fields = arguments.iter().filter(|(name, _)| counts(name));
        Ok(Self { any, fields: fields.map(|(name, value)| (name.into(), value.clone())).collect() })
    }

    /// No fields: `all` matches every message, `any` none.
    fn matches(&self, headers: &Arguments) -> bool {
        let hit = |(name, wanted): &(Box<str>, Value)| {
            // a void field asks only for presence
            headers.get(name).is_some_and(|value| *wanted == Value::Void || wanted.matches(value))
        };
        if self.any { self.fields.iter().any(hit) } else { self.fields.iter().all(hit) }
    }
}
