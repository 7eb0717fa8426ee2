//! The papers: the map names every crate, paths and links lead somewhere, decisions are numbered.

use std::collections::BTreeSet;
use std::path::Path;

use super::Finding;

const MAP: &str = "ARCHITECTURE.md";
const MAP_LINES_MAX: usize = 300;
const DECISIONS: &str = "docs/adr/";
const DECISION_PARTS: [&str; 3] = ["## Context", "## Decision", "## Consequence"];

pub(super) fn check(root: &Path, files: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.ends_with(".md")) {
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        findings.extend(check_links(root, file, &text));
    }
    match std::fs::read_to_string(root.join(MAP)) {
        Ok(map) => findings.extend(check_map(root, files, &map)),
        Err(error) => findings.push(Finding::of(MAP, error.to_string())),
    }
    let decisions: Vec<(&str, String)> = files
        .iter()
        .filter_map(|file| Some((file.strip_prefix(DECISIONS)?, file)))
        .map(|(name, file)| (name, std::fs::read_to_string(root.join(file)).unwrap_or_default()))
        .collect();
    findings.extend(check_decisions(&decisions));
    findings
}

/// The map names every crate, is short, and every path it names exists.
pub(super) fn check_map(root: &Path, files: &[String], map: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let crates: BTreeSet<&str> =
        files.iter().filter_map(|file| file.strip_suffix("/Cargo.toml")).collect();
    for folder in crates {
        let is_crate = folder.starts_with("crates/") || !folder.contains('/');
        if is_crate && !map.contains(&format!("`{folder}`")) {
            findings.push(Finding::of(MAP, format!("does not mention `{folder}`")));
        }
    }
    let lines = map.lines().count();
    if lines > MAP_LINES_MAX {
        findings.push(Finding::of(MAP, format!("{lines} lines, {MAP_LINES_MAX} at most")));
    }
    for (at, line) in map.lines().enumerate() {
        for span in line.split('`').skip(1).step_by(2).filter(|span| is_path(span)) {
            if !root.join(span).exists() {
                findings.push(Finding::at(MAP, at + 1, format!("`{span}` does not exist")));
            }
        }
    }
    findings
}

/// Does a code span name a file or folder of the repository (and not a pattern, route or type)?
fn is_path(span: &str) -> bool {
    let plain = span.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    plain && span.contains('/') && !span.starts_with('/') && !span.ends_with("//")
}

/// Relative links of a Markdown file lead to something that exists.
fn check_links(root: &Path, file: &str, text: &str) -> Vec<Finding> {
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            let is_relative = !target.is_empty() && !target.contains(':') && !target.contains(' ');
            if is_relative && !root.join(folder).join(target).exists() {
                findings.push(Finding::at(file, at + 1, format!("dead link to `{target}`")));
            }
        }
    }
    findings
}

/// Decisions are `NNNN-name.md`, numbered from 0001 without a gap, titled `# NNNN …`, with all
/// three parts. `decisions` are names and texts.
pub(super) fn check_decisions(decisions: &[(&str, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, (name, text)) in decisions.iter().enumerate() {
        let file = format!("{DECISIONS}{name}");
        let number = format!("{:04}", at + 1);
        if !name.starts_with(&format!("{number}-")) || !name.ends_with(".md") {
            findings.push(Finding::of(&file, format!("should be `{number}-name.md`")));
        }
        if !text.starts_with(&format!("# {number} ")) {
            findings.push(Finding::at(&file, 1, format!("its title should be `# {number} …`")));
        }
        for part in DECISION_PARTS.iter().filter(|part| !text.contains(**part)) {
            findings.push(Finding::of(&file, format!("has no `{part}`")));
        }
    }
    findings
}
