//! Envelopes as AMQP messages: CloudEvents attributes as headers.

use std::borrow::Cow;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use uuid::Uuid;

use crate::cloudevents::{self, Fallback};
use crate::envelope::Envelope;
use crate::mint::Timestamp;

pub(super) fn properties(envelope: &Envelope) -> BasicProperties {
    let mut headers = FieldTable::default();
    cloudevents::binary(envelope, cloudevents::AMQP, |name, value| {
        headers.insert(ShortString::from(name), AMQPValue::LongString(value.into()));
    });
    BasicProperties::default()
        .with_content_type(ShortString::from(&*envelope.content_type))
        .with_delivery_mode(2)
        .with_message_id(ShortString::from(envelope.id.to_string()))
        .with_headers(headers)
}

/// A foreign message without an id has that of its content and time: the place it had is gone when it
/// comes again.
pub(super) fn envelope(delivery: &Delivery) -> Envelope {
    let properties = &delivery.properties;
    let own = properties.message_id().as_ref().map(ToString::to_string);
    let time = properties.timestamp().unwrap_or_default();
    let id = own.as_deref().and_then(|id| Uuid::parse_str(id).ok()).unwrap_or_else(|| {
        let salt = format!("{}/{}/{time}", own.unwrap_or_default(), delivery.routing_key);
        let space = Uuid::new_v5(&Uuid::NAMESPACE_URL, salt.as_bytes());
        Uuid::new_v5(&space, &delivery.data)
    });
    let fallback = Fallback { id, time: Timestamp(time.saturating_mul(1_000)) };
    let headers: Vec<(String, String)> = properties
        .headers()
        .iter()
        .flat_map(|table| table.inner())
        .filter(|(name, _)| !name.as_str().starts_with("x-"))
        .filter_map(|(name, value)| Some((name.to_string(), shown(value)?)))
        .collect();
    let headers = headers.iter().map(|(name, value)| (name.as_str(), Cow::from(value.as_str())));
    let content_type = properties.content_type().as_ref().map(ToString::to_string);
    let body = Bytes::copy_from_slice(&delivery.data);
    cloudevents::read(headers, content_type.as_deref(), None, body, fallback)
}

fn shown(value: &AMQPValue) -> Option<String> {
    Some(match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(value) => value.to_string(),
        AMQPValue::ShortShortUInt(value) => value.to_string(),
        AMQPValue::ShortInt(value) => value.to_string(),
        AMQPValue::ShortUInt(value) => value.to_string(),
        AMQPValue::LongInt(value) => value.to_string(),
        AMQPValue::LongUInt(value) => value.to_string(),
        AMQPValue::LongLongInt(value) => value.to_string(),
        AMQPValue::Timestamp(value) => value.to_string(),
        _ => return None,
    })
}
