//! RabbitMQ, or Ottla over AMQP 0-9-1, by lapin: a fanout exchange for a topic, a quorum queue for each
//! group, publisher confirms, manual acknowledgements.

mod consumer;
mod wire;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Confirmation, ConnectionProperties, ErrorKind, ExchangeKind};

use super::{BoxFuture, Caps, Parcel, RawFeed, Subscription, Transport};
use crate::address::Address;
use crate::error::{Error, Result};

/// A connection to a broker that speaks AMQP 0-9-1, made again when it is lost.
pub struct Amqp {
    /// As it was given, with user and password.
    uri: String,
    line: String,
    /// `None` once it was closed.
    connection: tokio::sync::Mutex<Option<lapin::Connection>>,
    /// Publishes with confirms, in order.
    publishing: tokio::sync::Mutex<Channel>,
    /// What was declared already on the publishing channel.
    known: Mutex<HashSet<String>>,
}

impl Amqp {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if nobody answers, or refuses the login.
    pub async fn open(line: &str) -> Result<Self> {
        let connection = connect(line).await?;
        let publishing = confirming(&connection).await.map_err(|e| unreachable(line, e.into()))?;
        Ok(Self {
            uri: line.to_owned(),
            line: shown(line).to_owned(),
            connection: tokio::sync::Mutex::new(Some(connection)),
            publishing: tokio::sync::Mutex::new(publishing),
            known: Mutex::default(),
        })
    }

