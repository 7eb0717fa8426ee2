//! Inside a crate: the front doors never meet, and the top modules form no cycle.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::source::{Path, Source};

/// Modules of one crate that must not import one another.
const STRANGERS: [(&str, &[&str]); 1] = [("crates/server", &["kafka", "amqp", "http"])];

/// Which top module uses which, with the place that says so.
type Uses<'a> = BTreeMap<&'a str, BTreeMap<String, (&'a str, usize)>>;

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut crates: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test() && !source.folder().is_empty()) {
        crates.entry(source.folder()).or_default().push(source);
    }
    let mut findings = Vec::new();
    for (folder, sources) in crates {
        let uses = uses_of(&sources);
        findings.extend(strangers(folder, &uses));
        findings.extend(cycles(&uses));
    }
    findings
}

fn uses_of<'a>(sources: &[&'a Source]) -> Uses<'a> {
    let modules: BTreeSet<&str> =
        sources.iter().filter_map(|source| source.module().first().copied()).collect();
    let root = sources.iter().find(|source| source.file.ends_with("/src/lib.rs"));
    let homes = root.map(|root| homes_of(root, &modules)).unwrap_or_default();
    let mut uses = Uses::new();
    for source in sources {
        let module = source.module();
        let Some(top) = module.first().copied() else { continue };
        let used = uses.entry(top).or_default();
        for path in &source.paths {
            let Some(name) = from_root(path, module.len()) else { continue };
            let target = homes.get(name).map_or(name, |home| home);
            if target != top && modules.contains(target) {
                used.entry(target.to_owned()).or_insert((&source.file, path.line));
            }
        }
    }
    uses
}

/// Where a name that the crate's root exports lives: `pub use disk::Disk` makes `Disk` at home in
/// `disk`, so that `crate::Disk` is an import of `disk` too.
fn homes_of(root: &Source, modules: &BTreeSet<&str>) -> BTreeMap<String, String> {
    let mut homes = BTreeMap::new();
    for path in &root.paths {
        let segments: Vec<&String> =
            path.segments.iter().skip_while(|s| matches!(s.as_str(), "crate" | "self")).collect();
        if let [home, .., name] = segments.as_slice()
            && modules.contains(home.as_str())
        {
            homes.insert((*name).clone(), (*home).clone());
        }
    }
    homes
}

/// The first name below the crate's root, for a path that starts at it: `crate::a::B`, or enough
/// `super`s from a module `depth` deep.
fn from_root(path: &Path, depth: usize) -> Option<&str> {
    let supers = path.segments.iter().take_while(|segment| *segment == "super").count();
    let start = match path.segments.first()?.as_str() {
        "crate" => 1,
        "super" if supers == depth => supers,
        _ => return None,
    };
    path.segments.get(start).map(String::as_str)
}

fn strangers(folder: &str, uses: &Uses<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (_, doors) in STRANGERS.iter().filter(|(owner, _)| *owner == folder) {
        for door in *doors {
            for (target, (file, line)) in uses.get(door).into_iter().flatten() {
                if doors.contains(&target.as_str()) {
                    let what = format!("`{door}` imports `{target}`: front doors never meet");
                    findings.push(Finding::at(file, *line, what));
                }
            }
        }
    }
    findings
}

/// One finding for each cycle's smallest module, with the way round.
fn cycles(uses: &Uses<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for start in uses.keys() {
        let Some(way) = way_back(uses, start) else { continue };
        if way.iter().any(|module| told.contains(module)) {
            continue;
        }
        let second = way.get(1).copied().unwrap_or(start);
        let place = uses.get(start).and_then(|used| used.get(second));
        let (file, line) = place.copied().unwrap_or((start, 0));
        let what = format!("import cycle of modules: {}", way.join(" → "));
        findings.push(Finding::at(file, line, what));
        told.extend(way);
    }
    findings
}

/// The shortest way from `start` over its imports back to `start`.
fn way_back<'a>(uses: &'a Uses<'_>, start: &'a str) -> Option<Vec<&'a str>> {
    let mut ways = vec![vec![start]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let last = way.last()?;
            for next in uses.get(last).into_iter().flatten().map(|(next, _)| next.as_str()) {
                let mut way = way.clone();
                way.push(next);
                if next == start {
                    return Some(way);
                }
                if seen.insert(next) {
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    None
}
