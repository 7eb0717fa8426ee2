//! Envelopes as CloudEvents 1.0: attributes as headers (binary mode), or all of it as one JSON value
//! (structured mode). Both are read; binary is written unless asked otherwise, because bodies stay as they are.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::envelope::{Envelope, Headers, JSON};
use crate::error::{Error, Result};
use crate::mint::Timestamp;
use crate::trace::TraceContext;

/// The prefix of attributes among the headers of a Kafka record (Kafka binding §3.2.3).
pub const KAFKA: &str = "ce_";
/// The prefix of attributes among the headers of an AMQP message (AMQP binding §3.1.3.1).
pub const AMQP: &str = "cloudEvents_";
/// The content type of a structured event (JSON format §3).
pub const STRUCTURED: &str = "application/cloudevents+json";

/// What stands in for attributes that a foreign message does not have.
#[derive(Clone, Copy, Debug)]
pub struct Fallback {
    /// Made of the message's place, so that it is the same at each delivery.
    pub id: Uuid,
    /// When the broker got it.
    pub time: Timestamp,
}

/// Names each attribute and header of an envelope in binary mode, but for the content type. Of one that is
/// structured already, the headers alone.
pub fn binary(envelope: &Envelope, prefix: &str, mut put: impl FnMut(&str, &str)) {
    if !is_structured(envelope) {
        attributes(envelope, prefix, &mut put);
    }
    for (name, value) in &envelope.headers {
        put(name, value);
    }
}

fn attributes(envelope: &Envelope, prefix: &str, put: &mut impl FnMut(&str, &str)) {
    let mut name = String::with_capacity(NAME_GUESS);
    let mut attribute = |attribute: &str, value: &str| {
        name.clear();
        name.push_str(prefix);
        name.push_str(attribute);
        put(&name, value);
    };
    attribute("specversion", "1.0");
    attribute("id", envelope.id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    attribute("source", SOURCE);
    attribute("type", &envelope.name);
    attribute("time", &envelope.time.to_string());
    attribute("dataversion", &envelope.version.to_string());
    attribute("correlationid", &envelope.correlation.to_string());
    if let Some(causation) = envelope.causation {
        attribute("causationid", &causation.to_string());
    }
    if let Some(key) = &envelope.key {
        attribute("partitionkey", key);
    }
    if let Some(trace) = &envelope.trace {
        attribute("traceparent", &trace.to_string());
        if !trace.state.is_empty() {
            attribute("tracestate", &trace.state);
        }
    }
}

/// Whether a header can be an attribute of a structured event: lower-case letters and digits (CloudEvents 1.0
/// §3.1), and none that means something here.
fn is_attribute(name: &str) -> bool {
    let ours =
        ["specversion", "id", "source", "type", "time", "datacontenttype", "dataversion", "data"];
    let more = ["correlationid", "causationid", "partitionkey", "traceparent", "tracestate"];
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && !ours.contains(&name)
        && !more.contains(&name)
}

/// Reads what a broker handed out, whoever published it: binary, structured, or no CloudEvent at all.
pub fn read<'a>(
    headers: impl IntoIterator<Item = (&'a str, Cow<'a, str>)>,
    content_type: Option<&str>,
    key: Option<String>,
    body: Bytes,
    fallback: Fallback,
) -> Envelope {
    let mut envelope = Envelope {
        id: fallback.id,
        name: String::new(),
        version: 1,
        key,
        correlation: fallback.id,
        causation: None,
        trace: None,
        time: fallback.time,
        content_type: content_type_of(content_type.unwrap_or(JSON)),
        headers: Headers::new(),
        body,
    };
    let mut attributes = Attributes::default();
    for (name, value) in headers {
        match bare(name) {
            Some(attribute) => attributes.take(attribute, value, &mut envelope),
            None if name.eq_ignore_ascii_case("content-type") => {
                envelope.content_type = content_type_of(&value);
            }
            None => {
                envelope.headers.insert(name.to_owned(), value.into_owned());
            }
        }
    }
    if envelope.content_type.starts_with(STRUCTURED)
        && let Ok(Value::Object(event)) = serde_json::from_slice(&envelope.body)
    {
        attributes.take_structured(event, &mut envelope);
    }
    attributes.finish(&mut envelope);
    envelope
}

/// What is in an envelope's body if all of it is there; the envelope as it is otherwise.
pub(crate) fn opened(envelope: Envelope) -> Envelope {
    if !is_structured(&envelope) {
        return envelope;
    }
    let Envelope { id, time, key, content_type, headers, body, .. } = envelope;
    let headers = headers.iter().map(|(name, value)| (name.as_str(), Cow::from(value.as_str())));
    read(headers, Some(&content_type), key, body, Fallback { id, time })
}

