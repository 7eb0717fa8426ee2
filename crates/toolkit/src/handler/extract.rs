//! What a handler's arguments can be.

use std::future::Future;

use uuid::Uuid;

use super::cx::{Cx, Emit};
use crate::envelope::Envelope;
use crate::error::{Error, Failure};
use crate::message::Message;
use crate::trace::TraceContext;

/// Something that a handler can ask for.
pub trait FromCx: Sized {
    /// The name of the message it decodes, if it decodes one.
    const MESSAGE: Option<&'static str> = None;

    /// Takes it from the message being handled.
    fn from_cx(cx: &mut Cx) -> impl Future<Output = Result<Self, Failure>> + Send;
}

/// The message, decoded. One that cannot be is poison: it goes to the dead letters at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msg<M>(pub M);

/// Something the service was given by [`Service::state`](crate::Service::state).
#[derive(Clone, Copy, Debug)]
pub struct State<S>(pub S);

/// Which attempt this is, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt(pub u32);

/// Where the message stands in its story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The message's id.
    pub id: Uuid,
    /// The id of the story's first message.
    pub correlation: Uuid,
    /// The id of the message that brought it about.
    pub causation: Option<Uuid>,
    /// The trace it belongs to.
    pub trace: Option<TraceContext>,
}

impl<M: Message> FromCx for Msg<M> {
    const MESSAGE: Option<&'static str> = Some(M::NAME);

    async fn from_cx(cx: &mut Cx) -> Result<Self, Failure> {
        #[cfg(feature = "schemas")]
        if let Some(agreed) = cx.extensions.get::<crate::schema::Agreed>() {
            return Ok(Self(agreed.read(cx.envelope()).await?));
        }
        Ok(Self(cx.envelope().decode()?))
    }
}

impl FromCx for Envelope {
    async fn from_cx(cx: &mut Cx) -> Result<Self, Failure> {
        Ok(cx.envelope().clone())
    }
}

impl FromCx for Emit {
    async fn from_cx(cx: &mut Cx) -> Result<Self, Failure> {
        Ok(cx.emit())
    }
}

impl FromCx for Attempt {
    async fn from_cx(cx: &mut Cx) -> Result<Self, Failure> {
        Ok(Self(cx.attempt()))
    }
}

impl FromCx for Story {
    async fn from_cx(cx: &mut Cx) -> Result<Self, Failure> {
        let Envelope { id, correlation, causation, trace, .. } = cx.envelope();
        Ok(Self { id: *id, correlation: *correlation, causation: *causation, trace: trace.clone() })
    }
}

impl<S: Clone + Send + Sync + 'static> FromCx for State<S> {
    async fn from_cx(cx: &mut Cx) -> Result<Self, Failure> {
        let state = cx.extensions.get::<S>().cloned().ok_or_else(|| Error::Unsupported {
            what: format!("State<{}>", std::any::type_name::<S>()),
            hint: "give it to the service with .state(…)".to_owned(),
        })?;
        Ok(Self(state))
    }
}
