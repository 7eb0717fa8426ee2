//! Feeds changed bytes to one decoder after another and watches that it neither panics, nor hangs,
//! nor takes more memory than its input is worth. See README.md.

mod dice;
mod disk;
mod targets;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use dice::Dice;
use targets::{TARGETS, Target};

/// What is asked for.
struct Task {
    target: String,
    seconds: u64,
    seed: u64,
    only: Option<u64>,
    /// Where the worker says which input it is at; given by the parent alone.
    progress: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Some(task) = parse(std::env::args().skip(1)) else {
        eprintln!("usage: ottla-fuzz TARGET|all [--seconds N] [--seed N] [--only I]");
        eprintln!("targets: {}", TARGETS.map(|target| target.name).join(" "));
        return ExitCode::from(64);
    };
    if task.progress.is_some() || task.only.is_some() {
        return match TARGETS.iter().find(|target| target.name == task.target) {
            Some(target) => work(&task, target),
            None => ExitCode::from(64),
        };
    }
    let chosen = TARGETS.iter().filter(|target| task.target == "all" || target.name == task.target);
    let names: Vec<&str> = chosen.map(|target| target.name).collect();
    if names.is_empty() {
        eprintln!("there is no target {}", task.target);
        return ExitCode::from(64);
    }
    let failed = names.into_iter().filter(|name| !watch(&task, name)).count();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Task> {
    let target = arguments.next()?;
    let mut task = Task { target, seconds: 10, seed: 1, only: None, progress: None };
    while let Some(flag) = arguments.next() {
        let value = arguments.next()?;
        match flag.as_str() {
            "--seconds" => task.seconds = value.parse().ok()?,
            "--seed" => task.seed = value.parse().ok()?,
            "--only" => task.only = Some(value.parse().ok()?),
            "--progress" => task.progress = Some(value.into()),
            _ => return None,
        }
    }
    Some(task)
}

/// Runs one target in a process of its own; false if it failed.
fn watch(task: &Task, name: &str) -> bool {
    let progress = std::env::temp_dir().join(format!("ottla-fuzz-{}-{name}", std::process::id()));
    let program = std::env::current_exe().expect("our own path");
    let (seconds, seed) = (task.seconds.to_string(), task.seed.to_string());
    let mut worker = Command::new("sh")
        .args(["-c", "ulimit -v 2097152; exec \"$0\" \"$@\""])
        .arg(program)
        .args([name, "--seconds", &seconds, "--seed", &seed, "--progress"])
        .arg(&progress)
        .spawn()
        .expect("sh");
    let mut last = (String::new(), Instant::now());
    let outcome = loop {
        if let Some(status) = worker.try_wait().expect("a child") {
            break if status.success() { Ok(()) } else { Err(status.to_string()) };
        }
        let at = fs::read_to_string(&progress).unwrap_or_default();
        if at != last.0 {
            last = (at, Instant::now());
        } else if last.1.elapsed() > HANG {
            drop(worker.kill());
            drop(worker.wait());
            break Err("it hangs".to_owned());
        }
        std::thread::park_timeout(Duration::from_millis(100));
    };
    if let Err(why) = &outcome {
        let at = fs::read_to_string(&progress).unwrap_or_default();
        eprintln!("{name}: {why} at input {}", at.trim());
        eprintln!("  again: ottla-fuzz {name} --seed {} --only {}", task.seed, at.trim());
    }
    drop(fs::remove_file(&progress));
    outcome.is_ok()
}

/// Feeds inputs until time is up.
fn work(task: &Task, target: &Target) -> ExitCode {
    let seeds = (target.seeds)();
    let begun = Instant::now();
    let (mut runs, mut taken) = (0_u64, 0_u64);
    let first = task.only.unwrap_or(0);
    for number in first.. {
        if task.only.is_none() && begun.elapsed() >= Duration::from_secs(task.seconds) {
            break;
        }
        if let Some(path) = &task.progress {
            note(path, number);
        }
        let mut dice = Dice::new(task.seed, number);
        let input = dice.mutated(&seeds);
        runs += 1;
        taken += u64::from((target.run)(&input, &mut dice));
        if number % 64 == 0 && memory_kilobytes() > MEMORY_KILOBYTES_MAX {
            eprintln!("{}: {} kB in memory", target.name, memory_kilobytes());
            return ExitCode::FAILURE;
        }
        if task.only.is_some() {
            break;
        }
    }
    println!(
        "{}: {runs} inputs in {:.1} s, {taken} of them accepted, at most {} kB in memory",
        target.name,
        begun.elapsed().as_secs_f64(),
        memory_kilobytes()
    );
    ExitCode::SUCCESS
}

fn note(path: &Path, number: u64) {
    fs::write(path, number.to_string()).expect("a place for notes");
}

/// The most this process ever held.
fn memory_kilobytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

const HANG: Duration = Duration::from_secs(60);
const MEMORY_KILOBYTES_MAX: u64 = 256 << 10;
