//! The headers in front of requests and responses.

use std::fmt;

use crate::api::{ApiKey, ApiVersion};
use crate::malformed::Malformed;
use crate::reader::Reader;
use crate::value::Str;
use crate::writer::Writer;

/// Ties a response to its request; chosen by the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CorrelationId(pub i32);

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The header of a request, version 1, or 2 where the body is flexible (KIP-482).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API asked for.
    pub api: ApiKey,
    /// Its version; not judged here.
    pub version: ApiVersion,
    /// To be repeated in the answer.
    pub correlation_id: CorrelationId,
    /// What the client calls itself.
    pub client_id: Option<Str>,
}

/// What stands first in every request, whatever its API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestStart {
    pub(crate) api: i16,
    pub(crate) version: ApiVersion,
    pub(crate) correlation_id: CorrelationId,
}

impl RequestStart {
    pub(crate) fn decode(r: &mut Reader) -> Result<Self, Malformed> {
        let (api, version) = (r.i16()?, ApiVersion(r.i16()?));
        Ok(Self { api, version, correlation_id: CorrelationId(r.i32()?) })
    }

    /// The rest of the header. Afterwards `r` reads the body in the right notation.
    pub(crate) fn decode_rest(
        self,
        api: ApiKey,
        r: &mut Reader,
    ) -> Result<RequestHeader, Malformed> {
        let client_id = r.nstr(true)?; // never compact, so that any broker can read it (KIP-482)
        r.set_flexible(api.spec().is_flexible(self.version));
        r.skip_tags()?;
        let Self { version, correlation_id, .. } = self;
        Ok(RequestHeader { api, version, correlation_id, client_id })
    }
}

impl RequestHeader {
    /// Writes the header. Afterwards `w` writes the body in the right notation.
    pub(crate) fn encode(&self, w: &mut Writer) {
        w.i16(self.api.code());
        w.i16(self.version.0);
        w.i32(self.correlation_id.0);
        w.nstr(self.client_id.as_ref(), true);
        w.set_flexible(self.api.spec().is_flexible(self.version));
        w.tags(&[]);
    }
}

/// Writes a response's header: version 1 where the body is flexible. ApiVersions keeps version 0 in every version, because
/// a client reads it before it knows what the broker speaks (KIP-511).
pub(crate) fn encode_response_header(
    w: &mut Writer,
    api: ApiKey,
    version: ApiVersion,
    correlation_id: CorrelationId,
) {
    w.i32(correlation_id.0);
    w.set_flexible(api.spec().is_flexible(version));
    if api != ApiKey::ApiVersions {
        w.tags(&[]);
    }
}

/// Reads a response's header; the counterpart of [`encode_response_header`].
pub(crate) fn decode_response_header(
    r: &mut Reader,
    api: ApiKey,
    version: ApiVersion,
) -> Result<CorrelationId, Malformed> {
    let correlation_id = CorrelationId(r.i32()?);
    r.set_flexible(api.spec().is_flexible(version));
    if api != ApiKey::ApiVersions {
        r.skip_tags()?;
    }
    Ok(correlation_id)
}
