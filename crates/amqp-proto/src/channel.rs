//! One channel: joins method, content header and bodies into messages, and writes them back out cut
//! into frames.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::fault::{Fault, ReplyCode};
use crate::frame::{self, Frame, FrameKind};
use crate::ids::{ChannelId, DeliveryTag, MethodId, ShortStr};
use crate::methods::{BasicGetOk, BasicPublish, BasicReturn, Method, MethodError};
use crate::output::Output;
use crate::properties::Properties;
use crate::wire::Malformed;

/// A content as it was received: checked properties and the whole body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Property bytes, verbatim.
    pub properties: Properties,
    /// The body: shares the input's memory if it came in one frame.
    pub body: Bytes,
}

/// A `basic.publish` with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The channel it came on.
    pub channel: ChannelId,
    /// The exchange to publish to; empty is the default exchange.
    pub exchange: ShortStr,
    /// The routing key, any bytes.
    pub routing_key: ShortStr,
    /// Whether it is to be returned if it reaches no queue.
    pub mandatory: bool,
    /// RabbitMQ answers 540 `immediate=true`; that is for the session to say.
    pub immediate: bool,
    /// Properties and body.
    pub content: Content,
}

/// A message for a consumer.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Whose message it is, at most 255 bytes.
    pub consumer_tag: &'a ShortStr,
    /// Its number on the channel.
    pub delivery_tag: DeliveryTag,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Where it was published to.
    pub exchange: &'a ShortStr,
    /// With which key.
    pub routing_key: &'a ShortStr,
    /// Property bytes, verbatim.
    pub properties: &'a [u8],
    /// The body.
    pub body: &'a Bytes,
}

/// A message fetched with `basic.get`.
#[derive(Clone, Copy, Debug)]
pub struct GetOk<'a> {
    /// Its number on the channel.
    pub delivery_tag: DeliveryTag,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Where it was published to.
    pub exchange: &'a ShortStr,
    /// With which key.
    pub routing_key: &'a ShortStr,
    /// How many ready messages the queue holds behind it.
    pub message_count: u32,
    /// Property bytes, verbatim.
    pub properties: &'a [u8],
    /// The body.
    pub body: &'a Bytes,
}

/// A mandatory message on its way back.
#[derive(Clone, Copy, Debug)]
pub struct Returned<'a> {
    /// Mostly [`ReplyCode::NoRoute`].
    pub code: ReplyCode,
    /// Where it was published to.
    pub exchange: &'a ShortStr,
    /// With which key.
    pub routing_key: &'a ShortStr,
    /// Property bytes, verbatim.
    pub properties: &'a [u8],
    /// The body.
    pub body: &'a Bytes,
}

/// A method, complete with its content if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The method.
    pub method: Method,
    /// What followed it: for publish, return, deliver and get-ok.
    pub content: Option<Content>,
}

/// Joins the frames of one channel into commands, for either side of the wire.
///
/// ```text
///          has content         header, size > 0           last body
/// Method ──────────────▶ Header ─────────────────▶ Body ────────────▶ Method
///                           └─────── header, size 0 ────────────────▶
/// ```
#[derive(Debug, Default)]
pub struct Assembler(Awaited);

#[derive(Debug, Default)]
enum Awaited {
    #[default]
    Method,
    Header(Method),
    Body(Partial),
}

/// A content whose body is not all there.
#[derive(Debug)]
struct Partial {
    method: Method,
    properties: Properties,
    size: usize,
    body: BytesMut,
}

impl Assembler {
    /// Takes the next frame of the channel; gives the command it completes.
    ///
    /// # Errors
    /// 505 for a frame out of order, 502 for bytes that are no method or property list, 503 for an
    /// unknown method, 406 on the channel for a body larger than `message_max`, 501 for one larger
    /// than its header said. The command under way is forgotten.
    pub fn push(&mut self, frame: Frame, message_max: u64) -> Result<Option<Command>, Fault> {
        match std::mem::take(&mut self.0) {
            Awaited::Method => self.on_method(frame),
            Awaited::Header(method) => self.on_header(method, frame, message_max),
            Awaited::Body(partial) => self.on_body(partial, frame),
        }
    }