/// An envelope in structured mode: all of it in the body, as one JSON value, for readers who want no headers.
/// Headers whose names no CloudEvents attribute can have stay headers. Whoever reads it with this crate gets
/// the envelope that it was; the members of a JSON body may come in another order, and its numbers are those
/// of 64 bits.
///
/// # Errors
/// [`Error::Encode`] if the body says that it is JSON and is not.
pub fn enclosed(envelope: &Envelope) -> Result<Envelope> {
    if is_structured(envelope) || envelope.is_tombstone() {
        return Ok(envelope.clone()); // a log forgets a key by an empty value
    }
    let mut outside = envelope.clone();
    outside.body = structured(envelope)?;
    outside.content_type = Cow::Borrowed(STRUCTURED);
    outside.headers.retain(|name, _| !is_attribute(name));
    Ok(outside)
}

fn is_structured(envelope: &Envelope) -> bool {
    envelope.content_type.starts_with(STRUCTURED)
}

/// An envelope as one JSON value. Headers that are no attributes of CloudEvents are left out.
///
/// # Errors
/// [`Error::Encode`] if the body says that it is JSON and is not.
pub fn structured(envelope: &Envelope) -> Result<Bytes> {
    let failed =
        |source: serde_json::Error| Error::Encode { name: "CloudEvent", source: source.into() };
    let mut event = Map::new();
    let mut put = |name: &str, value: &str| {
        event.insert(name.to_owned(), Value::from(value));
    };
    attributes(envelope, "", &mut put);
    let headers = envelope.headers.iter().filter(|(name, _)| is_attribute(name));
    headers.for_each(|(name, value)| put(name, value));
    event.insert("datacontenttype".to_owned(), Value::from(&*envelope.content_type));
    if envelope.content_type.ends_with("json") && !envelope.body.is_empty() {
        let data: Value = serde_json::from_slice(&envelope.body).map_err(failed)?;
        event.insert("data".to_owned(), data);
    } else if !envelope.body.is_empty() {
        event.insert("data_base64".to_owned(), Value::from(base64(&envelope.body)));
    }
    serde_json::to_vec(&event).map(Bytes::from).map_err(failed)
}

/// Attributes that need one another.
#[derive(Default)]
struct Attributes {
    id: Option<String>,
    source: String,
    correlation: Option<Uuid>,
    parent: Option<String>,
    state: Option<String>,
}

impl Attributes {
    fn take(&mut self, name: &str, value: Cow<'_, str>, envelope: &mut Envelope) {
        match name {
            "specversion" => {}
            "id" => self.id = Some(value.into_owned()),
            "source" => self.source = value.into_owned(),
            "type" => envelope.name = value.into_owned(),
            "time" => envelope.time = Timestamp::parse(&value).unwrap_or(envelope.time),
            "dataversion" => envelope.version = value.parse().unwrap_or(1),
            "datacontenttype" => envelope.content_type = content_type_of(&value),
            "correlationid" => self.correlation = Uuid::parse_str(&value).ok(),
            "causationid" => envelope.causation = Uuid::parse_str(&value).ok(),
            "partitionkey" => envelope.key = Some(value.into_owned()),
            "traceparent" => self.parent = Some(value.into_owned()),
            "tracestate" => self.state = Some(value.into_owned()),
            other => {
                envelope.headers.insert(other.to_owned(), value.into_owned());
            }
        }
    }

    fn take_structured(&mut self, event: Map<String, Value>, envelope: &mut Envelope) {
        envelope.content_type = Cow::Borrowed(JSON);
        envelope.body = Bytes::new();
        for (name, value) in event {
            match (name.as_str(), value) {
                ("data", Value::Null) => {}
                ("data", data) => envelope.body = Bytes::from(data.to_string()),
                ("data_base64", Value::String(text)) => {
                    envelope.body = unbase64(&text).map(Bytes::from).unwrap_or_default();
                }
                (name, Value::String(text)) => self.take(name, text.into(), envelope),
                (name, other) => self.take(name, other.to_string().into(), envelope),
            }
        }
    }

    /// An id that is no UUID becomes one, the same each time.
    fn finish(self, envelope: &mut Envelope) {
        if let Some(id) = self.id {
            envelope.id = Uuid::parse_str(&id).unwrap_or_else(|_| {
                Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{}#{id}", self.source).as_bytes())
            });
        }
        envelope.correlation = self.correlation.unwrap_or(envelope.id);
        envelope.trace = self.parent.and_then(|p| TraceContext::parse(&p, self.state.as_deref()));
    }
}

/// An attribute's name without its prefix; `None` if it is a header like others.
fn bare(name: &str) -> Option<&str> {
    PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))
}

fn content_type_of(text: &str) -> Cow<'static, str> {
    if text == JSON { Cow::Borrowed(JSON) } else { Cow::Owned(text.to_owned()) }
}

