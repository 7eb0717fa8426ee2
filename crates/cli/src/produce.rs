//! `ottla produce`: lines of stdin become records, each acknowledged before the command ends.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal};

use bytes::Bytes;
use clap::{Arg, ArgMatches, Command};
use ottla_client::messages::ProduceRequest;
use ottla_client::messages::produce::{PartitionProduceData, TopicProduceData};
use ottla_client::{ClientError, Cluster, Response, Topic, partition_of};
use ottla_engine::Offset;
use ottla_engine::batch::{BatchBuilder, RecordDraft};
use ottla_engine::codec::Codec;
use serde_json::Value;

use crate::exit::{Code, Failure};
use crate::kafka::{self, failure, output, text, unexpected};

pub(crate) fn command() -> Command {
    Command::new("produce")
        .about("Writes lines of stdin as records")
        .arg(Arg::new("topic").required(true).value_name("TOPIC"))
        .arg(kafka::bootstrap())
        .arg(kafka::json().help(
            "each line is {\"key\":…, \"value\":…, \"headers\":{…}, \"partition\":N}; \
             value null is a tombstone",
        ))
        .arg(
            Arg::new("key-separator")
                .long("key-separator")
                .short('K')
                .value_name("TEXT")
                .help("what stands before it in a line is the key"),
        )
        .arg(
            Arg::new("partition")
                .long("partition")
                .short('p')
                .value_name("N")
                .value_parser(clap::value_parser!(i32).range(0..)),
        )
}

pub(crate) fn run(arguments: &ArgMatches) -> Result<(), Failure> {
    let mut cluster = kafka::connect(arguments)?;
    let topic = cluster.topic(&text(arguments, "topic"), true).map_err(failure)?;
    let mut producer = Producer::new(cluster, topic);
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input.read_until(b'\n', &mut line).map_err(output)?;
        if read == 0 {
            break;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        producer.push(parse(arguments, text)?)?;
    }
    producer.flush()?;
    if std::io::stderr().is_terminal() {
        eprintln!("{} records acknowledged", producer.acknowledged);
    }
    Ok(())
}

/// A record to be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

fn parse(arguments: &ArgMatches, line: &[u8]) -> Result<Outgoing, Failure> {
    let partition = arguments.get_one::<i32>("partition").copied();
    if arguments.get_flag("json") {
        return parse_json(line, partition);
    }
    let separator = text(arguments, "key-separator");
    let at = (!separator.is_empty())
        .then(|| line.windows(separator.len()).position(|part| part == separator.as_bytes()))
        .flatten();
    let (key, value) = match at {
        Some(at) => {
            let (key, rest) = line.split_at(at);
            (Some(key.to_vec()), rest.get(separator.len()..).unwrap_or_default().to_vec())
        }
        None => (None, line.to_vec()),
    };
    Ok(Outgoing { partition, key, value: Some(value), headers: Vec::new() })
}

fn parse_json(line: &[u8], partition: Option<i32>) -> Result<Outgoing, Failure> {
    let refused =
        |why: String| Failure::new(Code::Data, format!("a line that is no record: {why}"));
    let parsed: Value = serde_json::from_slice(line).map_err(|error| refused(error.to_string()))?;
    let bytes = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone().into_bytes()),
        other => Some(other.to_string().into_bytes()),
    };
    let object = parsed.as_object().ok_or_else(|| refused("it is not an object".to_owned()))?;
    let headers = object.get("headers").and_then(Value::as_object);
    let headers = headers.into_iter().flatten().map(|(name, value)| (name.clone(), bytes(value)));
    let named = object.get("partition").and_then(Value::as_i64);
    let named = named.and_then(|partition| i32::try_from(partition).ok());
    Ok(Outgoing {
        partition: named.or(partition),
        key: object.get("key").and_then(bytes),
        value: object.get("value").and_then(bytes),
        headers: headers.collect(),
    })
}

/// Gathers records and writes them in batches; `flush` returns once all are acknowledged.
pub(crate) struct Producer {
    cluster: Cluster,
    topic: Topic,
    pending: BTreeMap<i32, Vec<Outgoing>>,
    pending_bytes: usize,
    keyless: i32,
    pub(crate) acknowledged: usize,
}

impl Producer {
    pub(crate) fn new(cluster: Cluster, topic: Topic) -> Self {
        let pending = BTreeMap::new();
        Self { cluster, topic, pending, pending_bytes: 0, keyless: 0, acknowledged: 0 }
    }

    pub(crate) fn push(&mut self, record: Outgoing) -> Result<(), Failure> {
        let count = i32::try_from(self.topic.partitions.len()).unwrap_or(i32::MAX);
        let partition = match (&record.partition, &record.key) {
            (Some(partition), _) => *partition,
            (None, Some(key)) => partition_of(key, count),
            (None, None) => self.keyless % count.max(1),
        };
        let value_bytes = record.value.as_ref().map_or(0, Vec::len);
        self.pending_bytes += value_bytes + record.key.as_ref().map_or(0, Vec::len) + 64;
        self.pending.entry(partition).or_default().push(record);
        if self.pending_bytes >= BATCH_BYTES {
            self.keyless = self.keyless.wrapping_add(1) & i32::MAX; // the next batch elsewhere
            self.flush()?;
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.pending_bytes = 0;
        for (partition, records) in std::mem::take(&mut self.pending) {
            self.send(partition, &records)?;
            self.acknowledged += records.len();
        }
        Ok(())
    }

    fn send(&mut self, partition: i32, records: &[Outgoing]) -> Result<(), Failure> {
        let leader = self.topic.partitions.iter().find(|leader| leader.partition == partition);
        let Some(leader) = leader else {
            let name = &self.topic.name;
            let count = self.topic.partitions.len();
            let what =
                format!("topic {name} has {count} partitions and none is number {partition}");
            return Err(Failure::new(Code::Usage, what));
        };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: self.topic.name.as_str().into(),
                topic_id: self.topic.id,
                partition_data: vec![PartitionProduceData {
                    index: partition,
                    records: Some(batch(records)),
                }],
            }],
            ..Default::default()
        };
        let Response::Produce(answer) =
            self.cluster.call_node(leader.node, request).map_err(failure)?
        else {
            return Err(unexpected());
        };
        for result in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
            let what = || format!("writing to {}[{partition}]", self.topic.name);
            ClientError::check(what, result.error_code, result.error_message.as_deref())
                .map_err(failure)?;
        }
        Ok(())
    }
}

/// Records as one batch, stamped now.
pub(crate) fn batch(records: &[Outgoing]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for record in records {
        let headers: Vec<(&[u8], Option<&[u8]>)> = record
            .headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_deref()))
            .collect();
        builder.push(&RecordDraft {
            timestamp_ms: now_ms(),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        });
    }
    builder.build().to_bytes(Offset::ZERO)
}

fn now_ms() -> i64 {
    use ottla_engine::clock::{Clock, SystemClock};
    SystemClock::new().now().wall.0
}

/// Bytes gathered before they are written.
const BATCH_BYTES: usize = 512 << 10;
