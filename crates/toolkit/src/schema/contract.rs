//! The schemas of a service's messages, held against the registry before the service begins.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::shape::Trouble;
use super::{Codec, HEAD_BYTES, Level, MAGIC, Registered, Registry, Schema, split};
use crate::address::Address;
use crate::connection::Connection;
use crate::envelope::Envelope;
use crate::error::{Cause, Error, Result};
use crate::message::Message;
use crate::mint::Mint;

/// The schemas of a service's messages.
#[derive(Clone, Debug)]
pub struct Contracts {
    registry: Registry,
    registers: bool,
    contracts: BTreeMap<&'static str, (String, Schema)>,
}

impl Contracts {
    /// None yet.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self { registry: registry.clone(), registers: false, contracts: BTreeMap::new() }
    }

    /// Messages of this type look so, and their schema stands under this subject (for Confluent's clients
    /// `TOPIC-value`).
    #[must_use]
    pub fn of<M: Message>(mut self, subject: impl Into<String>, schema: Schema) -> Self {
        self.contracts.insert(M::NAME, (subject.into(), schema));
        self
    }

    /// What is new and compatible is registered. Otherwise only what is registered already is agreed upon.
    #[must_use]
    pub const fn registering(mut self) -> Self {
        self.registers = true;
        self
    }

    /// Holds each contract against the registry.
    ///
    /// # Errors
    /// [`Error::Schema`]: readers could not live with a change, the field is named; or a schema is not
    /// registered and nobody said that it should be. [`Error::Unreachable`], [`Error::Refused`].
    pub async fn agree(&self) -> Result<Agreed> {
        let mut contracts = BTreeMap::new();
        for (name, (subject, schema)) in &self.contracts {
            let codec = self.registry.understood(schema).await?;
            let id = self.id(subject, schema, &codec).await?;
            tracing::info!(message = name, subject, id, "schema agreed upon");
            contracts.insert(*name, Contract { id, codec });
        }
        let registry = self.registry.clone();
        Ok(Agreed { inner: Arc::new(Inner { registry, contracts }) })
    }

    async fn id(&self, subject: &str, schema: &Schema, codec: &Codec) -> Result<u32> {
        if let Some(known) = self.registry.lookup(subject, schema).await? {
            return Ok(known.id);
        }
        if let Some(latest) = self.registry.latest(subject).await? {
            self.compare(subject, schema, codec, &latest).await?;
        }
        if self.registers {
            return self.registry.register(subject, schema).await;
        }
        Err(Error::Schema {
            subject: subject.to_owned(),
            why: "it is not registered".to_owned(),
            hint: "It would be accepted: register it before this version is deployed, or let the service do it with \
                   Contracts::registering()"
                .to_owned(),
        })
    }

    /// Refuses what readers could not live with.
    async fn compare(
        &self,
        subject: &str,
        schema: &Schema,
        codec: &Codec,
        latest: &Registered,
    ) -> Result<()> {
        let level = self.registry.level(subject).await?;
        let (ours, theirs) =
            (codec.shape(), self.registry.understood(&latest.schema).await?.shape());
        let mut why = Vec::new();
        if matches!(level, Level::Backward | Level::Full) {
            why.extend(
                ours.cannot_read(&theirs).iter().map(|trouble| backward(trouble, latest.version)),
            );
        }
        if matches!(level, Level::Forward | Level::Full) {
            why.extend(
                theirs.cannot_read(&ours).iter().map(|trouble| forward(trouble, latest.version)),
            );
        }
        if why.is_empty() {
            why = self.registry.objections(subject, schema).await?;
        }
        if why.is_empty() {
            return Ok(());
        }
        why.dedup();
        Err(Error::Schema {
            subject: subject.to_owned(),
            why: why.join("; "),
            hint: format!(
                "Nothing was registered or published. Mend the schema, or give the new shape a name and a subject of its \
                 own beside the old one ({subject} allows {level:?} changes)"
            ),
        })
    }
}

