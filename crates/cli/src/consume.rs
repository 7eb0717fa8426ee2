//! `ottla consume`: records to stdout, from where the reader wants; no group is involved.

use std::io::Write;

use bytes::Bytes;
use clap::{Arg, ArgAction, ArgMatches, Command};
use ottla_client::messages::fetch::{FetchPartition, FetchTopic};
use ottla_client::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_client::messages::{FetchRequest, ListOffsetsRequest};
use ottla_client::{ClientError, Cluster, Leader, Response, Topic};
use ottla_engine::batch::split;
use ottla_engine::records::{Record, Records};
use serde_json::{Value, json};

use crate::exit::{Code, Failure};
use crate::kafka::{self, failure, output, text, unexpected};

pub(crate) fn command() -> Command {
    let number = |name: &'static str| {
        Arg::new(name).long(name).value_name("N").value_parser(clap::value_parser!(i64).range(0..))
    };
    Command::new("consume")
        .about("Writes records to stdout, in order of each partition")
        .arg(Arg::new("topic").required(true).value_name("TOPIC"))
        .arg(kafka::bootstrap())
        .arg(kafka::json())
        .arg(
            Arg::new("partition")
                .long("partition")
                .short('p')
                .value_name("N")
                .value_parser(clap::value_parser!(i32).range(0..))
                .help("only this partition"),
        )
        .arg(
            Arg::new("from")
                .long("from")
                .value_name("earliest|latest|OFFSET")
                .default_value("earliest")
                .conflicts_with_all(["since", "last"]),
        )
        .arg(number("since").value_name("MS").help("from the first record at or after this time"))
        .arg(number("last").conflicts_with("since").help("the last N records of each partition"))
        .arg(number("count").short('n').help("stop after N records"))
        .arg(
            Arg::new("follow")
                .long("follow")
                .short('f')
                .action(ArgAction::SetTrue)
                .help("wait for more instead of stopping at the end"),
        )
        .arg(
            Arg::new("headers")
                .long("headers")
                .action(ArgAction::SetTrue)
                .help("show key and headers before the value"),
        )
}

pub(crate) fn run(arguments: &ArgMatches) -> Result<(), Failure> {
    let mut cluster = kafka::connect(arguments)?;
    let topic = cluster.topic(&text(arguments, "topic"), false).map_err(failure)?;
    let only = arguments.get_one::<i32>("partition").copied();
    let chosen =
        topic.partitions.iter().filter(|leader| only.is_none_or(|p| p == leader.partition));
    let mut cursors = Vec::new();
    for leader in chosen {
        cursors.push(start(&mut cluster, &topic, *leader, arguments)?);
    }
    if cursors.is_empty() {
        let what = format!("topic {} has no such partition", topic.name);
        return Err(Failure::new(Code::Usage, what));
    }
    let mut reader = Reader {
        cluster,
        topic,
        cursors,
        style: Style::of(arguments),
        left: arguments.get_one::<i64>("count").copied(),
        follow: arguments.get_flag("follow"),
    };
    reader.run()
}

/// Where one partition is read.
struct Cursor {
    leader: Leader,
    next: i64,
    /// The end when the command began; without `--follow` reading stops there.
    end: i64,
}

fn start(
    cluster: &mut Cluster,
    topic: &Topic,
    leader: Leader,
    arguments: &ArgMatches,
) -> Result<Cursor, Failure> {
    let end = offset_at(cluster, topic, leader, LATEST)?;
    let earliest = offset_at(cluster, topic, leader, EARLIEST)?;
    let next = if let Some(count) = arguments.get_one::<i64>("last") {
        (end - count).max(earliest)
    } else if let Some(since) = arguments.get_one::<i64>("since") {
        match offset_at(cluster, topic, leader, *since)? {
            -1 => end,
            found => found,
        }
    } else {
        match text(arguments, "from").as_str() {
            "earliest" => earliest,
            "latest" => end,
            given => given.parse().map_err(|_| {
                Failure::new(Code::Usage, format!("--from {given}: earliest, latest or an offset"))
            })?,
        }
    };
    Ok(Cursor { leader, next, end })
}

fn offset_at(
    cluster: &mut Cluster,
    topic: &Topic,
    leader: Leader,
    timestamp: i64,
) -> Result<i64, Failure> {
    let partition =
        ListOffsetsPartition { partition_index: leader.partition, timestamp, ..Default::default() };
    let asked = ListOffsetsTopic { name: topic.name.as_str().into(), partitions: vec![partition] };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![asked], ..Default::default() };
    let Response::ListOffsets(answer) = cluster.call_node(leader.node, request).map_err(failure)?
    else {
        return Err(unexpected());
    };
    let found = answer.topics.first().and_then(|topic| topic.partitions.first());
    let found = found.ok_or_else(unexpected)?;
    let what = || format!("offsets of {}[{}]", topic.name, leader.partition);
    ClientError::check(what, found.error_code, None).map_err(failure)?;
    Ok(found.offset)
}

struct Reader {
    cluster: Cluster,
    topic: Topic,
    cursors: Vec<Cursor>,
    style: Style,
    left: Option<i64>,
    follow: bool,
}

