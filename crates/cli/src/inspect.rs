//! `ottla inspect`: shows what files of a data directory hold. Changes nothing, and needs no lock: a
//! broker may be running in it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command};
use ottla_engine::inspect::{self, Finding, WalEvent};
use ottla_engine::{FileError, LookDisk};
use serde_json::{Value, json};

use crate::exit::{Code, Failure};
use crate::kafka::{self, output};
use crate::table;

pub(crate) fn command() -> Command {
    let kind = |name: &'static str, about: &'static str| {
        Command::new(name).about(about).arg(
            Arg::new("path")
                .required(true)
                .value_name("PATH-or-DATA-DIR")
                .value_parser(clap::value_parser!(PathBuf))
                .help("a file, or a data directory for all its files"),
        )
    };
    Command::new("inspect")
        .about("Shows what files of a data directory hold; changes nothing")
        .after_help(
            "Ends with 65 if something is damaged. A broker may be running in the directory.",
        )
        .subcommand_required(true)
        .arg(kafka::json().global(true))
        .subcommand(kind("wal", "Shows the write-ahead log: files, groups, facts"))
        .subcommand(kind("segment", "Shows segments: record batches of a partition"))
        .subcommand(kind("oldlog", "Shows old logs: messages of queues"))
        .subcommand(kind("snapshot", "Shows snapshots: objects and their places"))
}

pub(crate) fn run(arguments: &ArgMatches) -> Result<(), Failure> {
    let Some((kind, arguments)) = arguments.subcommand() else { return Ok(()) };
    let path = arguments.get_one::<PathBuf>("path").cloned().unwrap_or_default();
    let target = Target::of(&path)?;
    let mut shown = match kind {
        "wal" => wal(&target),
        "segment" => segments(&target),
        "oldlog" => old_logs(&target),
        _ => snapshots(&target),
    }
    .map_err(|error| read_failed(&error))?;
    let mut out = io::stdout().lock();
    let holder = target.disk.holder();
    if arguments.get_flag("json") {
        let damage: Vec<_> = shown.findings.iter().map(finding).collect();
        let rows = std::mem::take(&mut shown.values);
        let told = json!({kind: rows, "damage": damage, "in_use_by": holder});
        writeln!(out, "{told}").map_err(output)?;
    } else {
        shown.print(&mut out, holder).map_err(output)?;
    }
    damaged(&shown.findings)
}

/// A data directory, or one file.
struct Target {
    disk: LookDisk,
    file: Option<String>,
}

impl Target {
    fn of(path: &Path) -> Result<Self, Failure> {
        if path.is_dir() {
            return Ok(Self { disk: open(path)?, file: None });
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|_| path.is_file()) else {
            return Err(no_such(path));
        };
        let root = parent.unwrap_or(Path::new("."));
        let disk = LookDisk::open(root).map_err(|error| Failure::new(Code::Io, error))?;
        Ok(Self { disk, file: Some(name.to_owned()) })
    }
}

/// A table for people, its rows as values for programs, and what is damaged.
#[derive(Default)]
struct Shown {
    header: &'static [&'static str],
    rows: Vec<Vec<String>>,
    values: Vec<Value>,
    findings: Vec<Finding>,
}

impl Shown {
    fn new(header: &'static [&'static str]) -> Self {
        Self { header, ..Self::default() }
    }

    /// A row; the header in small letters names the values.
    fn row(&mut self, cells: Vec<Value>) {
        let text = |cell: &Value| match cell {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        self.rows.push(cells.iter().map(text).collect());
        let names = self.header.iter().map(|name| name.to_lowercase().replace(' ', "_"));
        self.values.push(Value::Object(names.zip(cells).collect()));
    }

    fn print(&self, out: &mut impl Write, holder: Option<u32>) -> io::Result<()> {
        if let Some(process) = holder {
            writeln!(
                out,
                "process {process} is using the directory: told is what was there while looking"
            )?;
        }
        table::write(out, self.header, &self.rows)?;
        for found in &self.findings {
            writeln!(out, "DAMAGED {} at byte {}: {}", found.path, found.position, found.what)?;
        }
        Ok(())
    }
}

fn wal(target: &Target) -> Result<Shown, FileError> {
    let mut shown =
        Shown::new(&["PATH", "POSITION", "LSN", "WHAT", "STREAM", "BYTES", "VALUE", "WHOLE"]);
    let mut each = |event: &WalEvent| shown.row(wal_row(event));
    let summary = match &target.file {
        Some(file) => inspect::wal_file(&target.disk, file, &mut each)?,
        None => inspect::wal(&target.disk, &mut each)?,
    };
    shown.findings = summary.damage;
    Ok(shown)
}

