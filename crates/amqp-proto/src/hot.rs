//! The three ways that every message takes, each in one step: a publish whose frames are all there, an
//! acknowledgement, a delivery that fits one body frame.
//!
//! What is read here is read the same, only slower, by the frames' general way; whatever looks
//! unusual gives `None` and goes there, faults included.

use bytes::{Buf, Bytes, BytesMut};

use crate::channel::{Content, Delivery, Publish};
use crate::frame::{BODY, CONTENT_HEADER_LEN, FRAME_END, HEADER, HEADER_LEN, METHOD};
use crate::ids::{ChannelId, DeliveryTag, ShortStr};
use crate::methods::BasicAck;
use crate::output::{Output, SPLICE_MIN};
use crate::properties::Properties;

/// The first channel in `input`, if a frame begins there.
pub(crate) fn channel_of(input: &[u8]) -> Option<ChannelId> {
    let &[_, c1, c2] = input.first_chunk()?;
    Some(ChannelId(u16::from_be_bytes([c1, c2])))
}

/// Takes a whole `basic.ack` off the front of `input`.
pub(crate) fn take_ack(input: &mut BytesMut) -> Option<BasicAck> {
    let &[METHOD, _, _, 0, 0, 0, 13, 0, 60, 0, 80, ref tag @ .., bits, FRAME_END] =
        input.first_chunk::<21>()?
    else {
        return None;
    };
    let delivery_tag = DeliveryTag(u64::from_be_bytes(*tag));
    input.advance(21);
    Some(BasicAck { delivery_tag, multiple: bits & 1 == 1 })
}

/// Takes a whole publish, its body in at most one frame, off the front of `input`: one split, and
/// strings, properties and body share it.
pub(crate) fn take_publish(
    input: &mut BytesMut,
    frame_max: u32,
    message_max: u64,
) -> Option<Publish> {
    let mut frames = Frames { input, at: 0, frame_max };
    let (channel, method) = frames.next(METHOD)?;
    let (exchange, key, bits) = publish_fields(frames.get(method)?)?;
    let (same, header) = frames.next(HEADER)?;
    let &[0, 60, 0, 0, ref size @ ..] = frames.get(header)?.first_chunk::<CONTENT_HEADER_LEN>()?
    else {
        return None;
    };
    let size = u64::from_be_bytes(*size);
    let properties = Span { start: header.start + CONTENT_HEADER_LEN, end: header.end };
    if same != channel || size > message_max {
        return None;
    }
    Properties::check(frames.get(properties)?).ok()?;
    let body = if size == 0 { None } else { Some(frames.next(BODY)?) };
    let body = match body {
        None => Span { start: frames.at, end: frames.at },
        Some((same, body)) if same == channel && body.len() == usize::try_from(size).ok()? => body,
        Some(_) => return None,
    };
    let mut bytes = input_split(frames);
    let fields = method.start + PUBLISH_FIELDS;
    let exchange = Span { start: fields + 1, end: fields + 1 + exchange };
    let key = Span { start: exchange.end + 1, end: exchange.end + 1 + key };
    let publish = Publish {
        channel,
        exchange: short(&bytes, exchange),
        routing_key: short(&bytes, key),
        mandatory: bits & 1 == 1,
        immediate: bits & 2 == 2,
        content: Content {
            properties: Properties::trusted(bytes.slice(properties.start..properties.end)),
            body: {
                bytes.truncate(body.end);
                bytes.advance(body.start);
                bytes
            },
        },
    };
    Some(publish)
}

fn input_split(frames: Frames<'_>) -> Bytes {
    frames.input.split_to(frames.at).freeze()
}

fn short(bytes: &Bytes, span: Span) -> ShortStr {
    ShortStr::try_from(bytes.slice(span.start..span.end)).unwrap_or_default()
}

/// The lengths of exchange and routing key, and the octet of bits, if these are the arguments of a
/// publish to the last octet.
fn publish_fields(payload: &[u8]) -> Option<(usize, usize, u8)> {
    let (&[0, 60, 0, 40, _, _], rest) = payload.split_first_chunk::<PUBLISH_FIELDS>()? else {
        return None;
    };
    let (exchange, rest) = rest.split_first()?;
    let (_, rest) = rest.split_at_checked(usize::from(*exchange))?;
    let (key, rest) = rest.split_first()?;
    let (_, rest) = rest.split_at_checked(usize::from(*key))?;
    let &[bits] = rest else { return None };
    Some((usize::from(*exchange), usize::from(*key), bits))
}

/// Looks at whole frames one after the other, without taking them.
struct Frames<'a> {
    input: &'a mut BytesMut,
    at: usize,
    frame_max: u32,
}

