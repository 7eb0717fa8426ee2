//! `cargo xtask compat`: foreign programs and real brokers, as `tests/rig` runs them.
//!
//! What a machine lacks is said with the package to install, and is a failure: nothing passes silently.

use std::path::Path;
use std::process::{Command, ExitCode};

use crate::{root, say};

/// The exit code for something the machine lacks (sysexits EX_UNAVAILABLE).
const UNAVAILABLE: u8 = 69;

/// Runs the suites named by `--only NAME` (repeatable), or all of them.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let Some(names) = names(arguments) else {
        say("usage: cargo xtask compat [--only NAME]…   NAME as in tests/rig/suites.py");
        return ExitCode::from(64);
    };
    let root = root::folder();
    if needs_ottla(&names) && !build(&root) {
        return ExitCode::FAILURE;
    }
    let status = Command::new("python3")
        .args(["-m", "rig.suites"])
        .args(&names)
        .env("PYTHONPATH", root.join("tests"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(root)
        .status();
    match status {
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            code.map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(error) => {
            say(&format!("python3: {error}: apt-get install python3 python3-venv"));
            ExitCode::from(UNAVAILABLE)
        }
    }
}

/// The suites asked for; none when the arguments are not understood.
fn names(arguments: &[String]) -> Option<Vec<String>> {
    arguments
        .chunks(2)
        .map(|pair| match pair {
            [flag, name] if flag == "--only" && !name.starts_with('-') => Some(name.clone()),
            _ => None,
        })
        .collect()
}

fn needs_ottla(names: &[String]) -> bool {
    names.is_empty()
        || names.iter().any(|name| {
            name.contains("ottla")
                || ["tour", "tools"].contains(&name.as_str())
                || name.starts_with("commands")
        })
}

/// Builds the release binary, unless `OTTLA` names one that was built before.
fn build(root: &Path) -> bool {
    if std::env::var_os("OTTLA").is_some() {
        return true;
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "--package", "ottla-cli"])
        .current_dir(root)
        .status();
    built.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn suites_are_chosen_by_name_and_a_stray_word_is_refused() {
        assert_eq!(names(&[]), Some(vec![]));
        assert_eq!(names(&owned(&["--only", "a", "--only", "b"])), Some(owned(&["a", "b"])));
        assert_eq!(names(&owned(&["--only"])), None);
        assert_eq!(names(&owned(&["a"])), None);
    }

    #[test]
    fn only_suites_that_run_ottla_build_it() {
        assert!(needs_ottla(&[]), "all suites");
        assert!(needs_ottla(&owned(&["acceptance-ottla-kafka"])));
        assert!(needs_ottla(&owned(&["tour"])));
        assert!(!needs_ottla(&owned(&["acceptance-kafka", "acceptance-rabbitmq-4.0"])));
    }
}
