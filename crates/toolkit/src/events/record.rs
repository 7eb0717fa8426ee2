//! An event before and after it is recorded, and the story it belongs to.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::db::{DbError, Row};
use crate::decider::{self, EventSet, Tag};
use crate::envelope::{Envelope, Headers};
use crate::error::Result;
use crate::mint::{Mint, Timestamp};
use crate::trace::TraceContext;

use super::Pos;

/// The story that new events belong to.
#[derive(Debug, Clone)]
pub struct Meta {
    /// The id of the first message of the story.
    pub correlation: Uuid,
    /// The id of the message that brings the events about.
    pub causation: Option<Uuid>,
    /// The trace.
    pub trace: Option<TraceContext>,
}

/// An event to be appended.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Its id, name, version, story and body.
    pub envelope: Envelope,
    /// What it belongs to besides its stream.
    pub tags: Vec<Tag>,
}

/// An event that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its place among all events.
    pub pos: Pos,
    /// Its stream; none where it has only tags.
    pub stream: Option<String>,
    /// Its number in its stream, from 1; 0 without a stream.
    pub version: u64,
    /// Its id, name, version, story and body; its time is that of the append, and never goes back in a stream.
    pub envelope: Envelope,
}

impl Meta {
    /// A story that begins here.
    #[must_use]
    pub fn begin(mint: &Mint) -> Self {
        Self { correlation: mint.id(), causation: None, trace: None }
    }

    /// The story of a message, which is the cause.
    #[must_use]
    pub fn caused_by(message: &Envelope) -> Self {
        Self {
            correlation: message.correlation,
            causation: Some(message.id),
            trace: message.trace.clone(),
        }
    }
}

impl NewEvent {
    /// An event of a set, as part of a story.
    ///
    /// # Errors
    /// [`Error::Encode`](crate::Error::Encode) where it has no JSON form, or no name.
    pub fn of<E: EventSet>(event: &E, story: &Meta, mint: &Mint) -> Result<Self> {
        let (name, body) = decider::write(event)?;
        let mut envelope = Envelope::raw(name, body, mint);
        envelope.version = E::VERSION;
        envelope.correlation = story.correlation;
        envelope.causation = story.causation;
        envelope.trace = story.trace.as_ref().map(|trace| trace.child(mint));
        Ok(Self { envelope, tags: event.tags() })
    }
}

impl Recorded {
    /// The event as one of a set, upcast if it is older; `None` if the set passes over its name.
    ///
    /// # Errors
    /// [`Error::Decode`](crate::Error::Decode).
    pub fn decode<E: EventSet>(&self) -> Result<Option<E>> {
        decider::read(&self.envelope.name, self.envelope.version, &self.envelope.body)
    }
}

/// What rarely is there, in one column.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Rest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracestate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    headers: Headers,
}

/// Trace, content type and headers as one JSON text; `None` where there is nothing to say.
pub(crate) fn pack(envelope: &Envelope) -> Option<String> {
    let trace = envelope.trace.as_ref();
    let plain = envelope.content_type == "application/json";
    if trace.is_none() && plain && envelope.headers.is_empty() {
        return None;
    }
    let rest = Rest {
        traceparent: trace.map(ToString::to_string),
        tracestate: trace.map(|trace| trace.state.clone()).filter(|state| !state.is_empty()),
        content_type: (!plain).then(|| envelope.content_type.clone().into_owned()),
        headers: envelope.headers.clone(),
    };
    serde_json::to_string(&rest).ok()
}

/// Puts back what [`pack`] took.
pub(crate) fn unpack(envelope: &mut Envelope, rest: Option<&str>) {
    let rest: Option<Rest> = rest.and_then(|text| serde_json::from_str(text).ok());
    let Some(rest) = rest else { return };
    let state = rest.tracestate.as_deref();
    envelope.trace = rest.traceparent.and_then(|parent| TraceContext::parse(&parent, state));
    if let Some(content_type) = rest.content_type {
        envelope.content_type = content_type.into();
    }
    envelope.headers = rest.headers;
}

/// The columns that [`recorded`] reads, in its order; `place` is what the dialect orders by.
pub(super) const COLUMNS: &str =
    "seq, stream, version, id, name, schema, at, correlation, causation, rest, body";

pub(super) fn recorded(row: &Row) -> Result<Recorded, DbError> {
    let stream: Option<String> = row.get(1)?;
    let schema: u32 = row.get(5)?;
    let mut envelope = Envelope {
        id: row.get(3)?,
        name: row.get(4)?,
        version: u16::try_from(schema).unwrap_or(u16::MAX),
        key: stream.clone(),
        correlation: row.get(7)?,
        causation: row.get(8)?,
        trace: None,
        time: Timestamp(row.get(6)?),
        content_type: "application/json".into(),
        headers: Headers::new(),
        body: Bytes::from(row.get::<Vec<u8>>(10)?),
    };
    unpack(&mut envelope, row.get::<Option<String>>(9)?.as_deref());
    let pos = Pos { label: row.get(11)?, seq: row.get(0)? };
    Ok(Recorded { pos, version: row.get::<Option<u64>>(2)?.unwrap_or(0), stream, envelope })
}