impl Reader {
    fn run(&mut self) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        loop {
            let mut ended = true;
            for at in 0..self.cursors.len() {
                let Some(cursor) = self.cursors.get(at) else { continue };
                if !self.follow && cursor.next >= cursor.end {
                    continue;
                }
                ended = false;
                let batches = self.fetch(at)?;
                if self.show(at, batches, &mut out)? == Flow::Enough {
                    return out.flush().map_err(output);
                }
            }
            out.flush().map_err(output)?;
            if ended {
                return Ok(());
            }
        }
    }

    fn fetch(&mut self, at: usize) -> Result<Bytes, Failure> {
        let cursor = self.cursors.get(at).ok_or_else(unexpected)?;
        let wait_ms = if self.cursors.len() > 1 { SHORT_WAIT_MS } else { LONG_WAIT_MS };
        fetch(&mut self.cluster, &self.topic, cursor.leader, cursor.next, wait_ms)
    }

    fn show(&mut self, at: usize, batches: Bytes, out: &mut impl Write) -> Result<Flow, Failure> {
        let damaged = |what: String| Failure::new(Code::Data, format!("a damaged batch: {what}"));
        let Some(cursor) = self.cursors.get_mut(at) else { return Ok(Flow::More) };
        for batch in split(batches) {
            // the last batch of an answer may be cut off: it comes again, whole
            let Ok(batch) = batch else { break };
            let records = Records::open(&batch).map_err(|error| damaged(error.to_string()))?;
            let after = records.header().next_offset().0;
            if !records.header().is_control() {
                for record in records.iter() {
                    let record = record.map_err(|error| damaged(error.to_string()))?;
                    if record.offset.0 < cursor.next {
                        continue; // the batch begins before the place that was asked for
                    }
                    if !self.follow && record.offset.0 >= cursor.end {
                        break;
                    }
                    if self.left == Some(0) {
                        return Ok(Flow::Enough);
                    }
                    self.style
                        .write(out, &self.topic.name, cursor.leader.partition, &record)
                        .map_err(output)?;
                    self.left = self.left.map(|left| left - 1);
                }
            }
            cursor.next = cursor.next.max(after);
        }
        Ok(if self.left == Some(0) { Flow::Enough } else { Flow::More })
    }
}

/// What is there of a partition from an offset on, without waiting.
pub(crate) fn fetch_once(
    cluster: &mut Cluster,
    topic: &Topic,
    partition: i32,
    from: i64,
) -> Result<Bytes, Failure> {
    let leader = topic.partitions.iter().find(|leader| leader.partition == partition);
    fetch(cluster, topic, *leader.ok_or_else(unexpected)?, from, 0)
}

fn fetch(
    cluster: &mut Cluster,
    topic: &Topic,
    leader: Leader,
    from: i64,
    wait_ms: i32,
) -> Result<Bytes, Failure> {
    let request = FetchRequest {
        replica_id: -1,
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: FETCH_BYTES,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: topic.name.as_str().into(),
            topic_id: topic.id,
            partitions: vec![FetchPartition {
                partition: leader.partition,
                fetch_offset: from,
                partition_max_bytes: FETCH_BYTES,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    let Response::Fetch(answer) = cluster.call_node(leader.node, request).map_err(failure)? else {
        return Err(unexpected());
    };
    let what = || format!("reading {}[{}]", topic.name, leader.partition);
    ClientError::check(what, answer.error_code, None).map_err(failure)?;
    let found = answer.responses.first().and_then(|topic| topic.partitions.first());
    let found = found.ok_or_else(unexpected)?;
    ClientError::check(what, found.error_code, None).map_err(failure)?;
    Ok(found.records.clone().unwrap_or_default().into_bytes())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    More,
    Enough,
}

#[derive(Clone, Copy)]
enum Style {
    Values,
    WithHeaders,
    Json,
}

impl Style {
    fn of(arguments: &ArgMatches) -> Self {
        if arguments.get_flag("json") {
            Self::Json
        } else if arguments.get_flag("headers") {
            Self::WithHeaders
        } else {
            Self::Values
        }
    }

    fn write(
        self,
        out: &mut impl Write,
        topic: &str,
        partition: i32,
        record: &Record<'_>,
    ) -> std::io::Result<()> {
        match self {
            Self::Values => out.write_all(record.value.unwrap_or_default())?,
            Self::WithHeaders => {
                let key = record.key.map(String::from_utf8_lossy).unwrap_or_default();
                let headers = record.headers.into_iter().map(|(name, value)| {
                    let value = value.map(String::from_utf8_lossy).unwrap_or_default();
                    format!("{}={value}", String::from_utf8_lossy(name))
                });
                let headers = headers.collect::<Vec<_>>().join(",");
                write!(out, "{key}\t{headers}\t")?;
                out.write_all(record.value.unwrap_or_default())?;
            }
            Self::Json => {
                let headers = record.headers.into_iter().map(|(name, value)| {
                    json!({"name": String::from_utf8_lossy(name), "value": shown(value)})
                });
                let line = json!({
                    "topic": topic,
                    "partition": partition,
                    "offset": record.offset.0,
                    "timestamp": record.timestamp_ms,
                    "key": shown(record.key),
                    "value": shown(record.value),
                    "headers": headers.collect::<Vec<_>>(),
                });
                write!(out, "{line}")?;
            }
        }
        out.write_all(b"\n")
    }
}

fn shown(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, |bytes| json!(String::from_utf8_lossy(bytes)))
}

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// Bytes of one answer.
const FETCH_BYTES: i32 = 8 << 20;
/// How long the broker may wait for records when one partition is read, in milliseconds.
const LONG_WAIT_MS: i32 = 500;
/// The same when others wait their turn.
const SHORT_WAIT_MS: i32 = 20;
