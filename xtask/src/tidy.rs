//! The rules a script can check (docs/style.md section 3), each keyed by folder.
//!
//! | module | rule |
//! |---|---|
//! | `layers` | imports between crates point down; pure crates depend on no runtime |
//! | `purity` | no file, socket, thread, clock or `async fn` in the text of a pure crate |
//! | `modules` | no import between the front doors; no cycle of a crate's top modules |
//! | `shape` | file heads and lengths, no ignored test, no path of one machine |
//! | `papers` | the map names every crate, its paths exist, decisions are numbered |

use std::fmt;
use std::path::Path;

use crate::root;

mod layers;
mod modules;
mod papers;
mod purity;
mod shape;
mod source;
#[cfg(test)]
mod tests;

use source::Source;

/// One broken rule: where, and what to do about it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    file: String,
    line: usize,
    what: String,
}

impl Finding {
    /// A finding about a line; lines count from 1.
    fn at(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, what: what.into() }
    }

    /// A finding about a file as a whole.
    fn of(file: &str, what: impl Into<String>) -> Self {
        Self::at(file, 0, what)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// Checks the repository at `root`; no finding means that every rule holds.
pub(crate) fn check(root: &Path) -> Vec<Finding> {
    let files = match root::files(root) {
        Ok(files) => files,
        Err(error) => return vec![Finding::of(".", error)],
    };
    let mut findings = layers::check(root);
    let mut sources = Vec::new();
    for file in &files {
        let Ok(text) = std::fs::read_to_string(root.join(file)) else { continue };
        findings.extend(shape::check_text(file, &text));
        if file.ends_with(".rs") {
            sources.push(Source::new(file, &text));
        }
    }
    findings.extend(sources.iter().flat_map(shape::check_source));
    findings.extend(sources.iter().flat_map(purity::check));
    findings.extend(modules::check(&sources));
    findings.extend(papers::check(root, &files));
    findings.sort();
    findings.dedup();
    findings
}
