//! `ottla verify`: reads everything in a data directory that counts, and says whether it is whole.
//! Changes nothing, and needs no lock: a broker may be running in it.

use std::io::Write;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command};
use ottla_engine::LookDisk;
use ottla_engine::inspect::{DirectoryReport, Finding, directory};
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::inspect::{damaged, open, read_failed};
use crate::kafka::{self, output};
use crate::table;

pub(crate) fn command() -> Command {
    Command::new("verify")
        .about("Reads a data directory in full and says whether it is whole; changes nothing")
        .after_help("Ends with 0 if everything is whole, with 65 if something is damaged.")
        .arg(kafka::json())
        .arg(
            Arg::new("data")
                .required(true)
                .value_name("DATA-DIR")
                .value_parser(clap::value_parser!(PathBuf))
                .help("the directory that `ottla serve --data` was given"),
        )
}

pub(crate) fn run(arguments: &ArgMatches) -> Result<(), Failure> {
    let path = arguments.get_one::<PathBuf>("data").cloned().unwrap_or_default();
    let disk = open(&path)?;
    let holder = disk.holder();
    let report = verified(&disk, holder.is_some())?;
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        writeln!(out, "{}", told(&report, holder)).map_err(output)?;
    } else {
        if let Some(process) = holder {
            writeln!(
                out,
                "process {process} is using the directory: told is what was there while looking"
            )
            .map_err(output)?;
        }
        show(&mut out, &report).map_err(output)?;
    }
    damaged(&report.findings)
}

/// What is found while a broker writes has to be found again: files change hands meanwhile.
fn verified(disk: &LookDisk, in_use: bool) -> Result<DirectoryReport, Failure> {
    let mut left = if in_use { LOOKS_MAX } else { 1 };
    loop {
        left -= 1;
        match directory(disk) {
            Ok(report) if report.findings.is_empty() || left == 0 => return Ok(report),
            Err(error) if left == 0 => return Err(read_failed(&error)),
            _ => {}
        }
    }
}

fn told(report: &DirectoryReport, holder: Option<u32>) -> Value {
    json!({
        "clean": report.findings.is_empty(),
        "in_use_by": holder,
        "snapshots": report.snapshots,
        "wal": {
            "files": report.wal.files,
            "groups": report.wal.groups,
            "facts": report.wal.items,
            "floor": report.wal.floor.0,
            "end": report.wal.end.0,
            "proven": report.wal.proven.0,
        },
        "partitions": report.partitions,
        "segments": report.segments,
        "batches": report.batches,
        "records": report.records,
        "old_logs": report.old_logs,
        "messages": report.messages,
        "bytes": report.bytes,
        "damage": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "unlisted": report.unlisted,
    })
}

fn finding(found: &Finding) -> Value {
    json!({"path": found.path, "position": found.position, "what": found.what})
}

fn show(out: &mut impl Write, report: &DirectoryReport) -> std::io::Result<()> {
    let row =
        |what: &str, files: u64, holds: String| vec![what.to_owned(), files.to_string(), holds];
    let wal = &report.wal;
    let rows = [
        row("snapshots", report.snapshots, format!("{} partitions", report.partitions)),
        row(
            "log",
            wal.files,
            format!("{} groups, {} facts, {}..{}", wal.groups, wal.items, wal.floor, wal.end),
        ),
        row(
            "segments",
            report.segments,
            format!("{} batches, {} records", report.batches, report.records),
        ),
        row("old logs", report.old_logs, format!("{} messages", report.messages)),
    ];
    table::write(out, &["WHAT", "FILES", "HOLDS"], &rows)?;
    for path in &report.unlisted {
        writeln!(out, "nothing names {path}; the next start puts it into lost+found")?;
    }
    if report.findings.is_empty() {
        return writeln!(out, "everything is whole");
    }
    for found in &report.findings {
        writeln!(out, "DAMAGED {} at byte {}: {}", found.path, found.position, found.what)?;
    }
    Ok(())
}

/// Looks at a directory that is in use before damage is believed.
const LOOKS_MAX: u32 = 4;
