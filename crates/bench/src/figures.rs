//! One run as named figures: JSON for programs, lines for people.

use serde::Serialize;
use serde_json::{Map, Value};

/// Figures by name.
#[derive(Debug, Default)]
pub(crate) struct Figures(Map<String, Value>);

impl Figures {
    pub(crate) fn of(mode: &str) -> Self {
        Self::default().with("mode", mode)
    }

    /// Leaves out what is `null`.
    pub(crate) fn with(mut self, name: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or_default();
        if !value.is_null() {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    /// To stand as one of another's.
    pub(crate) fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    pub(crate) fn shown(self, json: bool) -> String {
        if json {
            return Value::Object(self.0).to_string();
        }
        let lines = self.0.iter().map(|(name, value)| format!("{name:<24}{value}"));
        lines.collect::<Vec<_>>().join("\n")
    }
}
