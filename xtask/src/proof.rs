//! `cargo xtask proof`: the longer proof. Crash points for as long as asked, the planted mistakes, every
//! decoder under changed bytes, and real clients whose broker is killed; what was shown is told as it
//! comes and written to `docs/proof/<date>.md`, which is committed.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::root;

/// A part of the proof.
struct Part {
    title: &'static str,
    /// Program and arguments, without blanks in any of them.
    command: String,
    variables: Vec<(&'static str, String)>,
    /// Lines of its output that say what was shown contain one of these.
    tells: &'static [&'static str],
    /// Lines that say how far it is: printed, and not in the report.
    progress: &'static str,
}

/// A part that has run.
struct Shown {
    title: &'static str,
    /// As it can be typed.
    command: String,
    is_shown: bool,
    seconds: u64,
    lines: Vec<String>,
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
    let parts = parts(minutes);
    let count = parts.len();
    let mut shown = Vec::new();
    for (number, part) in parts.into_iter().enumerate() {
        crate::say(&format!("== {} of {count}: {}", number + 1, part.title));
        shown.push(show(&folder, part));
    }
    report.push_str(&figures(&shown));
    shown.iter().for_each(|part| report.push_str(&section(part)));
    let is_written = match write(&folder, &report) {
        Ok(path) => {
            crate::say(&format!("the report: {path}"));
            true
        }
        Err(error) => {
            crate::say(&format!("the report cannot be written: {error}"));
            false
        }
    };
    let is_shown = is_written && shown.iter().all(|part| part.is_shown);
    if is_shown { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What takes as long as one likes takes `minutes`, two thirds of it for fresh seeds; builds, fixed
/// seeds and real clients come on top.
fn parts(minutes: u64) -> Vec<Part> {
    let (seeds, fuzz) = (minutes * 40, (minutes * 20 / FUZZ_TARGETS).max(1));
    let part = |title, command: &str, tells, progress| Part {
        title,
        command: command.to_owned(),
        variables: Vec::new(),
        tells,
        progress,
    };
    vec![
        Part {
            variables: vec![("OTTLA_SIM_SECONDS", seeds.to_string())],
            ..part(
                "Crash points of the store, and every planted mistake",
                "cargo test --release --locked -p ottla-sim -- --nocapture --test-threads=1",
                &[" crash points", "fresh seeds from", "test result", "panicked", "again with"],
                "... ",
            )
        },
        part(
            "Crash points of queues, through the broker",
            "cargo test --locked -p ottla-engine --test it -- --nocapture --test-threads=1 crash disk",
            &[" crash points", "test result", "panicked"],
            "... ",
        ),
        Part {
            variables: vec![("CARGO_TARGET_DIR", "target/fuzz".to_owned())],
            ..part(
                "Changed bytes for every decoder",
                &format!(
                    "cargo run --quiet --locked --manifest-path fuzz/Cargo.toml -- all --seconds {fuzz} --seed {minutes}"
                ),
                &[" inputs in ", " at input ", "again:"],
                "... ",
            )
        },
        Part {
            variables: vec![("LEDGER_KILLS", "50".to_owned())],
            ..part(
                "Books of real clients of both protocols over a broker that is killed",
                "cargo xtask compat --only ledger-ottla",
                &["# ", "lost", "missing", "passed", "failed"],
                "# killed",
            )
        },
        Part {
            variables: vec![("HISTORY_FAULTS", "12".to_owned())],
            ..part(
                "Histories of two Kafka libraries under kills, pauses and a full disk",
                "cargo xtask compat --only history-ottla",
                &["# ", "lost", "missing", "passed", "failed"],
                "... ",
            )
        },
    ]
}

/// Runs a part and prints what it tells.
fn show(folder: &Path, part: Part) -> Shown {
    let begun = seconds();
    let variables: String =
        part.variables.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    let child = Command::new("sh")
        .args(["-c", "exec \"$@\" 2>&1", "sh"])
        .args(part.command.split(' '))
        .envs(part.variables.iter().map(|(name, value)| (name, value)))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut lines = Vec::new();
    let is_shown = child.is_ok_and(|mut child| {
        let out = child.stdout.take().into_iter();
        for line in out.flat_map(|out| BufReader::new(out).split(b'\n')) {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).into_owned();
            if line.starts_with(part.progress) {
                crate::say(&line);
            } else if part.tells.iter().any(|word| line.contains(word)) {
                crate::say(&line);
                lines.push(line);
            }
        }
        child.wait().is_ok_and(|status| status.success())
    });
    lines.truncate(LINES_MAX);
    let seconds = seconds().saturating_sub(begun);
    crate::say(&format!("-- {}, {seconds} s", outcome(is_shown)));
    let command = format!("{variables}{}", part.command);
    Shown { title: part.title, command, is_shown, seconds, lines }
}

const fn outcome(is_shown: bool) -> &'static str {
    if is_shown { "shown" } else { "FAILED" }
}

