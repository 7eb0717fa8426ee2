//! The shape of single files: heads, lengths, no ignored test, no path of one machine.

use super::Finding;
use super::source::Source;

/// Lines of a Rust file without its tests; 300 is comfortable.
const LINES_MAX: usize = 800;

/// Folders that exist on the machine of one person only; put together here so that this file does
/// not name them.
const MACHINE_FOLDERS: [&str; 3] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Checks that hold for every text file.
pub(super) fn check_text(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for folder in MACHINE_FOLDERS.iter().filter(|folder| line.contains(**folder)) {
            let what = format!("names `{folder}`, a folder of one machine");
            findings.push(Finding::at(file, at + 1, what));
        }
    }
    if file.ends_with(".md") {
        let heads = headings(text);
        if heads != 1 {
            findings.push(Finding::of(file, format!("has {heads} titles (`# …`), not one")));
        }
    }
    findings
}

/// Level-one headings outside code blocks.
fn headings(text: &str) -> usize {
    let mut fenced = false;
    text.lines()
        .filter(|line| {
            fenced ^= line.trim_start().starts_with("```");
            !fenced && line.starts_with("# ")
        })
        .count()
}

/// Checks that hold for every Rust file.
pub(super) fn check_source(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let file = &source.file;
    if !source.folder().is_empty() && !source.is_test() {
        if !source.head.starts_with("//!") && !source.is_generated() {
            findings.push(Finding::at(file, 1, "no `//!` head that says the file's one job"));
        }
        if source.lines > LINES_MAX && !source.is_generated() {
            let what = format!("{} lines without tests, {LINES_MAX} at most", source.lines);
            findings.push(Finding::of(file, what));
        }
    }
    for run in source.tokens.windows(3) {
        if let [hash, bracket, word] = run
            && (hash.text.as_str(), bracket.text.as_str(), word.text.as_str())
                == ("#", "[", "ignore")
        {
            let what = "an ignored test proves nothing: mend it or delete it";
            findings.push(Finding::at(file, word.line, what));
        }
    }
    findings
}