fn base64(bytes: &[u8]) -> String {
    let digit = |bits: u32| {
        let index = usize::try_from(bits & 0x3f).unwrap_or(0);
        DIGITS.get(index).map_or('=', |digit| char::from(*digit))
    };
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0, |bits: u32, byte| (bits << 8) | u32::from(*byte));
        let bits = bits << (8 * (3 - u32::try_from(chunk.len()).unwrap_or(3)));
        for place in 0..4 {
            let used = place <= chunk.len();
            let shift = 18 - 6 * u32::try_from(place).unwrap_or(0);
            text.push(if used { digit(bits >> shift) } else { '=' });
        }
    }
    text
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count): (u32, u32) = (0, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = DIGITS.iter().position(|digit| *digit == byte)?;
        bits = (bits << 6) | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

const PREFIXES: [&str; 4] = [KAFKA, AMQP, "cloudEvents:", "ce-"];
/// The required attribute `source`, of a message that has none of its own.
const SOURCE: &str = "/ottla";
const NAME_GUESS: usize = 32;
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mint::Mint;

    const FALLBACK: Fallback = Fallback { id: Uuid::nil(), time: Timestamp(5) };

    fn envelope() -> Envelope {
        let mint = Mint::system();
        let cause = Envelope::raw("order.placed", "{}", &mint);
        let cause = Envelope { trace: Some(TraceContext::begin(&mint)), ..cause };
        let envelope = Envelope::raw("order.paid", r#"{"cents":5}"#, &mint);
        let envelope = envelope.caused_by(&cause, &mint).with_key("o-1").with_header("tenant", "a");
        Envelope { version: 3, ..envelope }
    }

    #[test]
    fn an_envelope_comes_back_from_both_modes_and_both_brokers() {
        let sent = envelope();
        for prefix in [KAFKA, AMQP] {
            let mut headers = Vec::new();
            binary(&sent, prefix, |name, value| headers.push((name.to_owned(), value.to_owned())));
            let headers = headers.iter().map(|(n, v)| (n.as_str(), Cow::from(v.as_str())));
            let read = read(headers, Some(JSON), None, sent.body.clone(), FALLBACK);
            assert_eq!(read, sent);
        }
        let body = structured(&sent).unwrap();
        assert_eq!(read([], Some(STRUCTURED), None, body, FALLBACK), sent);
    }

    #[test]
    fn a_structured_envelope_has_its_odd_headers_outside_and_comes_back_whole() {
        let sent = envelope().with_header("ottla-attempt", "2");
        let structured = enclosed(&sent).unwrap();
        assert_eq!((structured.key.as_deref(), structured.id), (Some("o-1"), sent.id));
        let mut headers = Vec::new();
        binary(&structured, KAFKA, |name, value| headers.push((name.to_owned(), value.to_owned())));
        assert_eq!(headers, [("ottla-attempt".to_owned(), "2".to_owned())], "no attribute twice");
        let event: Value = serde_json::from_slice(&structured.body).unwrap();
        assert_eq!((&event["type"], &event["data"]["cents"]), (&"order.paid".into(), &5.into()));
        assert_eq!((&event["tenant"], &event["ottla-attempt"]), (&"a".into(), &Value::Null));
        assert_eq!(enclosed(&structured).unwrap(), structured, "once is enough");
        assert_eq!(opened(structured), sent);
        assert_eq!(opened(sent.clone()), sent);
    }

    #[test]
    fn bytes_travel_in_a_structured_event() {
        for length in 0..6 {
            let body: Vec<u8> =
                (250..250 + length).map(|n: u32| u8::try_from(n % 256).unwrap()).collect();
            let sent = Envelope { content_type: "image/png".into(), ..envelope() };
            let sent = Envelope { body: body.into(), ..sent };
            let event = structured(&sent).unwrap();
            assert_eq!(read([], Some(STRUCTURED), None, event, FALLBACK).body, sent.body);
        }
    }

    #[test]
    fn the_example_of_the_specification_is_understood() {
        // CloudEvents 1.0.2, JSON format §3.2
        let body = r#"{ "specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext",
            "id": "A234-1234-1234", "time": "2018-04-05T17:31:00Z", "comexampleothervalue": 5,
            "datacontenttype": "application/json", "data": { "much": "wow" } }"#;
        let event = read(
            [],
            Some("application/cloudevents+json; charset=utf-8"),
            None,
            body.into(),
            FALLBACK,
        );
        assert_eq!(event.name, "com.example.someevent");
        assert_eq!(event.body, r#"{"much":"wow"}"#);
        assert_eq!(event.time.to_string(), "2018-04-05T17:31:00.000Z");
        assert_eq!(event.headers["comexampleothervalue"], "5");
        let again = read([], Some(STRUCTURED), None, body.into(), FALLBACK);
        assert_eq!(again.id, event.id, "an id that is no UUID becomes the same UUID each time");
    }

    #[test]
    fn a_foreign_message_has_the_id_of_its_place() {
        let headers = [("color", Cow::from("red"))];
        let read = read(headers, None, Some("k".into()), "x".into(), FALLBACK);
        assert_eq!((read.id, read.time, read.name.as_str()), (FALLBACK.id, FALLBACK.time, ""));
        assert_eq!((read.key.as_deref(), read.headers["color"].as_str()), (Some("k"), "red"));
    }
}
