//! Property bytes of AMQP 0-9-1 (§4.2.6.1) of what goes through the engine's queues: a content type, a
//! table of texts, and the delivery mode.

use std::borrow::Cow;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use ottla_engine::broker::Delivery;
use uuid::Uuid;

use crate::cloudevents::{self, Fallback};
use crate::envelope::Envelope;
use crate::mint::Timestamp;

/// An envelope's properties; with a delay, what the delaying exchange reads.
pub(super) fn encode(envelope: &Envelope, delay: Option<Duration>) -> Bytes {
    let mut out = BytesMut::with_capacity(ROOM);
    out.put_u16(CONTENT_TYPE | HEADERS | DELIVERY_MODE);
    put_short(&envelope.content_type, &mut out);
    let start = out.len();
    out.put_u32(0);
    if let Some(delay) = delay {
        put_short("x-delay", &mut out);
        out.put_u8(b'l');
        out.put_i64(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX));
    }
    cloudevents::binary(envelope, cloudevents::AMQP, |name, value| {
        put_short(name, &mut out);
        out.put_u8(b'S');
        out.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        out.put_slice(value.as_bytes());
    });
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    out.put_u8(2); // persistent
    out.freeze()
}

/// A delivery as an envelope, and how often it came before.
pub(super) fn read(delivery: &Delivery) -> (Envelope, u32) {
    let mut reader = Reader(&delivery.properties);
    let flags = reader.u16().unwrap_or(0);
    let content_type = (flags & CONTENT_TYPE != 0).then(|| reader.short()).flatten();
    if flags & CONTENT_ENCODING != 0 {
        reader.short();
    }
    let mut headers: Vec<(&str, Cow<'_, str>)> = Vec::new();
    if flags & HEADERS != 0 {
        let mut table = Reader(reader.long().unwrap_or_default());
        while let Some(name) = table.short() {
            match table.value() {
                Some(Some(value)) => headers.push((name, value)),
                Some(None) => {}
                None => break,
            }
        }
    }
    let counted = headers.iter().find(|(name, _)| *name == "x-delivery-count");
    let redelivered = counted.and_then(|(_, count)| count.parse().ok()).unwrap_or(0);
    headers.retain(|(name, _)| !name.starts_with("x-"));
    let number = delivery.held.map_or(0, |held| held.seq.0);
    let fallback = Fallback {
        id: Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("queue/{number}").as_bytes()),
        time: Timestamp(0),
    };
    let body = delivery.body.clone();
    (cloudevents::read(headers, content_type, None, body, fallback), redelivered)
}

fn put_short(text: &str, out: &mut BytesMut) {
    let mut end = text.len().min(usize::from(u8::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.put_u8(u8::try_from(end).unwrap_or(u8::MAX));
    out.put_slice(text.as_bytes().get(..end).unwrap_or_default());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn short(&mut self) -> Option<&'a str> {
        let length = self.u8()?;
        std::str::from_utf8(self.take(length.into())?).ok()
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.take(4)?.try_into().ok().map(u32::from_be_bytes)?;
        self.take(usize::try_from(length).ok()?)
    }

    fn signed(&mut self, bytes: usize) -> Option<i64> {
        let taken = self.take(bytes)?;
        let negative = taken.first()? & 0x80 != 0;
        let start = if negative { -1 } else { 0 };
        Some(taken.iter().fold(start, |number, byte| (number << 8) | i64::from(*byte)))
    }

    /// A value as text; `Some(None)`: one that has none. Types as RabbitMQ writes them.
    fn value(&mut self) -> Option<Option<Cow<'a, str>>> {
        let number = |number: i64| Some(Some(Cow::from(number.to_string())));
        match self.u8()? {
            b't' => Some(Some((if self.u8()? == 0 { "false" } else { "true" }).into())),
            b'b' => number(self.signed(1)?),
            b'B' => number(self.u8()?.into()),
            b's' => number(self.signed(2)?),
            b'u' => number(self.u16()?.into()),
            b'I' => number(self.signed(4)?),
            b'i' => number(self.take(4)?.try_into().ok().map(u32::from_be_bytes)?.into()),
            b'l' | b'L' | b'T' => number(self.signed(8)?),
            b'S' => Some(Some(String::from_utf8_lossy(self.long()?))),
            b'f' => self.take(4).map(|_| None),
            b'd' => self.take(8).map(|_| None),
            b'D' => self.take(5).map(|_| None),
            b'A' | b'F' | b'x' => self.long().map(|_| None),
            b'V' => Some(None),
            _ => None,
        }
    }
}

const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const ROOM: usize = 512;
