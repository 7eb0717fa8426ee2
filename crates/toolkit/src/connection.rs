//! One connection line to a broker, whichever it is.

mod delivery;
mod feed;
mod letter;

use std::fmt;
use std::sync::Arc;

use crate::address::Address;
use crate::cloudevents;
use crate::envelope::{Envelope, Outgoing};
use crate::error::{Error, Result};
use crate::message::Message;
use crate::mint::Mint;
use crate::transport::memory::Memory;
use crate::transport::{Caps, Parcel, Subscription, Transport};

pub use self::delivery::{Delivery, Settle};
pub use self::feed::{Feed, Incoming};
pub use self::letter::{ATTEMPT, Attempted, DeadLetter, Reason, dead_address, retry_address};
pub(crate) use self::letter::{UNPARK, ends_parking, redrives};

/// A connection to a broker. Cheap to clone; all clones are one connection.
///
/// | line | broker |
/// |---|---|
/// | `memory:` | in this process, gone with it |
/// | `ottla://embedded?data=DIR` | Ottla in this process, durable in `DIR` |
/// | `kafka://HOST:PORT` | Apache Kafka, or Ottla over Kafka's protocol |
/// | `amqp://USER:PASSWORD@HOST:PORT/VHOST` | RabbitMQ, or Ottla over AMQP 0-9-1 |
/// | `ottla://HOST:PORT` | a served Ottla, at its Kafka port |
///
/// With `?cloudevents=structured` at its end (`&` if there is a question mark already) a connection writes each
/// message as one JSON value ([`cloudevents::enclosed`]) instead of a body with headers. Both are always read.
///
/// ```
/// # use ottla::{Connection, Message};
/// # #[derive(serde::Serialize, serde::Deserialize, Message)]
/// # #[message(name = "order.paid", key = "order")]
/// # struct OrderPaid { order: String }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> ottla::Result<()> {
/// let connection = Connection::open("memory:").await?;
/// connection.publish("orders", &OrderPaid { order: "o-1".into() }).await?; // durable now
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    line: String,
    transport: Arc<dyn Transport>,
    mint: Mint,
    structured: bool,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Address`] for a line that cannot be meant, [`Error::Unreachable`] if nobody answers.
    pub async fn open(line: &str) -> Result<Self> {
        Self::open_with(line, Mint::system()).await
    }

    /// Connects, with time, ids and chance from elsewhere: for tests.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(line: &str, mint: Mint) -> Result<Self> {
        let (plain, structured) = mode(line)?;
        let transport = transport(&plain).await?;
        Ok(Self { inner: Arc::new(Inner { line: plain, transport, mint, structured }) })
    }

    /// Over a transport of your own.
    pub fn over(name: impl Into<String>, transport: Arc<dyn Transport>, mint: Mint) -> Self {
        let line = name.into();
        Self { inner: Arc::new(Inner { line, transport, mint, structured: false }) }
    }

    /// Publishes one message. `Ok`: it is durable.
    ///
    /// # Errors
    /// It may or may not have been published. Publishing it again makes another message: keep an
    /// [`Envelope`] and [`send`](Self::send) it again if that matters, or use an outbox.
    pub async fn publish<M: Message>(&self, to: impl Into<Address>, message: &M) -> Result<()> {
        let envelope = Envelope::of(message, &self.inner.mint)?;
        self.send(to, [envelope]).await
    }

    /// Publishes envelopes in order. `Ok`: all of them are durable.
    ///
    /// # Errors
    /// Any of them may have been published: send all of them again; their ids tell who reads them.
    pub async fn send(
        &self,
        to: impl Into<Address>,
        envelopes: impl IntoIterator<Item = Envelope>,
    ) -> Result<()> {
        let parcels = envelopes.into_iter().map(Parcel::from).collect();
        self.deliver(&to.into(), parcels).await
    }

    /// Publishes what handlers and outboxes gathered: in order for each address.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_all(&self, outgoing: impl IntoIterator<Item = Outgoing>) -> Result<()> {
        let mut by_address: Vec<(Address, Vec<Parcel>)> = Vec::new();
        for Outgoing { to, envelope, delay } in outgoing {
            let parcel = Parcel { envelope, delay };
            match by_address.iter_mut().find(|(address, _)| *address == to) {
                Some((_, parcels)) => parcels.push(parcel),
                None => by_address.push((to, vec![parcel])),
            }
        }
        for (to, parcels) in by_address {
            self.deliver(&to, parcels).await?;
        }
        Ok(())
    }

    pub(crate) async fn deliver(&self, to: &Address, mut parcels: Vec<Parcel>) -> Result<()> {
        to.check()?;
        if !to.is_queue() && parcels.iter().any(|parcel| parcel.delay.is_some()) {
            return Err(Error::Unsupported {
                what: format!("a delay on the way to topic {to}"),
                hint: "topics keep their order: delay on the way to a queue".to_owned(),
            });
        }
        if parcels.is_empty() {
            return Ok(());
        }
        if self.inner.structured {
            for parcel in &mut parcels {
                parcel.envelope = cloudevents::enclosed(&parcel.envelope)?;
            }
        }
        self.inner.transport.publish(to, parcels).await
    }

    /// Begins to read.
    ///
    /// # Errors
    /// A name that is none, a broker that cannot be reached or says no.
    pub async fn subscribe(&self, to: Subscription) -> Result<Feed> {
        to.source.check()?;
        Feed::open(self, to).await
    }

    /// Messages that the group has not settled: its lag, or the depth of the queue.
    ///
    /// # Errors
    /// The broker cannot be reached or does not know.
    pub async fn depth(&self, at: impl Into<Address>, group: &str) -> Result<u64> {
        self.inner.transport.depth(&at.into(), group).await
    }

    /// At most `max` of them, where they can be looked at without being taken.
    pub(crate) async fn look(
        &self,
        at: &Address,
        group: &str,
        max: u32,
    ) -> Result<Option<Vec<Envelope>>> {
        let found = self.inner.transport.look(at, group, max).await?;
        Ok(found.map(|found| found.into_iter().map(cloudevents::opened).collect()))
    }

    /// What the broker behind it can do.
    #[must_use]
    pub fn caps(&self) -> Caps {
        self.inner.transport.caps()
    }

    /// Where time, ids and chance come from.
    #[must_use]
    pub fn mint(&self) -> &Mint {
        &self.inner.mint
    }

    /// The transport under it.
    #[must_use]
    pub fn transport(&self) -> &dyn Transport {
        &*self.inner.transport
    }

    /// Syncs and leaves.
    ///
    /// # Errors
    /// What was published is durable all the same.
    pub async fn close(&self) -> Result<()> {
        self.inner.transport.close().await
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("transport", &self.inner.transport).finish()
    }
}

/// The line without its password.
impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = &self.inner.line;
        match (line.find("://"), line.rfind('@')) {
            (Some(scheme), Some(at)) if at > scheme => {
                let (head, tail) = (line.get(..scheme + 3), line.get(at + 1..));
                write!(f, "{}{}", head.unwrap_or_default(), tail.unwrap_or_default())
            }
            _ => f.write_str(line),
        }
    }
}

/// The line without what says how messages are written, and whether that is as one JSON value.
fn mode(line: &str) -> Result<(String, bool)> {
    let Some((place, options)) = line.split_once('?') else { return Ok((line.to_owned(), false)) };
    let ours = |option: &&str| option.starts_with("cloudevents=");
    let rest: Vec<&str> = options.split('&').filter(|option| !ours(option)).collect();
    let structured = match options.split('&').find(ours) {
        None | Some("cloudevents=binary") => false,
        Some("cloudevents=structured") => true,
        Some(_) => return Err(Error::address(line, "cloudevents is binary or structured")),
    };
    let mark = if rest.is_empty() { "" } else { "?" };
    Ok((format!("{place}{mark}{}", rest.join("&")), structured))
}

async fn transport(line: &str) -> Result<Arc<dyn Transport>> {
    let (scheme, rest) = line.split_once(':').ok_or_else(|| unknown(line))?;
    match scheme {
        #[cfg(not(feature = "kafka"))]
        "kafka" => Err(not_built(line, "kafka")),
        #[cfg(not(feature = "amqp"))]
        "amqp" | "amqps" => Err(not_built(line, "amqp")),
        #[cfg(feature = "kafka")]
        "kafka" => kafka(line, rest).await,
        #[cfg(feature = "kafka")]
        "ottla" if !rest.starts_with("//embedded") => kafka(line, rest).await,
        #[cfg(not(feature = "kafka"))]
        "ottla" if !rest.starts_with("//embedded") => Err(not_built(line, "kafka")),
        #[cfg(feature = "amqp")]
        "amqp" | "amqps" => Ok(Arc::new(crate::transport::amqp::Amqp::open(line).await?)),
        "memory" => {
            let partitions = option(rest, "partitions").unwrap_or(MEMORY_PARTITIONS.to_string());
            let partitions = partitions.parse().map_err(|_| {
                Error::address(line, "partitions is a number, as in memory:?partitions=8")
            })?;
            Ok(Arc::new(Memory::new(partitions)))
        }
        #[cfg(feature = "embedded")]
        "ottla" if rest.starts_with("//embedded") => embedded(line, rest).await,
        #[cfg(not(feature = "embedded"))]
        "ottla" => Err(not_built(line, "embedded")),
        "ottla+memory" => Ok(Arc::new(Memory::new(MEMORY_PARTITIONS))),
        _ => Err(unknown(line)),
    }
}

#[cfg(feature = "embedded")]
async fn embedded(line: &str, rest: &str) -> Result<Arc<dyn Transport>> {
    use crate::transport::embedded::{Embedded, Options};

    let data = option(rest, "data").filter(|data| !data.is_empty()).ok_or_else(|| {
        Error::address(line, "say where it keeps its files, as in ottla://embedded?data=./data")
    })?;
    let mut options = Options::new(data);
    if let Some(partitions) = option(rest, "partitions") {
        options.partitions =
            partitions.parse().map_err(|_| Error::address(line, "partitions is a number"))?;
    }
    match option(rest, "durability").as_deref() {
        None | Some("sync") => {}
        Some("os") => options.sync = false,
        Some(_) => return Err(Error::address(line, "durability is sync or os")),
    }
    Ok(Arc::new(Embedded::open(&options).await?))
}

#[cfg(feature = "kafka")]
async fn kafka(line: &str, rest: &str) -> Result<Arc<dyn Transport>> {
    let brokers = rest.trim_start_matches("//").split(['?', '/']).next().unwrap_or_default();
    if brokers.is_empty() {
        return Err(Error::address(line, "say where a broker is, as in kafka://127.0.0.1:9092"));
    }
    let partitions = option(rest, "partitions").map_or(Ok(MEMORY_PARTITIONS), |text| text.parse());
    let partitions = partitions.map_err(|_| Error::address(line, "partitions is a number"))?;
    Ok(Arc::new(crate::transport::kafka::Kafka::open(brokers, partitions).await?))
}

/// A transport that was left out when this program was built.
#[cfg(not(all(feature = "embedded", feature = "kafka", feature = "amqp")))]
fn not_built(line: &str, feature: &str) -> Error {
    let hint = format!(
        "this program was built without it: add the feature \"{feature}\" of the crate ottla"
    );
    Error::address(line, hint)
}

/// `name=value` after the question mark.
fn option(rest: &str, name: &str) -> Option<String> {
    let (_, query) = rest.split_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

fn unknown(line: &str) -> Error {
    Error::address(
        line,
        "a connection line is memory: | ottla://embedded?data=DIR | kafka://HOST:PORT | amqp://USER:PASSWORD@HOST:PORT/VHOST",
    )
}

/// Partitions of a topic in memory unless the line says otherwise.
const MEMORY_PARTITIONS: u32 = 4;
