//! A saga as a Mermaid state diagram.

use std::fmt::Write;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::definition::Saga;

impl<D: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Saga<D> {
    /// Its states and the messages that move it, as a Mermaid `stateDiagram-v2`.
    #[must_use]
    pub fn mermaid(&self) -> String {
        let mut lines = vec!["stateDiagram-v2".to_owned()];
        let first = self.steps.first().map_or("completed", |step| step.name);
        lines.push(format!("[*] --> {first}: {}", self.start.name));
        for (place, step) in self.steps.iter().enumerate() {
            let next = self.steps.get(place + 1).map_or("completed", |next| next.name);
            for done in &step.done {
                lines.push(format!("{} --> {next}: {}", step.name, done.name));
            }
            let before = self.undo_before(place);
            for failed in &step.failed {
                lines.push(format!("{} --> {before}: {}", step.name, failed.name));
            }
            let unknown = if step.undo.is_some() { undo_of(step.name) } else { before.clone() };
            lines.push(format!("{} --> {unknown}: no answer within {:?}", step.name, step.within));
            for cancel in &self.cancels {
                lines.push(format!("{} --> {unknown}: {}", step.name, cancel.name));
            }
            if let Some(undo) = &step.undo {
                lines.push(format!("{} --> {before}: {}", undo_of(step.name), undo.done.name));
            }
        }
        lines.push("completed --> [*]".to_owned());
        lines.push("failed --> [*]".to_owned());
        let mut diagram = String::new();
        for (number, line) in lines.iter().enumerate() {
            let indent = if number == 0 { "" } else { "    " };
            let _written = writeln!(diagram, "{indent}{line}"); // a String takes everything
        }
        diagram
    }

    /// The state in which what lies before a step is undone.
    fn undo_before(&self, place: usize) -> String {
        let undone = self.steps.iter().take(place).rev().find(|step| step.undo.is_some());
        undone.map_or_else(|| "failed".to_owned(), |step| undo_of(step.name))
    }
}

fn undo_of(step: &str) -> String {
    format!("undo_{step}")
}
