//! Which crate may use which: imports point down, pure crates know no runtime, and what is not ours
//! comes from a registry.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::Finding;

/// A crate's folder and the folders it may use as normal dependencies.
pub(super) const LAYERS: [(&str, Uses); 12] = [
    ("crates/store", Uses::Only(&[])),
    ("crates/kafka-proto", Uses::Only(&[])),
    ("crates/amqp-proto", Uses::Only(&[])),
    ("crates/engine", Uses::Only(&["crates/store"])),
    ("crates/client", Uses::Only(&["crates/kafka-proto", "crates/amqp-proto"])),
    ("crates/server", Uses::Only(&["crates/engine", "crates/kafka-proto", "crates/amqp-proto"])),
    ("crates/toolkit-derive", Uses::Only(&[])),
    ("crates/toolkit", Uses::Only(&["crates/engine", "crates/toolkit-derive"])),
    (
        "crates/cli",
        Uses::Only(&["crates/server", "crates/toolkit", "crates/client", "crates/engine"]),
    ),
    ("crates/sim", Uses::All),
    ("crates/bench", Uses::All),
    ("xtask", Uses::All),
];

/// What a layer may import.
#[derive(Debug, Clone, Copy)]
pub(super) enum Uses {
    /// A crate of the product: these folders and no others.
    Only(&'static [&'static str]),
    /// A developer crate: it may drive everything, and nobody imports it.
    All,
}

/// The crates without a runtime, by folder.
pub(super) const PURE: [&str; 4] =
    ["crates/store", "crates/kafka-proto", "crates/amqp-proto", "crates/engine"];

const RUNTIME: [&str; 13] = [
    "anyhow",
    "async-std",
    "async-trait",
    "axum",
    "chrono",
    "getrandom",
    "hyper",
    "mio",
    "rand",
    "rustls",
    "smol",
    "socket2",
    "tokio",
];

/// Asks cargo for the workspace and judges its normal dependencies.
pub(super) fn check(root: &Path) -> Vec<Finding> {
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    let mut findings = judge_sources(&lock);
    match metadata(root) {
        Ok(metadata) => findings.extend(judge(root, &metadata)),
        Err(error) => findings.push(Finding::of("Cargo.toml", error)),
    }
    findings
}

/// Judges where the packages of a `Cargo.lock` come from: git repositories move and vanish.
pub(super) fn judge_sources(lock: &str) -> Vec<Finding> {
    let foreign = |line: &&str| line.starts_with("source = ") && !line.contains("\"registry+");
    lock.lines()
        .enumerate()
        .filter(|(_, line)| foreign(line))
        .map(|(at, _)| Finding::at("Cargo.lock", at + 1, "a dependency from outside a registry"))
        .collect()
}

fn metadata(root: &Path) -> Result<Value, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))
}

/// Judges the output of `cargo metadata` for the workspace at `root`.
pub(super) fn judge(root: &Path, metadata: &Value) -> Vec<Finding> {
    let packages = array(metadata, "packages");
    let folder_of_package: BTreeMap<&str, String> =
        packages.iter().map(|package| (text(package, "name"), folder(root, package))).collect();
    let mut findings = Vec::new();
    for package in packages {
        let folder = folder(root, package);
        let manifest = format!("{folder}/Cargo.toml");
        let Some((_, uses)) = LAYERS.iter().find(|(known, _)| *known == folder) else {
            let what = "new crate: give it a layer in xtask/src/tidy/layers.rs";
            findings.push(Finding::of(&manifest, what));
            continue;
        };
        for dependency in array(package, "dependencies") {
            let name = text(dependency, "name");
            if dependency.get("kind").is_none_or(|kind| !kind.is_null()) {
                continue; // dev and build dependencies are free
            }
            if let Some(used) = folder_of_package.get(name)
                && !may_use(*uses, used)
            {
                let what = format!("must not use {used}: imports point down (docs/style.md 3)");
                findings.push(Finding::of(&manifest, what));
            }
            if PURE.contains(&folder.as_str()) && RUNTIME.contains(&name) {
                let what = format!("must not use {name}: a pure crate has no runtime");
                findings.push(Finding::of(&manifest, what));
            }
        }
    }
    findings
}

fn may_use(uses: Uses, used: &str) -> bool {
    match uses {
        Uses::Only(folders) => folders.contains(&used),
        Uses::All => true,
    }
}

fn folder(root: &Path, package: &Value) -> String {
    let manifest = Path::new(text(package, "manifest_path"));
    let folder = manifest.parent().unwrap_or(manifest);
    folder.strip_prefix(root).unwrap_or(folder).display().to_string()
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
