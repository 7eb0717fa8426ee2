//! Apache Kafka, or Ottla over Kafka's protocol, by librdkafka: idempotent producer, manual commits, one
//! thread for each consumer.

mod consumer;
mod look;
mod wire;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, Producer};
use tokio::time::Instant;

use super::{BoxFuture, Caps, Parcel, RawFeed, Subscription, Transport};
use crate::address::Address;
use crate::envelope::Envelope;
use crate::error::{Error, Result};
use crate::mint::Mint;

/// A connection to brokers that speak Kafka's protocol.
pub struct Kafka {
    brokers: String,
    partitions: i32,
    /// Made again when it is broken for good.
    producer: Mutex<FutureProducer>,
    admin: AdminClient<DefaultClientContext>,
    /// Topics that are known to exist.
    known: Mutex<HashSet<String>>,
}

impl Kafka {
    /// Connects to `HOST:PORT`, or several with commas between them. Topics that do not exist get that
    /// many partitions.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if nobody answers.
    pub async fn open(brokers: &str, partitions: u32) -> Result<Self> {
        let producer = producer(brokers)?;
        let admin = config(brokers).create();
        let admin = admin.map_err(|error| Error::refused("setting up librdkafka", error))?;
        let asked = producer.clone();
        let answer = tokio::task::spawn_blocking(move || {
            asked.client().fetch_metadata(Some("ottla-is-anybody-there"), ANSWER_MAX).map(|_| ())
        });
        let answered = answer.await.map_err(|_| Error::Closed("the runtime"))?;
        answered.map_err(|error| unreachable(brokers, error))?;
        Ok(Self {
            brokers: brokers.to_owned(),
            partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
            producer: Mutex::new(producer),
            admin,
            known: Mutex::default(),
        })
    }

    async fn ensure(&self, topic: &str, partitions: i32) -> Result<()> {
        if self.known().contains(topic) {
            return Ok(());
        }
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1)); // the brokers' default
        let options = AdminOptions::new().operation_timeout(Some(ANSWER_MAX));
        let made = self.admin.create_topics([&new], &options).await;
        for result in made.map_err(|error| unreachable(&self.brokers, error))? {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) if is_passing(code) => {
                    return Err(unreachable(&self.brokers, KafkaError::AdminOp(code)));
                }
                Err((topic, code)) => {
                    return Err(Error::refused(format!("creating topic {topic}"), code));
                }
            }
        }
        self.known().insert(topic.to_owned());
        Ok(())
    }

    async fn publish_all(&self, to: &Address, batch: Vec<Parcel>) -> Result<()> {
        self.ensure(to.name(), self.partitions).await?;
        if batch.iter().any(|parcel| parcel.delay.is_some()) {
            self.ensure(&later(to.name()), LATER_PARTITIONS).await?;
        }
        let producer = self.producer().clone();
        let mut waiting = Vec::with_capacity(batch.len());
        for parcel in &batch {
            let name = if parcel.delay.is_some() { later(to.name()) } else { to.name().to_owned() };
            let sent = wire::send(&producer, &name, parcel).await;
            waiting.push(sent.map_err(|error| self.not_published(&producer, to, error))?);
        }
        for delivery in waiting {
            let delivered = delivery.await.map_err(|_| Error::Closed("the producer"))?;
            delivered.map_err(|(error, _)| self.not_published(&producer, to, error))?;
        }
        Ok(())
    }

    fn producer(&self) -> MutexGuard<'_, FutureProducer> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, HashSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it means that something was not published, so that trying again may help where it says so.
    fn not_published(&self, used: &FutureProducer, to: &Address, error: KafkaError) -> Error {
        use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
        let code = error.rdkafka_error_code();
        if matches!(code, Some(UnknownTopic | UnknownPartition | UnknownTopicOrPartition)) {
            let (name, later) = (to.name(), later(to.name()));
            self.known().retain(|known| *known != name && *known != later); // deleted: made again
        }
        if used.client().fatal_error().is_some() {
            tracing::warn!(%error, "the producer is broken: another takes its place");
            let mut producer = self.producer();
            let same = producer.client().native_ptr() == used.client().native_ptr();
            if let Ok(new) = self::producer(&self.brokers)
                && same
            {
                *producer = new;
            }
        }
        failed(&self.brokers, || format!("publishing to {to}"), error)
    }

    async fn begin(&self, to: &Subscription) -> Result<RawFeed> {
        let topic = to.source.name();
        self.ensure(topic, self.partitions).await?;
        let group = match (&to.source, &to.group) {
            (Address::Queue(queue), _) => Some(queue.clone()),
            (Address::Topic(_), group) => group.clone(),
        };
        let later = match to.source.is_queue() {
            true => {
                self.ensure(&later(topic), LATER_PARTITIONS).await?;
                Some(later(topic))
            }
            false => None,
        };
        consumer::begin(&self.brokers, topic, later, group, to.max_in_flight)
    }
}

