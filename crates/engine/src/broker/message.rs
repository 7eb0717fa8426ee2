//! A message of the queues: in memory, and as it stands in the log.
//!
//! ```text
//! version u8 = 1 | flags u8 | arrived i64 | expiration u64 | priority u8 |
//! exchange u8 + bytes | keys u16 × (u16 + bytes) | properties u32 + bytes | body
//! ```
//! Little endian. Append-only: what is new is a flag and a field before the exchange, under a new version.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::clock::Wall;

/// A message, stored once for all the queues that hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) head: Head,
    /// Where it was published.
    pub(super) exchange: Arc<str>,
    /// The routing key, then those of CC and BCC.
    pub(super) keys: Arc<[Arc<str>]>,
    /// Flags and fields as on the wire, without BCC.
    pub(super) properties: Bytes,
    pub(super) body: Bytes,
}

/// What a queue must know of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// When it came.
    pub(super) arrived: Wall,
    /// Its own time to live in ms.
    pub(super) expiration: Option<u64>,
    pub(super) priority: Option<u8>,
    /// Survives a restart in a durable classic queue.
    pub(super) persistent: bool,
    /// Whether the broker moved it here when it died elsewhere: its `x-death` is ours.
    pub(super) dead: bool,
    /// Bytes of the body.
    pub(super) bytes: u32,
}

impl Message {
    /// The routing key it was published with.
    pub(super) fn routing_key(&self) -> Arc<str> {
        self.keys.first().cloned().unwrap_or_else(|| Arc::from(""))
    }

    /// As it stands in the log.
    pub(super) fn encode(&self) -> Bytes {
        let keys: usize = self.keys.iter().map(|key| key.len() + 2).sum();
        let room = HEAD_BYTES + 1 + self.exchange.len() + 2 + keys + 4 + self.properties.len();
        let mut out = BytesMut::with_capacity(room + self.body.len());
        let head = &self.head;
        let flags = u8::from(head.persistent) * PERSISTENT
            + u8::from(head.expiration.is_some()) * EXPIRES
            + u8::from(head.priority.is_some()) * PRIORITY
            + u8::from(head.dead) * DEAD;
        out.put_u8(VERSION);
        out.put_u8(flags);
        out.put_i64_le(head.arrived.0);
        out.put_u64_le(head.expiration.unwrap_or(0));
        out.put_u8(head.priority.unwrap_or(0));
        let exchange = self.exchange.as_bytes();
        out.put_u8(u8::try_from(exchange.len()).unwrap_or(0)); // names are at most 255 bytes
        out.put_slice(exchange);
        let count = self.keys.len().min(usize::from(u16::MAX));
        out.put_u16_le(u16::try_from(count).unwrap_or(u16::MAX));
        for key in self.keys.iter().take(count) {
            // keys of CC are long strings; no binding has more than 255 bytes
            let key = key.as_bytes().get(..usize::from(u16::MAX)).unwrap_or(key.as_bytes());
            out.put_u16_le(u16::try_from(key.len()).unwrap_or(u16::MAX));
            out.put_slice(key);
        }
        out.put_u32_le(u32::try_from(self.properties.len()).unwrap_or(u32::MAX));
        out.put_slice(&self.properties);
        out.put_slice(&self.body);
        out.freeze()
    }

    /// What stands in the log; `None` if it is not what `encode` made.
    pub(super) fn decode(bytes: &Bytes) -> Option<Self> {
        let mut reader = Reader(bytes);
        let head = reader.head()?;
        let exchange = reader.u8()?;
        let exchange = reader.text(usize::from(exchange))?;
        let count = reader.u16()?;
        let mut keys = Vec::with_capacity(usize::from(count).min(KEYS_GUESS));
        for _ in 0..count {
            let length = reader.u16()?;
            keys.push(reader.text(usize::from(length))?);
        }
        let length = usize::try_from(reader.u32()?).ok()?;
        let properties = bytes.slice_ref(reader.take(length)?);
        let body = bytes.slice_ref(reader.0);
        let head = Head { bytes: u32::try_from(body.len()).ok()?, ..head };
        Some(Self { head, exchange, keys: keys.into(), properties, body })
    }
}

impl Head {
    /// When a delay that began with its arrival is over.
    pub(super) fn due(&self) -> Wall {
        self.arrived.after(self.expiration.unwrap_or(0))
    }

    /// Of a message of which only the length is known.
    pub(super) const fn unknown(bytes: u32) -> Self {
        Self {
            arrived: Wall(0),
            expiration: None,
            priority: None,
            persistent: true,
            dead: false,
            bytes,
        }
    }

    /// Without the texts and the body, for recovery.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let head = reader.head()?;
        let exchange = reader.u8()?;
        reader.take(usize::from(exchange))?;
        for _ in 0..reader.u16()? {
            let length = reader.u16()?;
            reader.take(usize::from(length))?;
        }
        let length = usize::try_from(reader.u32()?).ok()?;
        reader.take(length)?;
        Some(Self { bytes: u32::try_from(reader.0.len()).ok()?, ..head })
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self, count: usize) -> Option<Arc<str>> {
        std::str::from_utf8(self.take(count)?).ok().map(Arc::from)
    }

    fn head(&mut self) -> Option<Head> {
        if self.u8()? != VERSION {
            return None;
        }
        let flags = self.u8()?;
        let arrived = Wall(i64::from_le_bytes(self.array()?));
        let expiration = self.u64()?;
        let priority = self.u8()?;
        Some(Head {
            arrived,
            expiration: (flags & EXPIRES != 0).then_some(expiration),
            priority: (flags & PRIORITY != 0).then_some(priority),
            persistent: flags & PERSISTENT != 0,
            dead: flags & DEAD != 0,
            bytes: 0,
        })
    }
}

const VERSION: u8 = 1;
const PERSISTENT: u8 = 1;
const EXPIRES: u8 = 2;
const PRIORITY: u8 = 4;
const DEAD: u8 = 8;
/// Version, flags, arrival, expiration, priority.
const HEAD_BYTES: usize = 19;
const KEYS_GUESS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            head: Head {
                arrived: Wall(1_700_000_000_000),
                expiration: Some(500),
                priority: Some(9),
                persistent: true,
                dead: true,
                bytes: 5,
            },
            exchange: "orders".into(),
            keys: ["created".into(), "copy".into()].into(),
            properties: Bytes::from_static(&[0x10, 0, 2]),
            body: Bytes::from_static(b"hello"),
        }
    }

    #[test]
    fn a_message_comes_back_as_it_was_stored() {
        let stored = message().encode();
        assert_eq!(Message::decode(&stored), Some(message()));
        assert_eq!(Head::decode(&stored), Some(message().head));
    }

    #[test]
    fn a_cut_header_is_no_message() {
        let stored = message().encode();
        let header = stored.len() - 5;
        for length in 0..header {
            assert_eq!(Message::decode(&stored.slice(..length)), None, "at {length}");
        }
    }
}
