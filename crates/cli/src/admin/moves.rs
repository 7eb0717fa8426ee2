//! `ottla queue move` and `ottla queue redrive`: messages to another queue, or back to where they died.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use clap::{ArgMatches, Command};
use serde_json::{Map, Value, json};

use super::client::Api;
use super::{Done, api, flag, name_of, number, option};
use crate::exit::{Code, Failure};
use crate::kafka::{output, text};
use crate::table;

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// To a queue that is named.
    Move,
    /// To the queue where each died.
    Redrive,
}

pub(super) fn to_queue() -> Command {
    let command = Command::new("move")
        .about(
            "Moves ready messages to another queue, each in one step: none is lost, none doubled",
        )
        .arg(name_of("QUEUE"))
        .arg(option("to", "QUEUE", "the queue they go to, which must exist").required(true));
    which(command)
}

pub(super) fn redrive() -> Command {
    let command = Command::new("redrive")
        .about("Moves dead letters back to the queues where they died (x-death)")
        .arg(name_of("QUEUE"))
        .arg(option("died-in", "QUEUE", "only those that died there"))
        .arg(option("reason", "WORD", "only: rejected, expired, maxlen, delivery_limit"));
    which(command)
}

fn which(command: Command) -> Command {
    command
        .arg(option("routing-key", "KEY", "only those with this routing key"))
        .arg(option("header", "NAME=VALUE", "only those with this header"))
        .arg(option("contains", "TEXT", "only those with this in their body"))
        .arg(option("limit", "N", "at most so many"))
        .arg(option("rate", "N", "at most so many a second"))
        .arg(flag("preview", "move nothing; say what would be moved"))
}

/// What was done so far.
#[derive(Debug, Default)]
struct Sum {
    targets: BTreeMap<String, u64>,
    kept: BTreeMap<String, u64>,
    moved: u64,
    stayed: u64,
}

pub(super) fn run(arguments: &ArgMatches, kind: Kind) -> Done {
    let api = api(arguments)?;
    let (limit, rate) = (number(arguments, "limit")?, number(arguments, "rate")?);
    if rate == Some(0) {
        return Err(Failure::new(Code::Usage, "--rate must be above 0"));
    }
    let preview = arguments.get_flag("preview");
    // everything that is there now, and not what comes meanwhile
    let (vhost, name) = (text(arguments, "vhost"), text(arguments, "name"));
    let ready = api.get(&["queues", &vhost, &name])?;
    let mut left = ready.get("messages_ready").and_then(Value::as_u64).unwrap_or(0);
    let mut sum = Sum::default();
    let pace = Pace::new(rate)?;
    let mut skip = 0;
    while left > 0 && limit.is_none_or(|limit| sum.moved < limit) {
        let wanted = limit.map_or(CHUNK, |limit| limit - sum.moved).min(pace.chunk()).min(CHUNK);
        let told = ask(&api, arguments, kind, (skip, left.min(CHUNK), wanted), preview)?;
        let (examined, moved, stayed) = sum.add(&told);
        if examined == 0 {
            break;
        }
        left = left.saturating_sub(examined);
        skip += if preview { examined } else { stayed };
        pace.rest(if preview { 0 } else { moved });
    }
    tell(arguments, kind, &sum, preview)
}

fn ask(
    api: &Api,
    arguments: &ArgMatches,
    kind: Kind,
    (skip, look_at, limit): (u64, u64, u64),
    preview: bool,
) -> Result<Value, Failure> {
    let mut body: Map<String, Value> = [
        ("skip", json!(skip)),
        ("look_at", json!(look_at)),
        ("limit", json!(limit)),
        ("preview", json!(preview)),
        ("routing_key", json!(text(arguments, "routing-key"))),
        ("header", json!(text(arguments, "header"))),
        ("contains", json!(text(arguments, "contains"))),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let verb = match kind {
        Kind::Move => {
            body.insert("destination".to_owned(), json!(text(arguments, "to")));
            "move"
        }
        Kind::Redrive => {
            body.insert("died_in".to_owned(), json!(text(arguments, "died-in")));
            body.insert("reason".to_owned(), json!(text(arguments, "reason")));
            "redrive"
        }
    };
    let (vhost, name) = (text(arguments, "vhost"), text(arguments, "name"));
    api.post(&["ottla", "queues", &vhost, &name, verb], &Value::Object(body))
}

impl Sum {
    /// Examined, moved and stayed of this one answer.
    fn add(&mut self, told: &Value) -> (u64, u64, u64) {
        let number = |name: &str| told.get(name).and_then(Value::as_u64).unwrap_or(0);
        for (name, sums) in [("targets", &mut self.targets), ("kept", &mut self.kept)] {
            for (key, count) in told.get(name).and_then(Value::as_object).into_iter().flatten() {
                *sums.entry(key.clone()).or_default() += count.as_u64().unwrap_or(0);
            }
        }
        let (moved, stayed) = (number("moved"), number("stayed"));
        self.moved += moved;
        self.stayed += stayed;
        (number("examined"), moved, stayed)
    }
}

fn tell(arguments: &ArgMatches, kind: Kind, sum: &Sum, preview: bool) -> Done {
    let mut out = std::io::stdout().lock();
    if arguments.get_flag("json") {
        let told = json!({
            "moved": if preview { 0 } else { sum.moved }, "targets": sum.targets,
            "stayed": sum.stayed, "kept": sum.kept, "preview": preview,
        });
        return writeln!(out, "{told}").map_err(output);
    }
    let done = match (kind, preview) {
        (Kind::Move, false) => "moved",
        (Kind::Redrive, false) => "redriven",
        (_, true) => "would go",
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (queue, count) in &sum.targets {
        rows.push(vec![count.to_string(), format!("{done} to {queue}")]);
    }
    for (why, count) in &sum.kept {
        rows.push(vec![count.to_string(), format!("stay: {why}")]);
    }
    let kept: u64 = sum.kept.values().sum();
    if sum.stayed > kept {
        rows.push(vec![(sum.stayed - kept).to_string(), "stay: not asked for".to_owned()]);
    }
    if rows.is_empty() {
        return writeln!(out, "there is nothing to move").map_err(output);
    }
    table::write(&mut out, &["MESSAGES", ""], &rows).map_err(output)
}

/// So many messages a second.
struct Pace {
    rate: Option<u64>,
    runtime: tokio::runtime::Runtime,
}

impl Pace {
    fn new(rate: Option<u64>) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        Ok(Self { rate, runtime: runtime.map_err(|error| Failure::new(Code::Io, error))? })
    }

    /// What may be moved in one go.
    fn chunk(&self) -> u64 {
        self.rate.map_or(CHUNK, |rate| (rate / 10).max(1))
    }

    /// Waits for as long as so many messages may take.
    fn rest(&self, moved: u64) {
        if let Some(rate) = self.rate {
            let wait = Duration::from_millis(moved.saturating_mul(1000) / rate);
            self.runtime.block_on(async { tokio::time::sleep(wait).await });
        }
    }
}

/// Messages of one request at most.
const CHUNK: u64 = 1000;
