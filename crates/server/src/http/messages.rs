//! Messages: published, taken, looked at.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ottla_engine::Lsn;
use ottla_engine::broker::{Broker, Channel, Got, Peeked, Publish};
use ottla_engine::queue::Outcome;
use serde_json::{Map, Value, json};

use super::api::{Answer, Call, need_keys, text};
use super::ask::Verb;
use super::problem::{Problem, Reply};
use super::{exchanges, properties};

/// `POST exchanges/…/publish`
pub(super) fn publish(call: &mut Call<'_>, vhost: &str, exchange: &str) -> Answer {
    if call.verb() != Verb::Post {
        return Err(Problem::method("POST, OPTIONS"));
    }
    let body = call.ask.object()?;
    need_keys(&body, &["properties", "routing_key", "payload", "payload_encoding"])?;
    let written = text(&body, "payload");
    let payload = match text(&body, "payload_encoding") {
        "string" => Bytes::copy_from_slice(written.as_bytes()),
        "base64" => match STANDARD.decode(written) {
            Ok(octets) => Bytes::from(octets),
            Err(_) => return Err(Problem::bad(json!(["not_base64", written]))),
        },
        other => return Err(Problem::bad(json!(["unsupported_encoding", other]))),
    };
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Problem::too_large(PAYLOAD_BYTES_MAX));
    }
    let properties = properties::read(body.get("properties").unwrap_or(&Value::Null))?;
    call.need_vhost(vhost)?;
    if exchanges::find(call, vhost, exchange).is_err() {
        return Err(Problem::not_found("exchange_not_found"));
    }
    let routing_key = text(&body, "routing_key");
    let publish = Publish { exchange, routing_key, properties, body: payload };
    let published = call.on_channel(vhost, |broker, channel| {
        broker.publish(channel, publish).map_err(Problem::from)
    })?;
    if let Some(lsn) = published.lsn {
        call.wait_for(lsn);
    }
    let mut told = json!({"routed": published.routed});
    if published.rejected
        && let Value::Object(fields) = &mut told
    {
        fields.insert("rejected".to_owned(), json!(true));
    }
    Ok(Reply::Json(told))
}

/// `POST queues/…/get`. With the mode `peek`, which RabbitMQ does not have, nothing changes at all.
pub(super) fn get(call: &mut Call<'_>, vhost: &str, queue: &str) -> Answer {
    if call.verb() != Verb::Post {
        return Err(Problem::method("POST, OPTIONS"));
    }
    let body = call.ask.object()?;
    need_keys(&body, &["count", "ackmode", "encoding"])?;
    let number = |name: &str| body.get(name).and_then(Value::as_u64);
    let count = number("count").ok_or_else(|| Problem::bad("count must be a whole number"))?;
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(COUNT_MAX);
    let skip = usize::try_from(number("skip").unwrap_or(0)).unwrap_or(usize::MAX);
    let shape = Shape::of(&body)?;
    let mode = text(&body, "ackmode").to_owned();
    if !MODES.contains(&mode.as_str()) {
        return Err(Problem::bad(format!("ackmode must be one of: {}", MODES.join(", "))));
    }
    call.need_vhost(vhost)?;
    if call.broker().queue_view(vhost, queue).is_none() {
        return Err(Problem::not_found("queue_not_found"));
    }
    let (messages, lsn) = call.on_channel(vhost, |broker, channel| match mode.as_str() {
        "peek" => {
            let peeked = broker.peek(channel, queue, skip, count)?;
            Ok((peeked.iter().map(|peeked| shape.peeked(peeked)).collect(), Lsn::ZERO))
        }
        mode => take(broker, channel, queue, count, mode, &shape),
    })?;
    call.wait_for(lsn);
    Ok(Reply::Json(Value::Array(messages)))
}

/// Takes messages and settles them as the mode says.
fn take(
    broker: &Broker,
    channel: &mut Channel,
    queue: &str,
    count: usize,
    mode: &str,
    shape: &Shape,
) -> Result<(Vec<Value>, Lsn), Problem> {
    let mut messages = Vec::new();
    let mut lsn = Lsn::ZERO;
    let mut held = Vec::new();
    let mut bytes = 0;
    for _ in 0..count {
        let Some(got) = broker.get(channel, queue, false)? else { break };
        bytes += got.body.len();
        held.extend(got.held);
        lsn = lsn.max(got.lsn);
        messages.push(shape.got(&got));
        if bytes > ANSWER_BYTES_MAX {
            break;
        }
    }
    let outcome = match mode {
        "ack_requeue_true" | "reject_requeue_true" => Outcome::Nack,
        "reject_requeue_false" => Outcome::Dead,
        _ => Outcome::Ack,
    };
    broker.settle(channel, &held, outcome);
    Ok((messages, lsn))
}

/// How bodies are shown.
#[derive(Clone, Copy, Debug)]
struct Shape {
    base64: bool,
    truncate: usize,
}

impl Shape {
    fn of(body: &Map<String, Value>) -> Result<Self, Problem> {
        let base64 = match text(body, "encoding") {
            "auto" => false,
            "base64" => true,
            other => return Err(Problem::bad(json!(["unsupported_encoding", other]))),
        };
        let truncate = body.get("truncate").and_then(Value::as_u64);
        let truncate = truncate.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        Ok(Self { base64, truncate })
    }

    fn payload(&self, body: &Bytes) -> (String, &'static str) {
        let shown = body.get(..self.truncate.min(body.len())).unwrap_or_default();
        match std::str::from_utf8(shown) {
            Ok(text) if !self.base64 => (text.to_owned(), "string"),
            _ => (STANDARD.encode(shown), "base64"),
        }
    }

    fn got(&self, got: &Got) -> Value {
        let (payload, encoding) = self.payload(&got.body);
        json!({
            "payload_bytes": got.body.len(),
            "redelivered": got.redelivered,
            "exchange": *got.exchange,
            "routing_key": *got.routing_key,
            "message_count": got.remaining,
            "properties": properties::shown(&got.properties),
            "payload": payload,
            "payload_encoding": encoding,
        })
    }

    fn peeked(&self, peeked: &Peeked) -> Value {
        let (payload, encoding) = self.payload(&peeked.body);
        json!({
            "payload_bytes": peeked.body.len(),
            "redelivered": peeked.redelivered,
            "delivery_count": peeked.delivery_count,
            "arrived_at": peeked.arrived.0,
            "expires_at": peeked.expires_at.map(|at| at.0),
            "exchange": *peeked.exchange,
            "routing_key": *peeked.routing_key,
            "properties": properties::shown(&peeked.properties),
            "payload": payload,
            "payload_encoding": encoding,
        })
    }
}

const MODES: [&str; 5] = [
    "ack_requeue_true",
    "ack_requeue_false",
    "reject_requeue_true",
    "reject_requeue_false",
    "peek",
];
/// Messages of one answer at most.
const COUNT_MAX: usize = 10_000;
/// Bytes of bodies after which an answer has enough.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Bytes of a message, as on AMQP.
const PAYLOAD_BYTES_MAX: usize = 16 << 20;