    /// What a failure means: a refusal that will not change, or a connection that can be made again.
    fn lost(&self, error: lapin::Error) -> Error {
        if let ErrorKind::ProtocolError(told) = error.kind()
            && PERMANENT.contains(&told.get_id())
        {
            return Error::refused(format!("what was asked of {}", self.line), error);
        }
        Error::Unreachable {
            address: self.line.clone(),
            source: error.into(),
            hint: "The broker closed the connection or the channel: connect again".to_owned(),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new channel, of a new connection if the one that was is gone. Whoever comes meanwhile waits for it.
    async fn channel(&self) -> Result<Channel> {
        let mut place = self.connection.lock().await;
        let connection = place.as_mut().ok_or(Error::Closed("the AMQP connection"))?;
        if !connection.status().connected() {
            *connection = connect(&self.uri).await?;
            tracing::info!(broker = self.line, "connected again");
        }
        connection.create_channel().await.map_err(|error| self.lost(error))
    }

    /// The channel to publish on, held so that nobody's messages come between; made again if it is gone.
    async fn publishing(&self) -> Result<tokio::sync::MutexGuard<'_, Channel>> {
        let mut publishing = self.publishing.lock().await;
        if !publishing.status().connected() {
            let channel = self.channel().await?;
            let confirms = channel.confirm_select(ConfirmSelectOptions::default()).await;
            confirms.map_err(|error| self.lost(error))?;
            self.known().clear(); // whoever took the channel away may have taken more
            *publishing = channel;
        }
        Ok(publishing)
    }

    async fn declare_topic(&self, channel: &Channel, topic: &str) -> Result<()> {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let declared = channel.exchange_declare(
            short(topic),
            ExchangeKind::Fanout,
            options,
            FieldTable::default(),
        );
        declared.await.map_err(|error| self.lost(error))
    }

    async fn declare_queue(&self, channel: &Channel, queue: &str) -> Result<()> {
        let mut arguments = FieldTable::default();
        arguments.insert(short("x-queue-type"), text("quorum"));
        arguments.insert(short("x-delivery-limit"), AMQPValue::LongInt(-1)); // attempts are counted here
        let declared = channel.queue_declare(short(queue), durable(), arguments).await;
        declared.map_err(|error| self.lost(error))?;
        Ok(())
    }

    /// A queue whose messages move on to `queue` after this long; gone a minute after its last use.
    async fn declare_delay(&self, channel: &Channel, queue: &str, ms: u32) -> Result<String> {
        let name = format!("{queue}.delay.{ms}");
        let mut arguments = FieldTable::default();
        let mut put = |name: &str, value| {
            arguments.insert(short(name), value);
        };
        put("x-queue-type", text("quorum"));
        put("x-message-ttl", AMQPValue::LongLongInt(ms.into()));
        put("x-expires", AMQPValue::LongLongInt(i64::from(ms) + DELAY_KEPT_MS));
        put("x-dead-letter-exchange", text(""));
        put("x-dead-letter-routing-key", text(queue));
        put("x-dead-letter-strategy", text("at-least-once"));
        put("x-overflow", text("reject-publish")); // what at-least-once asks for
        let declared = channel.queue_declare(short(&name), durable(), arguments).await;
        declared.map_err(|error| self.lost(error))?;
        Ok(name)
    }

    async fn publish_all(&self, to: &Address, batch: Vec<Parcel>) -> Result<()> {
        if batch.iter().any(|parcel| parcel.delay.is_some_and(|delay| delay > DELAY_MAX)) {
            return Err(Error::Unsupported {
                what: format!("a delay of more than 49 days on the way to {to}"),
                hint: "AMQP's queues count it in 32 bits of milliseconds: keep it in a database"
                    .to_owned(),
            });
        }
        let channel = self.publishing().await?;
        if !self.known().contains(&to.to_string()) {
            match to {
                Address::Topic(topic) => self.declare_topic(&channel, topic).await?,
                Address::Queue(queue) => self.declare_queue(&channel, queue).await?,
            }
            self.known().insert(to.to_string());
        }
        let mut confirms = Vec::with_capacity(batch.len());
        for Parcel { envelope, delay } in batch {
            let (exchange, key) = match (to, delay) {
                (Address::Topic(topic), _) => (topic.clone(), String::new()),
                (Address::Queue(queue), None) => (String::new(), queue.clone()),
                (Address::Queue(queue), Some(delay)) => {
                    let delay = self.declare_delay(&channel, queue, rung(delay)).await?;
                    (String::new(), delay)
                }
            };
            let options = BasicPublishOptions { mandatory: to.is_queue(), ..Default::default() };
            let properties = wire::properties(&envelope);
            let sent = channel
                .basic_publish(short(&exchange), short(&key), options, &envelope.body, properties)
                .await;
            confirms.push(sent.map_err(|error| self.lost(error))?);
        }
        drop(channel);
        for confirm in confirms {
            match confirm.await.map_err(|error| self.lost(error))? {
                Confirmation::Ack(None) => {}
                Confirmation::Ack(Some(_)) => {
                    self.known().remove(&to.to_string()); // made again the next time
                    return Err(self.not_taken(to, "the queue was deleted"));
                }
                _ => return Err(self.not_taken(to, "basic.nack")),
            }
        }
        Ok(())
    }

    /// A queue that is full, or without its leader, may take it later.
    fn not_taken(&self, to: &Address, why: &str) -> Error {
        Error::Unreachable {
            address: self.line.clone(),
            source: format!("{to} did not take a message: {why}").into(),
            hint: "Is the queue at its limit, or the broker out of memory or disk?".to_owned(),
        }
    }

    async fn begin(&self, to: &Subscription) -> Result<RawFeed> {
        let channel = self.channel().await?;
        let queue = match (&to.source, &to.group) {
            (Address::Queue(queue), _) => {
                self.declare_queue(&channel, queue).await?;
                queue.clone()
            }
            (Address::Topic(topic), group) => {
                self.declare_topic(&channel, topic).await?;
                let queue = match group {
                    Some(group) => {
                        let queue = format!("{topic}.{group}");
                        self.declare_queue(&channel, &queue).await?;
                        queue
                    }
                    None => {
                        let own = QueueDeclareOptions { exclusive: true, ..Default::default() };
                        let made = channel.queue_declare(short(""), own, FieldTable::default());
                        made.await.map_err(|error| self.lost(error))?.name().to_string()
                    }
                };
                let bound = channel.queue_bind(
                    short(&queue),
                    short(topic),
                    short(""),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                );
                bound.await.map_err(|error| self.lost(error))?;
                queue
            }
        };
        let begun = consumer::begin(channel, &queue, to.max_in_flight, to.group.is_none());
        begun.await.map_err(|error| self.lost(error))
    }

    async fn ready(&self, queue: &str) -> Result<u64> {
        let channel = self.channel().await?; // of its own: a refusal closes it
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let looked = channel.queue_declare(short(queue), options, FieldTable::default()).await;
        let count = match looked {
            Ok(queue) => queue.message_count().into(),
            Err(error) if is_not_found(&error) => return Ok(0), // nobody has made it yet
            Err(error) => return Err(self.lost(error)),
        };
        channel.close(200, short("done")).await.map_err(|error| self.lost(error))?;
        Ok(count)
    }
}

impl Transport for Amqp {
    fn caps(&self) -> Caps {
        Caps {
            keyed_order: false,
            replay: false,
            redelivery_count: false,
            durable: true,
            selective_ack: true,
        }
    }

