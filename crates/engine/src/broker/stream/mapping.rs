//! A message as a record and a record as a message: the table of docs/bridge.md, and nothing else.

use bytes::Bytes;
use ottla_store::batch::RecordDraft;
use ottla_store::records::Record;

use crate::broker::message::Message;
use crate::broker::properties::{Draft, Properties};
use crate::value::{Arguments, Value};

/// A message in a record's parts, without its body.
#[derive(Clone, Debug, Default)]
pub(super) struct Envelope {
    pub(super) key: Option<Vec<u8>>,
    pub(super) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The property `timestamp`, in ms since 1970.
    pub(super) timestamp_ms: Option<i64>,
}

/// A record in the words of AMQP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    /// Flags and fields as on the wire, with `x-stream-offset`.
    pub(super) properties: Bytes,
    pub(super) body: Bytes,
    /// The value of `x-stream-filter-value`.
    pub(super) filter_value: Option<Vec<u8>>,
}

impl Envelope {
    /// The envelope of a message.
    pub(super) fn of(message: &Message) -> Self {
        let routing_key = message.routing_key();
        let properties = Properties::parse(&message.properties);
        let table = properties.as_ref().map(Properties::headers).unwrap_or_default();
        let own_key = table.get(RECORD_KEY).and_then(octets);
        let mut headers = vec![header(EXCHANGE, message.exchange.as_bytes())];
        let key = match own_key {
            Some(key) => {
                headers.push(header(ROUTING_KEY, routing_key.as_bytes()));
                Some(key)
            }
            None => Some(routing_key.as_bytes().to_vec()).filter(|key| !key.is_empty()),
        };
        let Some(properties) = properties.filter(|_| message.properties.len() > FLAGS_BYTES) else {
            return Self { key, headers, timestamp_ms: None };
        };
        headers.push(header(PROPERTIES, &message.properties));
        headers.extend(properties.texts().map(|(name, text)| {
            let name = [PREFIX.as_bytes(), name.as_bytes()].concat();
            (name, Some(text.into_owned()))
        }));
        // readable copies for those who know no AMQP; the true ones stand in `amqp.properties`
        headers.extend(table.iter().filter(|(name, _)| *name != RECORD_KEY).filter_map(readable));
        let timestamp = properties.timestamp().and_then(|seconds| i64::try_from(seconds).ok());
        let timestamp_ms = timestamp.and_then(|seconds| seconds.checked_mul(1000));
        Self { key, headers, timestamp_ms }
    }

    /// The record's parts, borrowed.
    pub(super) fn headers(&self) -> Vec<(&[u8], Option<&[u8]>)> {
        self.headers.iter().map(|(name, value)| (&**name, value.as_deref())).collect()
    }

    /// The record with its body.
    pub(super) fn draft<'a>(
        &'a self,
        headers: &'a [(&'a [u8], Option<&'a [u8]>)],
        body: &'a [u8],
        timestamp_ms: i64,
    ) -> RecordDraft<'a> {
        RecordDraft { timestamp_ms, key: self.key.as_deref(), value: Some(body), headers }
    }
}

impl Letter {
    /// The message that a record is.
    pub(super) fn of(record: &Record<'_>) -> Self {
        let find = |wanted: &str| {
            let mut headers = record.headers;
            headers.find(|(name, _)| *name == wanted.as_bytes()).and_then(|(_, value)| value)
        };
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        let exchange = find(EXCHANGE).and_then(text).filter(|name| is_short(name));
        let key = record.key.and_then(text).filter(|key| is_short(key));
        let routing_key = find(ROUTING_KEY).and_then(text).filter(|key| is_short(key));
        let own = find(PROPERTIES).and_then(Properties::parse);
        let own = own.and_then(|own| own.sound_headers().map(|table| (own, table)));
        let (own, mut table) = match own {
            Some((own, table)) => (Some(own), table),
            None => (None, foreign_headers(record)),
        };
        let filter_value = table.get(FILTER_VALUE).and_then(octets);
        table.set(STREAM_OFFSET, Value::I64(record.offset.0));
        if let (None, None, Some(key)) = (&own, &key, record.key) {
            table.set(RECORD_KEY, Value::Bytes(key.to_vec()));
        }
        let properties = match own {
            Some(own) => own.with_headers(&table),
            None => foreign_properties(record, &table),
        };
        Self {
            exchange: exchange.unwrap_or_default(),
            routing_key: routing_key.or(key).unwrap_or_default(),
            properties,
            body: record.value.map(Bytes::copy_from_slice).unwrap_or_default(),
            filter_value,
        }
    }
}

/// The headers of a record that did not come through AMQP. Of two equal names the last counts.
fn foreign_headers(record: &Record<'_>) -> Arguments {
    let mut table = Arguments::new();
    for (name, value) in record.headers {
        let Some(name) = std::str::from_utf8(name).ok().filter(|name| is_short(name)) else {
            continue; // no name of a table
        };
        if name.starts_with(PREFIX) {
            continue;
        }
        let value = match value {
            None => Value::Void,
            Some(bytes) if std::str::from_utf8(bytes).is_ok() => Value::LongString(bytes.to_vec()),
            Some(bytes) => Value::Bytes(bytes.to_vec()),
        };
        table.set(name, value);
    }
    table
}

/// The properties of a record that did not come through AMQP.
fn foreign_properties(record: &Record<'_>, table: &Arguments) -> Bytes {
    let mut draft = Draft::persistent();
    for (name, value) in record.headers {
        let name = std::str::from_utf8(name).ok().and_then(|name| name.strip_prefix(PREFIX));
        if let (Some(name), Some(value)) = (name, value) {
            draft.text(name, value);
        }
    }
    draft.headers(table);
    if let Ok(ms) = u64::try_from(record.timestamp_ms) {
        draft.timestamp(ms / 1000);
    }
    draft.encode()
}

fn header(name: &str, value: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    (name.as_bytes().to_vec(), Some(value.to_vec()))
}

/// A header's value as text, unless it is nested.
fn readable((name, value): (&str, &Value)) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let text = match value {
        Value::LongString(octets) | Value::Bytes(octets) => {
            return Some((name.into(), Some(octets.clone())));
        }
        Value::Void => return Some((name.into(), None)),
        Value::Bool(flag) => flag.to_string(),
        Value::I8(n) => n.to_string(),
        Value::U8(n) => n.to_string(),
        Value::I16(n) => n.to_string(),
        Value::U16(n) => n.to_string(),
        Value::I32(n) => n.to_string(),
        Value::U32(n) => n.to_string(),
        Value::I64(n) => n.to_string(),
        Value::Timestamp(n) => n.to_string(),
        Value::F32(n) => n.to_string(),
        Value::F64(n) => n.to_string(),
        Value::Decimal { .. } | Value::Array(_) | Value::Table(_) => return None,
    };
    Some((name.into(), Some(text.into_bytes())))
}

fn octets(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::LongString(octets) | Value::Bytes(octets) => Some(octets.clone()),
        _ => None,
    }
}

fn is_short(name: &str) -> bool {
    name.len() <= usize::from(u8::MAX)
}

/// What all names of ours begin with.
const PREFIX: &str = "amqp.";
const EXCHANGE: &str = "amqp.exchange";
const ROUTING_KEY: &str = "amqp.routing-key";
/// Property flags and fields, verbatim.
const PROPERTIES: &str = "amqp.properties";
/// The AMQP header that says another record key than the routing key.
const RECORD_KEY: &str = "x-record-key";
const STREAM_OFFSET: &str = "x-stream-offset";
const FILTER_VALUE: &str = "x-stream-filter-value";
const FLAGS_BYTES: usize = 2;