fn wal_row(event: &WalEvent) -> Vec<Value> {
    match event {
        WalEvent::File(file) => vec![
            json!(file.path),
            json!(0),
            json!(file.start.0),
            json!("file"),
            Value::Null,
            json!(file.end.0 - file.start.0),
            json!(format!("generation {:016x}", file.generation)),
            json!(true),
        ],
        WalEvent::Group(group) => vec![
            json!(group.path),
            json!(group.position),
            json!(group.lsn.0),
            json!("group"),
            Value::Null,
            json!(group.bytes),
            json!(format!("durable {}", group.durable_upto.0)),
            json!(true),
        ],
        WalEvent::Item(item) => vec![
            json!(item.path),
            json!(item.position),
            json!(item.lsn.0),
            json!(item.kind),
            json!(item.stream.0),
            json!(item.bytes),
            json!(item.aux),
            json!(item.is_whole),
        ],
    }
}

fn segments(target: &Target) -> Result<Shown, FileError> {
    if let Some(file) = &target.file {
        let mut shown =
            Shown::new(&["POSITION", "OFFSETS", "RECORDS", "BYTES", "MAX TIMESTAMP", "PRODUCER"]);
        let summary = inspect::segment(&target.disk, file, None, &mut |position, header| {
            shown.row(vec![
                json!(position),
                json!(format!("{}..{}", header.base_offset.0, header.last_offset().0)),
                json!(header.count),
                json!(header.bytes),
                json!(header.max_timestamp),
                json!(header.producer_id),
            ]);
        })?;
        shown.findings.extend(summary.damage);
        return Ok(shown);
    }
    let mut shown = Shown::new(&["PARTITION", "PATH", "OFFSETS", "BATCHES", "RECORDS", "BYTES"]);
    for named in inspect::contents(&target.disk)?.segments {
        let summary =
            inspect::segment(&target.disk, &named.path, Some(&named.meta), &mut |_, _| {})?;
        shown.row(vec![
            json!(named.partition.0),
            json!(named.path),
            json!(format!("{}..{}", named.meta.base.0, named.meta.next.0)),
            json!(summary.batches),
            json!(summary.records),
            json!(summary.bytes),
        ]);
        shown.findings.extend(summary.damage);
    }
    Ok(shown)
}

fn old_logs(target: &Target) -> Result<Shown, FileError> {
    let mut shown = Shown::new(&["PATH", "START", "MESSAGES", "BYTES"]);
    let files = match &target.file {
        Some(file) => vec![(file.clone(), None)],
        None => inspect::contents(&target.disk)?
            .old_logs
            .into_iter()
            .map(|named| (named.path, Some(named.bytes)))
            .collect(),
    };
    for (path, bytes) in files {
        let (summary, damage) = inspect::old_log(&target.disk, &path, bytes)?;
        shown.row(vec![
            json!(path),
            json!(summary.map(|summary| summary.start.0)),
            json!(summary.map(|summary| summary.messages)),
            json!(summary.map(|summary| summary.bytes)),
        ]);
        shown.findings.extend(damage);
    }
    Ok(shown)
}

fn snapshots(target: &Target) -> Result<Shown, FileError> {
    let (mut shown, files) = match &target.file {
        Some(file) => (Shown::new(&["KEY", "APPLIED", "BYTES"]), vec![file.clone()]),
        None => (
            Shown::new(&["PATH", "NUMBER", "FLOOR", "END", "DURABLE", "OBJECTS", "BYTES"]),
            inspect::contents(&target.disk)?.snapshots.into_iter().map(|(_, path)| path).collect(),
        ),
    };
    for path in files {
        match inspect::snapshot(&target.disk, &path)? {
            Err(damage) => shown.findings.push(damage),
            Ok((_, objects)) if target.file.is_some() => {
                for object in objects {
                    let key = object.key.escape_ascii().to_string();
                    shown.row(vec![json!(key), json!(object.applied.0), json!(object.bytes)]);
                }
            }
            Ok((header, objects)) => shown.row(vec![
                json!(path),
                json!(header.number),
                json!(header.floor.0),
                json!(header.end.0),
                json!(header.durable_upto.0),
                json!(objects.len()),
                json!(objects.iter().map(|object| object.bytes).sum::<u64>()),
            ]),
        }
    }
    Ok(shown)
}

fn finding(found: &Finding) -> Value {
    json!({"path": found.path, "position": found.position, "what": found.what})
}

/// A data directory to look at.
pub(crate) fn open(path: &Path) -> Result<LookDisk, Failure> {
    if !path.join("FORMAT").is_file() {
        return Err(no_such(path));
    }
    LookDisk::open(path).map_err(|error| Failure::new(Code::Io, error))
}

fn no_such(path: &Path) -> Failure {
    let what = format!("{} is neither a data directory nor a file of one", path.display());
    Failure::new(Code::NoInput, what)
}

/// A disk that cannot be read, or a version that cannot.
pub(crate) fn read_failed(error: &FileError) -> Failure {
    let code = match error {
        FileError::Io { .. } => Code::Io,
        _ => Code::Data,
    };
    Failure::new(code, error)
}

/// The end of a command that has shown what is damaged.
pub(crate) fn damaged(findings: &[Finding]) -> Result<(), Failure> {
    let Some(first) = findings.first() else { return Ok(()) };
    let what = format!(
        "{} place(s) are damaged, the first at byte {} of {}",
        findings.len(),
        first.position,
        first.path
    );
    Err(Failure::new(Code::Data, what))
}
