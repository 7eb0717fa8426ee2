//! Frames (§2.3.5, §4.2.3): a type, a channel, a length, a payload, an end octet; never longer than
//! negotiated.

use std::fmt::Display;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::fault::{Fault, ReplyCode};
use crate::ids::{ChannelId, MethodId};
use crate::methods::Method;
use crate::output::Output;

/// What a client of 0-9-1 sends first, and what a server answers to any other version (§4.2.2).
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
/// The octets of a frame that are not payload: seven before it, one behind it.
pub const FRAME_OVERHEAD: usize = HEADER_LEN + 1;

/// What a frame carries (§4.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// 1: a method with its arguments.
    Method,
    /// 2: the content header: class, body size, properties.
    Header,
    /// 3: a piece of a body.
    Body,
    /// 8: nothing, to show that one is there.
    Heartbeat,
}

/// One whole frame; the payload shares the input's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub kind: FrameKind,
    /// The channel it belongs to.
    pub channel: ChannelId,
    /// What is between header and end octet.
    pub payload: Bytes,
}

impl FrameKind {
    pub(crate) const fn octet(self) -> u8 {
        match self {
            Self::Method => METHOD,
            Self::Header => HEADER,
            Self::Body => BODY,
            Self::Heartbeat => HEARTBEAT,
        }
    }

    const fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            METHOD => Some(Self::Method),
            HEADER => Some(Self::Header),
            BODY => Some(Self::Body),
            HEARTBEAT => Some(Self::Heartbeat),
            _ => None,
        }
    }
}

/// Takes one frame off the front of `input`; `None` while it is not all there.
///
/// `frame_max` is the largest whole frame in bytes; RabbitMQ lets the payload alone be that long,
/// and so do we. A frame announced longer is refused before any of it is waited for.
///
/// # Errors
/// 501 for a wrong length, type or end octet. What follows in `input` is then without meaning.
pub fn split_frame(input: &mut BytesMut, frame_max: u32) -> Result<Option<Frame>, Fault> {
    let Some(&[kind, c1, c2, l1, l2, l3, l4]) = input.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let channel = ChannelId(u16::from_be_bytes([c1, c2]));
    let len = u32::from_be_bytes([l1, l2, l3, l4]);
    let Some(known) = FrameKind::from_octet(kind) else {
        return Err(frame_error(kind, &[], "unknown_frame"));
    };
    if len > frame_max {
        let allowed = frame_max.saturating_sub(8);
        return Err(frame_error(kind, &[], format_args!("{{frame_too_large,{len},{allowed}}}")));
    }
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let Some(&end) = input.get(HEADER_LEN + len) else {
        return Ok(None);
    };
    if end != FRAME_END {
        let payload = input.get(HEADER_LEN..HEADER_LEN + len).unwrap_or_default();
        return Err(frame_error(kind, payload, format_args!("{{invalid_frame_end_marker,{end}}}")));
    }
    let mut payload = input.split_to(len + FRAME_OVERHEAD).freeze();
    payload.advance(HEADER_LEN);
    payload.truncate(len);
    Ok(Some(Frame { kind: known, channel, payload }))
}

fn frame_error(kind: u8, payload: &[u8], error: impl Display) -> Fault {
    let text = format!("{}: {error}", show(kind, payload));
    Fault::connection(ReplyCode::FrameError, text, MethodId::NONE)
}

/// A frame as RabbitMQ's reply texts show it.
pub(crate) fn show(kind: u8, payload: &[u8]) -> String {
    let (what, shown) = match payload.get(..SNIPPET) {
        Some(first) if payload.len() > SNIPPET => ("first 16", first),
        _ => ("all", payload),
    };
    let octets: Vec<String> = shown.iter().map(u8::to_string).collect();
    format!("type {kind}, {what} octets = <<{}>>", octets.join(","))
}

/// Appends `method` as a frame on `channel`, for either side.
pub fn write_method(channel: ChannelId, method: &Method, out: &mut Output) {
    write_method_frame(channel, method, out.tail());
}

/// Appends `method` as a frame on `channel` to plain bytes.
pub fn write_method_frame(channel: ChannelId, method: &Method, out: &mut BytesMut) {
    let start = out.len();
    begin_frame(METHOD, channel, 0, out);
    method.encode(out);
    let len = u32::try_from(out.len() - start - HEADER_LEN).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start + 3..start + HEADER_LEN) {
        place.copy_from_slice(&len.to_be_bytes());
    }
    out.put_u8(FRAME_END);
}

/// Appends a heartbeat (§4.2.7).
pub fn write_heartbeat(out: &mut Output) {
    out.tail().put_slice(&[HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END]);
}

/// Appends the first seven octets of a frame.
pub(crate) fn begin_frame(kind: u8, channel: ChannelId, len: u32, out: &mut BytesMut) {
    let [c1, c2] = channel.0.to_be_bytes();
    let [l1, l2, l3, l4] = len.to_be_bytes();
    out.put_slice(&[kind, c1, c2, l1, l2, l3, l4]);
}

/// Cuts a body into body frames that fit `frame_max`.
#[derive(Debug)]
pub struct BodyCut {
    body: Bytes,
    payload_max: usize,
}

impl BodyCut {
    /// The pieces of `body`; none for an empty one.
    #[must_use]
    pub fn new(body: Bytes, frame_max: u32) -> Self {
        let frame_max = usize::try_from(frame_max).unwrap_or(usize::MAX);
        Self { body, payload_max: frame_max.saturating_sub(FRAME_OVERHEAD).max(1) }
    }
}

impl Iterator for BodyCut {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.body.is_empty() {
            return None;
        }
        Some(self.body.split_to(self.payload_max.min(self.body.len())))
    }
}

/// Appends header and body frames of a content of class basic. Property bytes go in verbatim, small
/// bodies are copied, large ones spliced.
pub(crate) fn write_content(
    channel: ChannelId,
    properties: &[u8],
    body: &Bytes,
    frame_max: u32,
    out: &mut Output,
) {
    let tail = out.tail();
    let len = u32::try_from(CONTENT_HEADER_LEN + properties.len()).unwrap_or(u32::MAX);
    begin_frame(HEADER, channel, len, tail);
    tail.put_slice(&[0, BASIC, 0, 0]); // class, weight
    tail.put_u64(u64::try_from(body.len()).unwrap_or(u64::MAX));
    tail.put_slice(properties);
    tail.put_u8(FRAME_END);
    for piece in BodyCut::new(body.clone(), frame_max) {
        let len = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        begin_frame(BODY, channel, len, out.tail());
        out.splice(piece);
        out.tail().put_u8(FRAME_END);
    }
}

pub(crate) const METHOD: u8 = 1;
pub(crate) const HEADER: u8 = 2;
pub(crate) const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
pub(crate) const FRAME_END: u8 = 0xCE;
pub(crate) const HEADER_LEN: usize = 7;
/// Class 2, weight 2, body size 8.
pub(crate) const CONTENT_HEADER_LEN: usize = 12;
/// Class basic, the only one with content.
const BASIC: u8 = 60;
/// How many octets of a bad frame a reply text shows, as in RabbitMQ.
const SNIPPET: usize = 16;
