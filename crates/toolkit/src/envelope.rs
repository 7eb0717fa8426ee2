//! A message on its way: the body, and what everybody may know of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::message::Message;
use crate::mint::{Mint, Timestamp};
use crate::trace::TraceContext;

/// What travels beside the body and has no field of its own.
pub type Headers = BTreeMap<String, String>;

/// A message with its id, its story and its body.
///
/// ```
/// # use ottla::{Envelope, Message, Mint};
/// # #[derive(serde::Serialize, serde::Deserialize, Message)]
/// # #[message(name = "order.paid", key = "order")]
/// # struct Paid { order: String }
/// # #[derive(serde::Serialize, serde::Deserialize, Message)]
/// # #[message(name = "parcel.sent", key = "order")]
/// # struct Sent { order: String }
/// let mint = Mint::system();
/// let paid = Envelope::of(&Paid { order: "o-1".into() }, &mint)?;
/// let sent = Envelope::of(&Sent { order: "o-1".into() }, &mint)?.caused_by(&paid, &mint);
/// assert_eq!((sent.correlation, sent.causation), (paid.correlation, Some(paid.id)));
/// assert_eq!(sent.decode::<Sent>()?.order, "o-1");
/// # Ok::<(), ottla::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Unique; a UUIDv7. What an inbox recognises a duplicate by: it survives retries, dead letters, redrives.
    pub id: Uuid,
    /// The message's name; empty if a foreign producer did not say.
    pub name: String,
    /// Of the message's shape.
    pub version: u16,
    /// What keeps its order.
    pub key: Option<String>,
    /// The id of the first message of the story this one belongs to.
    pub correlation: Uuid,
    /// The id of the message that brought this one about.
    pub causation: Option<Uuid>,
    /// The trace it belongs to.
    pub trace: Option<TraceContext>,
    /// When it was made.
    pub time: Timestamp,
    /// Of the body.
    pub content_type: Cow<'static, str>,
    /// Anything else.
    pub headers: Headers,
    /// The message; empty for a tombstone.
    pub body: Bytes,
}

impl Envelope {
    /// A message that begins a story.
    ///
    /// # Errors
    /// [`Error::Encode`] if the value has no JSON form.
    pub fn of<M: Message>(message: &M, mint: &Mint) -> Result<Self> {
        let body = serde_json::to_vec(message)
            .map_err(|error| Error::Encode { name: M::NAME, source: error.into() })?;
        let mut envelope = Self::raw(M::NAME, body, mint);
        envelope.version = M::VERSION;
        envelope.key = message.key().map(Cow::into_owned);
        Ok(envelope)
    }

    /// A body that is no [`Message`] of ours.
    pub fn raw(name: impl Into<String>, body: impl Into<Bytes>, mint: &Mint) -> Self {
        let id = mint.id();
        Self {
            id,
            name: name.into(),
            version: 1,
            key: None,
            correlation: id,
            causation: None,
            trace: None,
            time: mint.now(),
            content_type: Cow::Borrowed(JSON),
            headers: Headers::new(),
            body: body.into(),
        }
    }

    /// Says that what had this key is gone.
    pub fn tombstone<M: Message>(key: impl Into<String>, mint: &Mint) -> Self {
        let envelope = Self::raw(M::NAME, Bytes::new(), mint);
        Self { version: M::VERSION, key: Some(key.into()), ..envelope }
    }

    /// Whether it says that what had this key is gone.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.body.is_empty()
    }

    /// The same as part of the story that `cause` belongs to.
    #[must_use]
    pub fn caused_by(mut self, cause: &Self, mint: &Mint) -> Self {
        self.correlation = cause.correlation;
        self.causation = Some(cause.id);
        self.trace = cause.trace.as_ref().map(|trace| trace.child(mint));
        self
    }

    /// The same with this key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// The body as a message: of that name (or of none), upcast if it is older.
    ///
    /// # Errors
    /// [`Error::Decode`]: trying again cannot help.
    pub fn decode<M: Message>(&self) -> Result<M> {
        let failed =
            |source| Error::Decode { name: self.name.clone(), version: self.version, source };
        if !self.name.is_empty() && self.name != M::NAME {
            return Err(failed(format!("a message {:?} was expected", M::NAME).into()));
        }
        if self.version >= M::VERSION {
            return serde_json::from_slice(&self.body).map_err(|error| failed(error.into()));
        }
        let old = serde_json::from_slice(&self.body).map_err(|error| failed(error.into()))?;
        serde_json::from_value(M::upcast(self.version, old)).map_err(|error| failed(error.into()))
    }
}

/// An envelope on its way to an address: what a handler emits, what an outbox keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub to: crate::address::Address,
    /// What.
    pub envelope: Envelope,
    /// How long it waits before anybody sees it.
    pub delay: Option<std::time::Duration>,
}

/// The content type of what [`Envelope::of`] writes.
pub(crate) const JSON: &str = "application/json";

/// As one value, for stores that keep it so.
impl Serialize for Envelope {
    fn serialize<S: serde::Serializer>(
        &self,
        serializer: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        Stored::of(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Self, D::Error> {
        Ok(Stored::deserialize(deserializer)?.into())
    }
}

/// An envelope as one value: for stores.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    id: Uuid,
    #[serde(default)]
    name: Cow<'a, str>,
    #[serde(default = "first_version")]
    version: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    correlation: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    causation: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracestate: Option<Cow<'a, str>>,
    time: Timestamp,
    content_type: Cow<'a, str>,
    #[serde(default)]
    headers: Cow<'a, Headers>,
    body: Cow<'a, Bytes>,
}

impl<'a> Stored<'a> {
    fn of(envelope: &'a Envelope) -> Self {
        let trace = envelope.trace.as_ref();
        Self {
            id: envelope.id,
            name: Cow::Borrowed(&envelope.name),
            version: envelope.version,
            key: envelope.key.as_deref().map(Cow::Borrowed),
            correlation: envelope.correlation,
            causation: envelope.causation,
            traceparent: trace.map(ToString::to_string),
            tracestate: trace.map(|trace| Cow::Borrowed(trace.state.as_str())),
            time: envelope.time,
            content_type: Cow::Borrowed(&envelope.content_type),
            headers: Cow::Borrowed(&envelope.headers),
            body: Cow::Borrowed(&envelope.body),
        }
    }
}

impl From<Stored<'_>> for Envelope {
    fn from(stored: Stored<'_>) -> Self {
        let state = stored.tracestate.as_deref();
        Self {
            id: stored.id,
            name: stored.name.into_owned(),
            version: stored.version,
            key: stored.key.map(Cow::into_owned),
            correlation: stored.correlation,
            causation: stored.causation,
            trace: stored.traceparent.and_then(|parent| TraceContext::parse(&parent, state)),
            time: stored.time,
            content_type: match &*stored.content_type {
                JSON => Cow::Borrowed(JSON),
                other => Cow::Owned(other.to_owned()),
            },
            headers: stored.headers.into_owned(),
            body: stored.body.into_owned(),
        }
    }
}

const fn first_version() -> u16 {
    1
}