fn section(part: &Shown) -> String {
    format!(
        "\n## {}: {}, {} s\n\n`{}`\n\n```text\n{}\n```\n",
        part.title,
        outcome(part.is_shown),
        part.seconds,
        part.command,
        part.lines.join("\n")
    )
}

/// The sums of what the parts told.
fn figures(shown: &[Shown]) -> String {
    let lines = || shown.iter().flat_map(|part| part.lines.iter().map(String::as_str));
    let sum = |word: &str| -> u64 { lines().filter_map(|line| number_before(line, word)).sum() };
    let fresh = lines().filter(|line| line.contains("(fresh)"));
    let fresh: u64 = fresh.filter_map(|line| number_before(line, " seeds")).sum();
    let planted = lines().filter(|line| line.contains(": found after ")).count();
    let mut table = String::from("\n| Shown | |\n|---|---|\n");
    let points = sum(" crash points (") + sum(" crash points of queues");
    let rows = [
        ("crash points after which nothing promised was lost", points),
        ("of them, with other seeds than any run before: seeds", fresh),
        ("planted mistakes found by the same judgement", planted as u64),
        ("changed inputs that no decoder choked on", sum(" inputs in ")),
        ("kills of the binary under real clients (books)", sum(" kills; ready")),
        ("events in checked histories", sum(" events: ")),
        ("parts that failed", shown.iter().filter(|part| !part.is_shown).count() as u64),
    ];
    for (what, count) in rows {
        writeln!(table, "| {what} | {count} |").ok();
    }
    table
}

/// The number that stands directly in front of `word`.
fn number_before(line: &str, word: &str) -> Option<u64> {
    let before = line.split(word).next().filter(|before| before.len() < line.len())?;
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn head(folder: &Path) -> String {
    let told = |program: &str, arguments: &[&str]| told(folder, program, arguments);
    let commit = told("git", &["log", "-1", "--format=%h %s"]);
    let changed = told("git", &["status", "--porcelain", "--untracked-files=no"]);
    let changed = if changed.is_empty() { "" } else { ", with changes" };
    let machine = told("uname", &["-srm"]);
    let processor = told("sed", &["-n", "s/^model name[^:]*: //p;T;q", "/proc/cpuinfo"]);
    let memory = told("awk", &["/MemTotal/ { print int($2 / 1024) }", "/proc/meminfo"]);
    let disk = told("df", &["--output=fstype", "."]);
    let disk = disk.lines().last().unwrap_or_default();
    let rust = told("rustc", &["--version"]);
    let binary = std::env::var("OTTLA").unwrap_or_else(|_| "target/release/ottla".to_owned());
    let ours = format!("{}/", folder.display());
    let binary = binary.strip_prefix(&ours).unwrap_or(&binary);
    format!(
        "# Proof of {}\n\nWritten by `cargo xtask proof`.\n\n| | |\n|---|---|\n\
         | Version | {}; clients were served by `{binary}` |\n| Commit | {commit}{changed} |\n| Compiler | {rust} |\n\
         | Machine | {machine}; {} cores ({processor}), {memory} MiB, {disk}; load {} at its begin |\n",
        today(folder),
        env!("CARGO_PKG_VERSION"),
        told("nproc", &[]),
        told("cut", &["-d", " ", "-f1", "/proc/loadavg"]),
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

/// What a program prints.
fn told(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    output.map_or_else(
        |error| format!("{program}: {error}"),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// Lines of one part in the report.
const LINES_MAX: usize = 60;
/// As `fuzz/` has them.
const FUZZ_TARGETS: u64 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_the_sums_of_what_was_told() {
        let lines = [
            "100001 crash points (fixed): 40 seeds, 9.1 s; 2 during recovery",
            "2000 crash points (fresh): 3 seeds, 5.0 s; 1 during recovery",
            "500 crash points of queues: 2 seeds, from 1",
            "torn group called corruption: found after 77 crash points",
            "amqp_table: 12 inputs in 1.0 s, 3 of them accepted, at most 9 kB in memory",
        ];
        let lines = lines.map(str::to_owned).to_vec();
        let (title, command) = ("Proof", "true".to_owned());
        let shown = Shown { title, command, is_shown: true, seconds: 1, lines };
        let table = figures(&[shown]);
        for row in
            ["lost | 102501 |", "seeds | 3 |", "judgement | 1 |", "on | 12 |", "failed | 0 |"]
        {
            assert!(table.contains(row), "{row} in {table}");
        }
    }

    #[test]
    fn a_part_that_fails_says_so() {
        let part = Part {
            title: "Nothing",
            command: "false".to_owned(),
            variables: Vec::new(),
            tells: &[],
            progress: "... ",
        };
        let shown = show(Path::new("/"), part);
        assert!(section(&shown).contains("## Nothing: FAILED"));
    }
}
