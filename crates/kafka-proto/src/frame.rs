//! Whole frames: a header and a body, from and to bytes.

use bytes::{Buf, Bytes, BytesMut};

use crate::api::{ApiKey, ApiVersion};
use crate::header::{
    CorrelationId, RequestHeader, RequestStart, decode_response_header, encode_response_header,
};
use crate::malformed::{Malformed, Unencodable};
use crate::messages::{Request, Response};
use crate::reader::Reader;
use crate::writer::{Encoded, Writer};

/// An answer as a frame, length prefix included. Records are spliced in, not copied.
///
/// # Errors
/// [`Unencodable`]: a version the API does not have, or a value too long for it. The connection cannot be answered then.
pub fn encode_response(
    correlation_id: CorrelationId,
    version: ApiVersion,
    response: &Response,
) -> Result<Encoded, Unencodable> {
    let api = response.api();
    if !api.spec().serves(version) {
        return Err(Unencodable::Version { api: api.code(), version: version.0 });
    }
    let mut w = Writer::frame();
    encode_response_header(&mut w, api, version, correlation_id);
    response.encode(&mut w, version);
    w.finish()
}

/// A request as a frame, length prefix included. `header.api` and `header.version` say how it is written.
///
/// # Errors
/// [`Unencodable`] as for [`encode_response`], also if the header names another API than the request's.
pub fn encode_request(header: &RequestHeader, request: &Request) -> Result<Encoded, Unencodable> {
    let (api, version) = (header.api, header.version);
    if request.api() != api || !api.spec().serves(version) {
        return Err(Unencodable::Version { api: api.code(), version: version.0 });
    }
    let mut w = Writer::frame();
    header.encode(&mut w);
    request.encode(&mut w, version);
    w.finish()
}

/// A request from a frame without its length prefix. Bytes behind the body are ignored, as Kafka does.
///
/// # Errors
/// [`Malformed`]; [`Malformed::Version`] for an API or version that is not served.
pub fn decode_request(
    frame: Bytes,
    items_max: usize,
) -> Result<(RequestHeader, Request), Malformed> {
    let mut r = Reader::new(frame, items_max);
    let start = RequestStart::decode(&mut r)?;
    let unknown = Malformed::Version { api: start.api, version: start.version.0 };
    let Some(api) = ApiKey::from_code(start.api) else { return Err(unknown) };
    if !api.spec().serves(start.version) {
        return Err(unknown);
    }
    let header = start.decode_rest(api, &mut r)?;
    let request = Request::decode(api, &mut r, header.version)?;
    Ok((header, request))
}

/// An answer from a frame without its length prefix, to a request of `api` in `version`.
///
/// # Errors
/// [`Malformed`]; [`Malformed::Version`] for a version without a table.
pub fn decode_response(
    api: ApiKey,
    version: ApiVersion,
    frame: Bytes,
    items_max: usize,
) -> Result<(CorrelationId, Response), Malformed> {
    if !api.spec().serves(version) {
        return Err(Malformed::Version { api: api.code(), version: version.0 });
    }
    let mut r = Reader::new(frame, items_max);
    let correlation_id = decode_response_header(&mut r, api, version)?;
    let response = Response::decode(api, &mut r, version)?;
    Ok((correlation_id, response))
}

/// Takes the next frame, without its length prefix, off the front of what a client has read; `None` if it is not all there.
/// The server's side is [`crate::Connection`], which judges more.
///
/// # Errors
/// [`Malformed::FrameLength`] for a negative length or one above `bytes_max`, before the frame is there.
pub fn take_frame(input: &mut BytesMut, bytes_max: usize) -> Result<Option<Bytes>, Malformed> {
    let Some(prefix) = input.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let announced = i32::from_be_bytes(*prefix);
    let len = usize::try_from(announced).ok().filter(|len| *len <= bytes_max);
    let Some(len) = len else {
        return Err(Malformed::FrameLength { len: announced, max: bytes_max });
    };
    if input.len() < LENGTH_BYTES + len {
        return Ok(None);
    }
    let mut frame = input.split_to(LENGTH_BYTES + len).freeze();
    frame.advance(LENGTH_BYTES);
    Ok(Some(frame))
}

/// The length prefix of a frame.
pub(crate) const LENGTH_BYTES: usize = 4;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