/// A range of the input that is `Copy`.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    const fn len(self) -> usize {
        self.end - self.start
    }
}

impl Frames<'_> {
    fn next(&mut self, kind: u8) -> Option<(ChannelId, Span)> {
        let rest = self.input.get(self.at..)?;
        let &[is, c1, c2, l1, l2, l3, l4] = rest.first_chunk::<HEADER_LEN>()?;
        let len = u32::from_be_bytes([l1, l2, l3, l4]);
        if is != kind || len > self.frame_max {
            return None;
        }
        let len = usize::try_from(len).ok()?;
        if *rest.get(HEADER_LEN + len)? != FRAME_END {
            return None;
        }
        let start = self.at + HEADER_LEN;
        self.at = start + len + 1;
        Some((ChannelId(u16::from_be_bytes([c1, c2])), Span { start, end: start + len }))
    }

    fn get(&self, span: Span) -> Option<&[u8]> {
        self.input.get(span.start..span.end)
    }
}

/// Appends a delivery as one piece; `false`, and nothing written, if its body is large or needs more
/// than one frame.
pub(crate) fn write_delivery(
    channel: ChannelId,
    delivery: &Delivery<'_>,
    frame_max: u32,
    out: &mut Output,
) -> bool {
    let Delivery { consumer_tag, exchange, routing_key, properties, body, .. } = *delivery;
    let frame_max = usize::try_from(frame_max).unwrap_or(usize::MAX);
    if body.is_empty() || body.len() >= SPLICE_MIN.min(frame_max.saturating_sub(HEADER_LEN)) {
        return false;
    }
    let method_len = 16 + consumer_tag.len() + exchange.len() + routing_key.len();
    let header_len = CONTENT_HEADER_LEN + properties.len();
    let tail = out.tail();
    let start = tail.len();
    tail.resize(start + method_len + header_len + body.len() + 3 * (HEADER_LEN + 1), 0);
    let mut pen = Pen(tail.get_mut(start..).unwrap_or_default());
    pen.begin(METHOD, channel, method_len);
    pen.put(&[0, 60, 0, 60]);
    pen.short(consumer_tag);
    pen.put(&delivery.delivery_tag.0.to_be_bytes());
    pen.put(&[delivery.redelivered.into()]);
    pen.short(exchange);
    pen.short(routing_key);
    pen.put(&[FRAME_END]);
    pen.begin(HEADER, channel, header_len);
    pen.put(&[0, 60, 0, 0]);
    pen.put(&u64::try_from(body.len()).unwrap_or(u64::MAX).to_be_bytes());
    pen.put(properties);
    pen.put(&[FRAME_END]);
    pen.begin(BODY, channel, body.len());
    pen.put(body);
    pen.put(&[FRAME_END]);
    assert!(pen.0.is_empty(), "a delivery whose length was computed wrongly");
    true
}

/// Writes into a place that was measured before.
struct Pen<'a>(&'a mut [u8]);

impl Pen<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let (place, rest) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        place.copy_from_slice(bytes);
        self.0 = rest;
    }

    fn short(&mut self, text: &ShortStr) {
        self.put(&[text.wire_len()]);
        self.put(text);
    }

    fn begin(&mut self, kind: u8, channel: ChannelId, len: usize) {
        let [c1, c2] = channel.0.to_be_bytes();
        let [l1, l2, l3, l4] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
        self.put(&[kind, c1, c2, l1, l2, l3, l4]);
    }
}

/// Class, method and ticket before the fields of a publish.
const PUBLISH_FIELDS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel;

    #[test]
    fn a_delivery_is_the_same_bytes_either_way() {
        let text = |len: usize| ShortStr::try_from("x".repeat(len)).unwrap();
        let (tag, exchange, key) = (text(7), text(0), text(255));
        for (len, frame_max, hot) in [
            (1, 4096, true),
            (100, 131_072, true),
            (4095, 131_072, true),
            (0, 4096, false),
            (4096, 131_072, false),
            (4089, 4096, false),
            (4088, 4096, true),
            (4000, 1000, false),
        ] {
            let delivery = Delivery {
                consumer_tag: &tag,
                delivery_tag: DeliveryTag(0x0102_0304_0506_0708),
                redelivered: true,
                exchange: &exchange,
                routing_key: &key,
                properties: &[0x10, 0, 2],
                body: &Bytes::from(vec![9; len]),
            };
            let (mut one, mut other) = (Output::new(), Output::new());
            assert_eq!(write_delivery(ChannelId(3), &delivery, frame_max, &mut one), hot, "{len}");
            channel::write_delivery(ChannelId(3), &delivery, frame_max, &mut other);
            if hot {
                assert_eq!(one.tail(), other.tail());
            } else {
                assert!(one.is_empty());
            }
        }
    }
}
