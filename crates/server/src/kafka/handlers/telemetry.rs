//! GetTelemetrySubscriptions and PushTelemetry (KIP-714): what clients are asked to tell of
//! themselves, and their telling it.

use ottla_kafka_proto::messages::get_telemetry_subscriptions::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
};
use ottla_kafka_proto::messages::push_telemetry::{PushTelemetryRequest, PushTelemetryResponse};
use ottla_kafka_proto::{ErrorCode, Uuid};

use super::Answer;
use crate::kafka::Peer;
use crate::kafka::telemetry::{ClientMetrics, PUSH_BYTES_MAX, Push, Software, Subscription, Who};

/// What this client shall tell, and how often.
pub(super) fn subscriptions(
    peer: &Peer,
    client_id: Option<&str>,
    request: &GetTelemetrySubscriptionsRequest,
) -> Answer {
    let engine = &peer.context.engine;
    let instance = match request.client_instance_id {
        Uuid::ZERO => Uuid(engine.draw_uuid()),
        given => given,
    };
    let software = peer.software.get().cloned().unwrap_or_default();
    let subscription = subscription(peer, instance, client_id, &software);
    let asked = ClientMetrics {
        instance,
        client_id: client_id.unwrap_or_default().to_owned(),
        software,
        address: peer.remote,
        told: None,
        samples: Vec::new(),
    };
    if let Err(error_code) = peer.context.telemetry.ask(asked, &subscription, engine.now()) {
        let refused = GetTelemetrySubscriptionsResponse { error_code, ..Default::default() };
        return Answer::now(refused);
    }
    let response = GetTelemetrySubscriptionsResponse {
        client_instance_id: instance,
        subscription_id: subscription.id,
        accepted_compression_types: vec![ZSTD, LZ4, GZIP, SNAPPY],
        push_interval_ms: i32::try_from(subscription.interval_ms).unwrap_or(i32::MAX),
        telemetry_max_bytes: i32::try_from(PUSH_BYTES_MAX).unwrap_or(i32::MAX),
        delta_temporality: true,
        requested_metrics: subscription.metrics.iter().map(|name| name.as_str().into()).collect(),
        ..Default::default()
    };
    Answer::at(engine.catalog().changed(), response)
}

/// A client tells.
pub(super) fn push(peer: &Peer, client_id: Option<&str>, request: &PushTelemetryRequest) -> Answer {
    let instance = request.client_instance_id;
    let push = Push {
        instance,
        subscription: request.subscription_id,
        terminating: request.terminating,
        codec: request.compression_type,
        metrics: &request.metrics,
    };
    let outcome = if instance.is_zero() {
        Err(ErrorCode::INVALID_REQUEST)
    } else {
        let software = peer.software.get().cloned().unwrap_or_default();
        let current = subscription(peer, instance, client_id, &software);
        let now = peer.context.engine.now();
        let pushed = || peer.context.telemetry.push(push, &current, now);
        match request.metrics.len() {
            0..=INLINE_BYTES_MAX => pushed(),
            _ => tokio::task::block_in_place(pushed),
        }
    };
    let error_code = match outcome {
        Ok(samples) => {
            let told: Vec<String> = samples
                .iter()
                .take(LOGGED_MAX)
                .map(|sample| format!("{}={}", sample.name, sample.value))
                .collect();
            tracing::info!(
                client_id, instance = %instance, remote = %peer.remote, numbers = samples.len(),
                told = told.join(" "), "client metrics"
            );
            ErrorCode::NONE
        }
        Err(code) => code,
    };
    Answer::now(PushTelemetryResponse { error_code, ..Default::default() })
}

fn subscription(
    peer: &Peer,
    instance: Uuid,
    client_id: Option<&str>,
    software: &Software,
) -> Subscription {
    let client_id = client_id.unwrap_or_default();
    let who = Who { instance, client_id, software, address: peer.remote };
    Subscription::of(peer.context.engine.catalog().client_metrics(), who)
}

const GZIP: i8 = 1;
const SNAPPY: i8 = 2;
const LZ4: i8 = 3;
const ZSTD: i8 = 4;
/// Larger pushes are unpacked off the runtime's workers.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// Numbers of one push that the log shows.
const LOGGED_MAX: usize = 20;
