//! `cargo xtask codegen`: writes the Kafka messages from `crates/kafka-proto/schema/*.txt`. The output is committed.

mod rust;
mod schema;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Writes every generated file and removes those that no table names any more.
///
/// # Errors
/// A line of a table that cannot be understood, or a file that cannot be read or written.
pub(crate) fn run() -> Result<(), String> {
    let crate_dir = crate_dir();
    let files = generate(&crate_dir.join("schema"))?;
    let messages = crate_dir.join("src/messages");
    for entry in fs::read_dir(&messages).map_err(|e| e.to_string())? {
        let path = entry.map_err(|e| e.to_string())?.path();
        let name = path.strip_prefix(&crate_dir).map_err(|e| e.to_string())?;
        if !files.contains_key(&name.display().to_string()) {
            fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    for (name, text) in files {
        let path = crate_dir.join(name);
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

/// Generated files by their path inside the crate.
fn generate(schema_dir: &Path) -> Result<BTreeMap<String, String>, String> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(schema_dir).map_err(|e| format!("{}: {e}", schema_dir.display()))? {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut apis = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        apis.extend(schema::parse(&text).map_err(|e| format!("{}: {e}", path.display()))?);
    }
    apis.sort_by_key(|api| (api.key.unwrap_or(i16::MAX), api.name.clone()));
    Ok(rust::files(&apis))
}

fn crate_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/kafka-proto")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_messages_are_what_the_tables_give() {
        for (name, text) in generate(&crate_dir().join("schema")).unwrap() {
            let committed = fs::read_to_string(crate_dir().join(&name)).unwrap_or_default();
            assert!(committed == text, "{name} is out of date: run `cargo xtask codegen`");
        }
    }
}