    fn publish<'a>(&'a self, to: &'a Address, batch: Vec<Parcel>) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.publish_all(to, batch))
    }

    fn subscribe<'a>(&'a self, to: &'a Subscription) -> BoxFuture<'a, Result<RawFeed>> {
        Box::pin(self.begin(to))
    }

    fn depth<'a>(&'a self, at: &'a Address, group: &'a str) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            match at {
                Address::Queue(queue) => self.ready(queue).await,
                Address::Topic(topic) => self.ready(&format!("{topic}.{group}")).await,
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let Some(connection) = self.connection.lock().await.take() else { return Ok(()) };
            let closed = connection.close(200, short("done")).await;
            closed.map_err(|error| self.lost(error))
        })
    }
}

impl fmt::Debug for Amqp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Amqp").field("line", &self.line).finish_non_exhaustive()
    }
}

async fn connect(line: &str) -> Result<lapin::Connection> {
    let uri = line.strip_suffix('/').unwrap_or(line); // no virtual host named is the default one
    let connecting = lapin::Connection::connect(uri, ConnectionProperties::default());
    let connected = tokio::time::timeout(CONNECT_MAX, connecting).await;
    connected
        .map_err(|_| unreachable(line, "no answer within 10 s".into()))?
        .map_err(|error| unreachable(line, error.into()))
}

async fn confirming(connection: &lapin::Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(told) if told.get_id() == NOT_FOUND)
}

fn unreachable(line: &str, source: crate::error::Cause) -> Error {
    Error::Unreachable {
        address: shown(line).to_owned(),
        source,
        hint: "Is the broker running there, and are user, password and virtual host right?"
            .to_owned(),
    }
}

/// Without user and password.
fn shown(line: &str) -> &str {
    line.rsplit_once('@').map_or(line, |(_, place)| place)
}

/// The next rung of a ladder of delays, four to the octave: at most a quarter later, and few queues.
fn rung(delay: Duration) -> u32 {
    let ms = u32::try_from(delay.as_millis()).unwrap_or(u32::MAX).max(4);
    let step = 1 << (ms.ilog2() - 2);
    ms.div_ceil(step).saturating_mul(step).min(DELAY_MAX_MS)
}

fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions { durable: true, ..Default::default() }
}

fn short(text: &str) -> ShortString {
    ShortString::from(text)
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// The reply code of AMQP 0-9-1 for what does not exist.
const NOT_FOUND: u16 = 404;
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long a queue for delays outlives its last message.
const DELAY_KEPT_MS: i64 = 60_000;
/// The longest delay: a queue's lifetime, which outlasts it, is a number of milliseconds below 2^32.
const DELAY_MAX_MS: u32 = u32::MAX - 60_000;
const DELAY_MAX: Duration = Duration::from_millis(DELAY_MAX_MS as u64);
/// Reply codes that the same again gets again: a body that is too large, no such virtual host, no permission, a queue
/// that is declared otherwise, what is not allowed, what is not there at all.
const PERMANENT: [u16; 6] = [311, 402, 403, 406, 530, 540];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_never_shortened_and_at_most_a_quarter_longer() {
        for ms in (0..5_000).chain([86_400_000, 100_000_000]) {
            let rung = u64::from(rung(Duration::from_millis(ms)));
            assert!(rung >= ms && rung <= ms + ms / 4 + 4, "{ms} became {rung}");
        }
    }

    #[test]
    fn the_longest_delay_fits_a_queue_that_outlasts_it() {
        for short in [0, 1, 1_000_000_000] {
            let ms = DELAY_MAX_MS - short;
            let rung = rung(Duration::from_millis(ms.into()));
            assert!(rung >= ms, "{ms} became {rung}");
            assert!(i64::from(rung) + DELAY_KEPT_MS <= u32::MAX.into(), "{ms} became {rung}");
        }
    }
}
