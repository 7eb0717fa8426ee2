//! What clients tell of themselves (KIP-714): who was asked for which metrics, and what each told last.

mod otlp;
mod subscription;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ottla_engine::clock::{Monotonic, Now, Wall};
use ottla_engine::codec::{Codec, decompress};
use ottla_kafka_proto::{ErrorCode, Uuid};

pub use self::otlp::Sample;
pub(super) use self::subscription::{CHOICES, Choice, Subscription, Who, check};

/// What a client is, as far as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Software {
    /// As `apache-kafka-java`; empty if it does not say.
    pub name: String,
    /// As `4.3.1`.
    pub version: String,
}

/// One client that was asked for metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientMetrics {
    /// The id that this broker gave it.
    pub instance: Uuid,
    /// The client id of its connection.
    pub client_id: String,
    /// What it runs.
    pub software: Software,
    /// Where it connects from.
    pub address: SocketAddr,
    /// When it told last; `None` if it never did.
    pub told: Option<Wall>,
    /// What it told last, at most 500 numbers.
    pub samples: Vec<Sample>,
}

/// Every client that was asked, bounded: the one unheard of for longest makes room.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    clients: Mutex<HashMap<Uuid, Client>>,
}

#[derive(Debug)]
struct Client {
    shown: ClientMetrics,
    subscription: Subscription,
    asked: Option<Monotonic>,
    pushed: Option<Monotonic>,
    heard: Monotonic,
    /// Its last push was refused in a way that has it ask again at once.
    may_ask: bool,
    ended: bool,
}

/// A push.
#[derive(Clone, Copy, Debug)]
pub(super) struct Push<'a> {
    pub(super) instance: Uuid,
    pub(super) subscription: i32,
    pub(super) terminating: bool,
    pub(super) codec: i8,
    pub(super) metrics: &'a [u8],
}

impl Telemetry {
    /// A client asks what it shall tell. It is answered once an interval, and when a push of its was
    /// refused.
    pub(super) fn ask(
        &self,
        shown: ClientMetrics,
        subscription: &Subscription,
        now: Now,
    ) -> Result<(), ErrorCode> {
        let mut clients = self.lock();
        let now = now.monotonic;
        let instance = shown.instance;
        if !clients.contains_key(&instance) && clients.len() >= CLIENTS_MAX {
            let oldest = clients.iter().min_by_key(|(_, client)| client.heard).map(|(id, _)| *id);
            clients.retain(|id, _| Some(*id) != oldest);
        }
        let client = clients.entry(instance).or_insert_with(|| Client {
            shown,
            subscription: subscription.clone(),
            asked: None,
            pushed: None,
            heard: now,
            may_ask: true,
            ended: false,
        });
        let changed = client.subscription.id != subscription.id;
        if !client.may_ask && !changed && too_early(client.asked, client.interval(), now) {
            return Err(ErrorCode::THROTTLING_QUOTA_EXCEEDED);
        }
        client.subscription = subscription.clone();
        client.asked = Some(now);
        client.heard = now;
        client.may_ask = false;
        client.ended = false;
        Ok(())
    }

    /// A client tells what it was asked for.
    pub(super) fn push(
        &self,
        push: Push<'_>,
        current: &Subscription,
        now: Now,
    ) -> Result<Vec<Sample>, ErrorCode> {
        let mut clients = self.lock();
        let Some(client) = clients.get_mut(&push.instance) else {
            return Err(ErrorCode::UNKNOWN_SUBSCRIPTION_ID); // it asks again
        };
        client.heard = now.monotonic;
        if client.ended {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let early = too_early(client.pushed, client.interval(), now.monotonic);
        if early && !push.terminating {
            return Err(ErrorCode::THROTTLING_QUOTA_EXCEEDED);
        }
        client.ended = push.terminating;
        let judged = judged(push, current);
        match judged {
            Ok(samples) => {
                client.pushed = Some(now.monotonic);
                client.shown.told = Some(now.wall);
                client.shown.samples.clone_from(&samples);
                Ok(samples)
            }
            Err(code) => {
                client.may_ask = true;
                Err(code)
            }
        }
    }

    /// Who was asked and what they told last, those heard of last first.
    pub(crate) fn shown(&self) -> Vec<ClientMetrics> {
        let clients = self.lock();
        let mut all: Vec<&Client> = clients.values().collect();
        all.sort_by_key(|client| std::cmp::Reverse(client.heard));
        all.into_iter().map(|client| client.shown.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    fn interval(&self) -> u64 {
        self.subscription.interval_ms
    }
}

/// Clients spread their pushes: between half of the interval and one and a half (KIP-714).
fn too_early(last: Option<Monotonic>, interval_ms: u64, now: Monotonic) -> bool {
    last.is_some_and(|last| now.since(last) < interval_ms / 2)
}

fn judged(push: Push<'_>, current: &Subscription) -> Result<Vec<Sample>, ErrorCode> {
    if push.subscription != current.id {
        return Err(ErrorCode::UNKNOWN_SUBSCRIPTION_ID);
    }
    if push.metrics.len() > PUSH_BYTES_MAX {
        return Err(ErrorCode::TELEMETRY_TOO_LARGE);
    }
    let codec = Codec::of_attributes(push.codec.into()).filter(|_| (0..=4).contains(&push.codec));
    let codec = codec.ok_or(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE)?;
    let plain = decompress(codec, push.metrics, INFLATED_BYTES_MAX)
        .map_err(|_| ErrorCode::INVALID_RECORD)?;
    otlp::samples(&plain).ok_or(ErrorCode::INVALID_RECORD)
}

/// Bytes of one push (`telemetry.max.bytes`).
pub(super) const PUSH_BYTES_MAX: usize = 1 << 20;
/// What those may expand to.
const INFLATED_BYTES_MAX: usize = 8 << 20;
/// Clients that are remembered.
const CLIENTS_MAX: usize = 1000;

#[cfg(test)]
mod tests;