    /// Whether no command is under way.
    pub(crate) const fn is_idle(&self) -> bool {
        matches!(self.0, Awaited::Method)
    }

    fn on_method(&mut self, frame: Frame) -> Result<Option<Command>, Fault> {
        if frame.kind != FrameKind::Method {
            let text = "expected method frame, got non method frame instead";
            return Err(unexpected(frame.channel, text, MethodId::NONE));
        }
        let method = decode_method(frame.payload)?;
        if method.has_content() {
            self.0 = Awaited::Header(method);
            return Ok(None);
        }
        Ok(Some(Command { method, content: None }))
    }

    fn on_header(
        &mut self,
        method: Method,
        frame: Frame,
        message_max: u64,
    ) -> Result<Option<Command>, Fault> {
        let channel = frame.channel;
        if frame.kind != FrameKind::Header {
            return Err(unexpected(channel, NO_HEADER, method.id()));
        }
        let (size, properties) = decode_header(frame, method.id())?;
        if size > message_max {
            let text =
                format!("message size {size} is larger than configured max size {message_max}");
            return Err(Fault::new(channel, ReplyCode::PreconditionFailed, text, method.id()));
        }
        if size == 0 {
            let content = Content { properties, body: Bytes::new() };
            return Ok(Some(Command { method, content: Some(content) }));
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        self.0 = Awaited::Body(Partial { method, properties, size, body: BytesMut::new() });
        Ok(None)
    }

    fn on_body(&mut self, partial: Partial, frame: Frame) -> Result<Option<Command>, Fault> {
        let Partial { method, properties, size, mut body } = partial;
        if frame.kind != FrameKind::Body {
            let text = "expected content body, got non content body frame instead";
            return Err(unexpected(frame.channel, text, method.id()));
        }
        let have = body.len() + frame.payload.len();
        if have > size {
            let text = format!("body of {have} octets, header announced {size}");
            return Err(Fault::connection(ReplyCode::FrameError, text, method.id()));
        }
        let whole = if have == frame.payload.len() && have == size {
            frame.payload // the common case: one frame, no copy
        } else {
            if body.is_empty() {
                body.reserve(size.min(BODY_RESERVE_MAX)); // announced is not received: grow with it
            }
            body.put_slice(&frame.payload);
            if have < size {
                self.0 = Awaited::Body(Partial { method, properties, size, body });
                return Ok(None);
            }
            body.freeze()
        };
        Ok(Some(Command { method, content: Some(Content { properties, body: whole }) }))
    }
}

impl Publish {
    pub(crate) fn new(channel: ChannelId, publish: BasicPublish, content: Content) -> Self {
        let BasicPublish { exchange, routing_key, mandatory, immediate, .. } = publish;
        Self { channel, exchange, routing_key, mandatory, immediate, content }
    }
}

/// Decodes the payload of a method frame.
pub(crate) fn decode_method(mut payload: Bytes) -> Result<Method, Fault> {
    let Some(&[c1, c2, m1, m2]) = payload.first_chunk::<4>() else {
        return Err(Fault::malformed(Malformed::Truncated, MethodId::NONE));
    };
    payload.advance(4);
    let id = MethodId::new(u16::from_be_bytes([c1, c2]), u16::from_be_bytes([m1, m2]));
    Method::decode(id, payload).map_err(|error| match error {
        MethodError::Unknown(id) => Fault::connection(ReplyCode::CommandInvalid, error, id),
        MethodError::Malformed(id, malformed) => Fault::malformed(malformed, id),
    })
}

/// The body size and the properties of a content header of class basic (§2.3.5.2).
fn decode_header(frame: Frame, culprit: MethodId) -> Result<(u64, Properties), Fault> {
    let mut payload = frame.payload;
    let Some(&[c1, c2, w1, w2, ref size @ ..]) = payload.first_chunk::<12>() else {
        return Err(Fault::malformed(Malformed::Truncated, culprit));
    };
    let class = u16::from_be_bytes([c1, c2]);
    if class != culprit.class {
        let text =
            format!("expected content header for class 60, got one for class {class} instead");
        return Err(unexpected(frame.channel, &text, culprit));
    }
    if [w1, w2] != [0, 0] {
        return Err(unexpected(frame.channel, NO_HEADER, culprit));
    }
    let size = u64::from_be_bytes(*size);
    payload.advance(12);
    let properties = Properties::new(payload).map_err(|error| Fault::malformed(error, culprit))?;
    Ok((size, properties))
}

fn unexpected(channel: ChannelId, text: &str, culprit: MethodId) -> Fault {
    Fault::new(channel, ReplyCode::UnexpectedFrame, text, culprit)
}

/// Appends any method with content, cut to `frame_max`: what a client needs to publish. A server has
/// [`crate::Connection::deliver`] and its neighbours.
pub fn write_command(
    channel: ChannelId,
    method: &Method,
    content: &Content,
    frame_max: u32,
    out: &mut Output,
) {
    frame::write_method(channel, method, out);
    let Content { properties, body } = content;
    frame::write_content(channel, properties.as_bytes(), body, frame_max, out);
}

/// Appends `basic.deliver` with its content, without building the method first.
pub(crate) fn write_delivery(
    channel: ChannelId,
    delivery: &Delivery<'_>,
    frame_max: u32,
    out: &mut Output,
) {
    let Delivery { consumer_tag, exchange, routing_key, .. } = *delivery;
    let len = 4 + 1 + consumer_tag.len() + 9 + 1 + exchange.len() + 1 + routing_key.len();
    let tail = out.tail();
    tail.reserve(len + delivery.properties.len() + delivery.body.len().min(4096) + 36);
    frame::begin_frame(frame::METHOD, channel, u32::try_from(len).unwrap_or(u32::MAX), tail);
    tail.put_slice(&[0, 60, 0, 60]);
    put_short(consumer_tag, tail);
    tail.put_u64(delivery.delivery_tag.0);
    tail.put_u8(delivery.redelivered.into());
    put_short(exchange, tail);
    put_short(routing_key, tail);
    tail.put_u8(frame::FRAME_END);
    frame::write_content(channel, delivery.properties, delivery.body, frame_max, out);
}

fn put_short(text: &ShortStr, out: &mut BytesMut) {
    out.put_u8(text.wire_len());
    out.put_slice(text);
}

/// Appends `basic.get-ok` with its content.
pub(crate) fn write_get_ok(channel: ChannelId, got: &GetOk<'_>, frame_max: u32, out: &mut Output) {
    let method = BasicGetOk {
        delivery_tag: got.delivery_tag,
        redelivered: got.redelivered,
        exchange: got.exchange.clone(),
        routing_key: got.routing_key.clone(),
        message_count: got.message_count,
    };
    frame::write_method(channel, &method.into(), out);
    frame::write_content(channel, got.properties, got.body, frame_max, out);
}

/// Appends `basic.return` with its content.
pub(crate) fn write_return(
    channel: ChannelId,
    returned: &Returned<'_>,
    frame_max: u32,
    out: &mut Output,
) {
    let method = BasicReturn {
        reply_code: returned.code.number(),
        reply_text: ShortStr::from_static(returned.code.name()),
        exchange: returned.exchange.clone(),
        routing_key: returned.routing_key.clone(),
    };
    frame::write_method(channel, &method.into(), out);
    frame::write_content(channel, returned.properties, returned.body, frame_max, out);
}

/// RabbitMQ's words for whatever is not the header it waits for.
pub(crate) const NO_HEADER: &str =
    "expected content header for class 60, got non content header frame instead";
/// How much is reserved for a body on the word of its header alone, in bytes.
const BODY_RESERVE_MAX: usize = 1 << 20;
