//! `cargo xtask proof`: the longer proof. Crash points for as long as asked, the planted mistakes, every
//! decoder under changed bytes, and the ledger of real clients over a broker that is killed; what was
//! shown is written to `docs/proof/<date>.md`, which is committed.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::root;

/// A part of the proof.
struct Part {
    title: &'static str,
    program: &'static str,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
    /// Lines of its output that say what was shown contain one of these.
    tells: &'static [&'static str],
}

/// Runs all parts, one after another, and writes the report; fails if one of them does.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let minutes = match arguments {
        [] => Some(10),
        [flag, value] if flag == "--minutes" => value.parse().ok(),
        _ => None,
    };
    let Some(minutes) = minutes.filter(|minutes| (1..=24 * 60).contains(minutes)) else {
        crate::say("usage: cargo xtask proof [--minutes N]   (1 to 1440; 10 if not told)");
        return ExitCode::from(64);
    };
    let folder = root::folder();
    let mut report = head(&folder);
    let mut is_shown = true;
    for part in parts(minutes) {
        crate::say(&format!("== {}", part.title));
        is_shown &= show(&folder, &part, &mut report);
    }
    match write(&folder, &report) {
        Ok(path) => crate::say(&format!("the report: {path}")),
        Err(error) => {
            crate::say(&format!("the report cannot be written: {error}"));
            is_shown = false;
        }
    }
    if is_shown { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parts(minutes: u64) -> Vec<Part> {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let fuzz = format!(
        "run --quiet --locked --manifest-path fuzz/Cargo.toml -- all --seconds {} --seed {minutes}",
        (minutes * 6).clamp(10, 600)
    );
    vec![
        Part {
            title: "Crash points, and every planted mistake",
            program: "cargo",
            arguments: words("test --release --locked -p ottla-sim -- --nocapture"),
            variables: vec![("OTTLA_SIM_SECONDS", (minutes * 60).to_string())],
            tells: &["crash points", "fresh seeds", "test result", "panicked"],
        },
        Part {
            title: "Crash points of queues, through the broker",
            program: "cargo",
            arguments: words("test --locked -p ottla-engine --test it -- --nocapture crash disk"),
            variables: Vec::new(),
            tells: &["crash points", "test result", "panicked"],
        },
        Part {
            title: "Changed bytes for every decoder",
            program: "cargo",
            arguments: words(&fuzz),
            variables: vec![("CARGO_TARGET_DIR", "target/fuzz".to_owned())],
            tells: &["inputs in", " at input ", "again:"],
        },
        Part {
            title: "The binary for the ledger",
            program: "cargo",
            arguments: words("build --release --locked -p ottla-cli"),
            variables: Vec::new(),
            tells: &["error"],
        },
        Part {
            title: "The ledger: 50 kills under real clients of both protocols",
            program: "cargo",
            arguments: words("xtask compat --only ledger-ottla"),
            variables: vec![("LEDGER_KILLS", "50".to_owned())],
            tells: &["lost", "kills", "acknowledged", "confirm", "missing", "passed", "failed"],
        },
    ]
}

/// Runs a part and adds what it told to the report; false if it failed.
fn show(folder: &Path, part: &Part, report: &mut String) -> bool {
    let begun = seconds();
    let output = Command::new(part.program)
        .args(&part.arguments)
        .envs(part.variables.iter().map(|(name, value)| (name, value)))
        .current_dir(folder)
        .stdin(Stdio::null())
        .output();
    let (is_shown, text) = match output {
        Ok(output) => {
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.push_str(&String::from_utf8_lossy(&output.stderr));
            (output.status.success(), text)
        }
        Err(error) => (false, format!("error: {error}")),
    };
    let told = text.lines().filter(|line| part.tells.iter().any(|word| line.contains(word)));
    let told: Vec<&str> = told.take(LINES_MAX).collect();
    let outcome = if is_shown { "shown" } else { "FAILED" };
    let took = seconds().saturating_sub(begun);
    let variables: String =
        part.variables.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    let command = format!("{variables}{} {}", part.program, part.arguments.join(" "));
    let lines = told.join("\n");
    crate::say(&format!("{lines}\n-- {outcome}, {took} s"));
    let written = write!(
        report,
        "\n## {}: {outcome}, {took} s\n\n`{command}`\n\n```text\n{lines}\n```\n",
        part.title
    );
    is_shown && written.is_ok()
}

fn head(folder: &Path) -> String {
    let commit = told(folder, "git", &["log", "-1", "--format=%h %s"]);
    let machine = told(folder, "uname", &["-srm"]);
    let cores = told(folder, "nproc", &[]);
    let load = told(folder, "cut", &["-d", " ", "-f1", "/proc/loadavg"]);
    format!(
        "# Proof of {}\n\nWritten by `cargo xtask proof`. Commit {commit}; {machine}, {cores} cores, load {load} at its begin.\n",
        today(folder)
    )
}

fn write(folder: &Path, report: &str) -> Result<String, std::io::Error> {
    let path = format!("docs/proof/{}.md", today(folder));
    std::fs::create_dir_all(folder.join("docs/proof"))?;
    std::fs::write(folder.join(&path), report)?;
    Ok(path)
}

fn today(folder: &Path) -> String {
    told(folder, "date", &["-u", "+%F"])
}

fn seconds() -> u64 {
    told(Path::new("/"), "date", &["+%s"]).parse().unwrap_or(0)
}

/// The one line that a program prints.
fn told(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    output.map_or_else(
        |error| format!("{program}: {error}"),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// Lines of one part in the report.
const LINES_MAX: usize = 60;