impl Kafka {
    /// Asks about an address and a group, on a thread that may block.
    async fn asked<T: Send + 'static>(
        &self,
        at: &Address,
        group: &str,
        ask: impl FnOnce(&look::Place) -> std::result::Result<T, KafkaError> + Send + 'static,
    ) -> Result<T> {
        let group = if at.is_queue() { at.name() } else { group };
        let (brokers, topic) = (self.brokers.clone(), at.name().to_owned());
        let place = look::Place { brokers, topic, group: group.to_owned() };
        let told = tokio::task::spawn_blocking(move || ask(&place)).await;
        let told = told.map_err(|_| Error::Closed("the runtime"))?;
        told.map_err(|error| failed(&self.brokers, || format!("looking at {at}"), error))
    }
}

impl Transport for Kafka {
    fn caps(&self) -> Caps {
        Caps {
            keyed_order: true,
            replay: true,
            redelivery_count: false,
            durable: true,
            selective_ack: false,
        }
    }

    fn publish<'a>(&'a self, to: &'a Address, batch: Vec<Parcel>) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.publish_all(to, batch))
    }

    fn subscribe<'a>(&'a self, to: &'a Subscription) -> BoxFuture<'a, Result<RawFeed>> {
        Box::pin(self.begin(to))
    }

    fn depth<'a>(&'a self, at: &'a Address, group: &'a str) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move { self.asked(at, group, look::depth).await })
    }

    fn look<'a>(
        &'a self,
        at: &'a Address,
        group: &'a str,
        max: u32,
    ) -> BoxFuture<'a, Result<Option<Vec<Envelope>>>> {
        Box::pin(async move {
            let max = usize::try_from(max).unwrap_or(usize::MAX);
            let found = move |place: &look::Place| look::look(place, max);
            self.asked(at, group, found).await.map(Some)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let producer = self.producer().clone();
            let flushed = tokio::task::spawn_blocking(move || producer.flush(ANSWER_MAX)).await;
            flushed
                .map_err(|_| Error::Closed("the runtime"))?
                .map_err(|error| unreachable(&self.brokers, error))
        })
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("client.id", "ottla");
    config.set("allow.auto.create.topics", "false");
    config
}

fn producer(brokers: &str) -> Result<FutureProducer> {
    let made = config(brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("partitioner", "murmur2_random") // as Kafka's own clients
        .set("linger.ms", "0")
        .create();
    made.map_err(|error| Error::refused("setting up librdkafka", error))
}

/// What was refused for good as such; everything else as a broker that may answer later.
fn failed(brokers: &str, doing: impl FnOnce() -> String, error: KafkaError) -> Error {
    match error.rdkafka_error_code() {
        Some(code) if is_permanent(code) => Error::refused(doing(), error),
        _ => unreachable(brokers, error),
    }
}

/// Whether the same again gets the same answer, whoever leads the partition.
const fn is_permanent(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidTopic
            | Code::InvalidGroupId
            | Code::InvalidTimestamp
            | Code::InvalidRecord
            | Code::InvalidRequiredAcks
            | Code::PolicyViolation
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::UnsupportedVersion
            | Code::UnsupportedForMessageFormat
            | Code::UnsupportedCompressionType
            | Code::GroupMaxSizeReached
            | Code::InconsistentGroupProtocol
    )
}

/// Answers of a controller that is not there yet, or no more.
const fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::NotController
            | Code::RequestTimedOut
            | Code::OperationTimedOut
            | Code::BrokerNotAvailable
            | Code::BrokerTransportFailure
            | Code::NetworkException
            | Code::ThrottlingQuotaExceeded
    )
}

/// Asks again while a partition that was just made has no leader yet, or its leader does not know it.
fn patiently<T>(mut ask: impl FnMut() -> KafkaResult<T>) -> KafkaResult<T> {
    use RDKafkaErrorCode as Code;
    let deadline = Instant::now() + ANSWER_MAX;
    loop {
        let told = ask();
        let code = told.as_ref().err().and_then(KafkaError::rdkafka_error_code);
        let passing = matches!(
            code,
            Some(
                Code::NotLeaderForPartition
                    | Code::LeaderNotAvailable
                    | Code::UnknownTopicOrPartition
                    | Code::UnknownPartition
            )
        );
        if !passing || Instant::now() > deadline {
            return told;
        }
        std::thread::park_timeout(AGAIN);
    }
}

fn unreachable(brokers: &str, error: KafkaError) -> Error {
    Error::Unreachable {
        address: format!("kafka://{brokers}"),
        source: Arc::new(error).into(),
        hint:
            "Is a broker running there, and does it advertise an address that this machine reaches?"
                .to_owned(),
    }
}

/// Where delayed messages of a queue wait.
fn later(queue: &str) -> String {
    format!("{queue}.later")
}

/// The machine's time: what is due is compared with it.
fn now_ms() -> u64 {
    Mint::system().now().0
}

/// The header that says when a delayed message is due, in ms since 1970.
const DUE: &str = "ottla-due";
/// Partitions for delayed messages.
const LATER_PARTITIONS: i32 = 1;
const ANSWER_MAX: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests;