/// The new reader and what version `version` wrote.
fn backward(trouble: &Trouble, version: u32) -> String {
    match trouble {
        Trouble::Missing(field) => format!(
            "field {field:?} is new and has no default, and messages of version {version} do not have it: give it a default"
        ),
        Trouble::Kind { field, read, written } => {
            format!(
                "field {field:?} was {written} in version {version} and is {read}: keep it and add another field beside it"
            )
        }
        Trouble::Symbol { field, symbol } => {
            format!(
                "{field:?} was {symbol} in messages of version {version} and cannot be any more: keep {symbol}"
            )
        }
    }
}

/// The reader of version `version` and what would be written now.
fn forward(trouble: &Trouble, version: u32) -> String {
    match trouble {
        Trouble::Missing(field) => {
            format!("field {field:?} is gone, and readers of version {version} need it: keep it")
        }
        Trouble::Kind { field, read, written } => {
            format!(
                "field {field:?} was {read} in version {version} and is {written}: keep it and add another field beside it"
            )
        }
        Trouble::Symbol { field, symbol } => {
            format!(
                "{field:?} may be {symbol}, which readers of version {version} do not know: let them know it first"
            )
        }
    }
}

/// Contracts that the registry agrees to: what writes and reads the bodies.
#[derive(Clone, Debug)]
pub struct Agreed {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    contracts: BTreeMap<&'static str, Contract>,
}

#[derive(Debug)]
struct Contract {
    id: u32,
    codec: Codec,
}

impl Agreed {
    /// The id of a message's schema.
    #[must_use]
    pub fn id<M: Message>(&self) -> Option<u32> {
        self.inner.contracts.get(M::NAME).map(|contract| contract.id)
    }

    /// A message with its body as its contract says; as JSON where it has none.
    ///
    /// # Errors
    /// [`Error::Encode`]; [`Error::Schema`] if the value is none of its own schema.
    pub fn envelope<M: Message>(&self, message: &M, mint: &Mint) -> Result<Envelope> {
        let mut envelope = Envelope::of(message, mint)?;
        if let Some(contract) = self.inner.contracts.get(M::NAME) {
            envelope.body = contract.body::<M>(message)?;
            envelope.content_type = CONTENT_TYPE.into();
        }
        Ok(envelope)
    }

    /// Publishes a message as its contract says. `Ok`: it is durable.
    ///
    /// # Errors
    /// As [`envelope`](Self::envelope) and [`Connection::send`].
    pub async fn publish<M: Message>(
        &self,
        connection: &Connection,
        to: impl Into<Address>,
        message: &M,
    ) -> Result<()> {
        let envelope = self.envelope(message, connection.mint())?;
        connection.send(to, [envelope]).await
    }

    /// Reads a message, whichever version of its schema it was written with. One without an id in front is
    /// read as JSON.
    ///
    /// # Errors
    /// [`Error::Decode`]: trying again does not help. [`Error::Unreachable`]: its schema is not known yet and
    /// the registry does not answer.
    pub async fn read<M: Message>(&self, envelope: &Envelope) -> Result<M> {
        let Some((id, body)) = split(&envelope.body) else { return envelope.decode() };
        let writer = self.inner.registry.codec(id).await?;
        let reader = self.inner.contracts.get(M::NAME).map(|contract| &contract.codec);
        let failed = |source: Cause| Error::Decode {
            name: M::NAME.to_owned(),
            version: envelope.version,
            source: format!("written with schema {id}: {source}").into(),
        };
        let value = writer.read(body, reader).map_err(failed)?;
        let plain = serde_json::to_vec(&value).map_err(|error| failed(error.into()))?;
        Envelope { body: plain.into(), ..envelope.clone() }.decode()
    }
}

impl Contract {
    fn body<M: Message>(&self, message: &M) -> Result<Bytes> {
        let encode =
            |error: serde_json::Error| Error::Encode { name: M::NAME, source: error.into() };
        let value: Value = serde_json::to_value(message).map_err(encode)?;
        let mut body = Vec::with_capacity(HEAD_BYTES);
        body.push(MAGIC);
        body.extend(self.id.to_be_bytes());
        self.codec.write(&value, &mut body).map_err(|error| Error::Schema {
            subject: format!("message {:?}", M::NAME),
            why: format!("a value does not fit its own schema: {error}"),
            hint: "It was not published. The Rust type and the schema say different things"
                .to_owned(),
        })?;
        Ok(body.into())
    }
}

/// A body with the id of its schema in front.
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1";
