//! Envelopes as Kafka records: CloudEvents attributes as headers.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::Message;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord};
use uuid::Uuid;

use super::{DUE, now_ms};
use crate::cloudevents::{self, Fallback};
use crate::envelope::Envelope;
use crate::mint::Timestamp;
use crate::transport::Parcel;

/// Hands a message to the producer, in order; waits only while its queue is full.
pub(super) async fn send(
    producer: &FutureProducer,
    topic: &str,
    parcel: &Parcel,
) -> Result<DeliveryFuture, KafkaError> {
    let envelope = &parcel.envelope;
    let mut headers = OwnedHeaders::new()
        .insert(Header { key: "content-type", value: Some(&*envelope.content_type) });
    if let Some(delay) = parcel.delay {
        let due = Timestamp(now_ms()).after(delay).0.to_string();
        headers = headers.insert(Header { key: DUE, value: Some(&due) });
    }
    cloudevents::binary(envelope, cloudevents::KAFKA, |name, value| {
        let told = std::mem::replace(&mut headers, OwnedHeaders::new());
        headers = told.insert(Header { key: name, value: Some(value) });
    });
    let mut record: FutureRecord<'_, str, [u8]> = FutureRecord::to(topic).headers(headers);
    record.key = envelope.key.as_deref();
    record.payload = (!envelope.is_tombstone()).then_some(&envelope.body);
    record.timestamp = i64::try_from(envelope.time.0).ok();
    loop {
        match producer.send_result(record) {
            Ok(delivery) => return Ok(delivery),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), full)) => {
                record = full;
                tokio::time::sleep(FULL).await;
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// A record as an envelope, and when it is due.
pub(super) fn envelope(record: &BorrowedMessage<'_>) -> (Envelope, Option<u64>) {
    let place = format!("{}/{}/{}", record.topic(), record.partition(), record.offset());
    let time = record.timestamp().to_millis().and_then(|ms| u64::try_from(ms).ok());
    let fallback = Fallback {
        id: Uuid::new_v5(&Uuid::NAMESPACE_URL, place.as_bytes()),
        time: Timestamp(time.unwrap_or(0)),
    };
    let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
    let headers = headers.filter_map(|header| {
        Some((header.key, Cow::from(std::str::from_utf8(header.value?).ok()?)))
    });
    let key = record.key().map(|key| String::from_utf8_lossy(key).into_owned());
    let body = record.payload().map(Bytes::copy_from_slice).unwrap_or_default();
    let mut envelope = cloudevents::read(headers, None, key, body, fallback);
    let due = envelope.headers.remove(DUE).and_then(|due| due.parse().ok());
    (envelope, due)
}

/// How long the producer is left alone when its queue is full.
const FULL: Duration = Duration::from_millis(5);
