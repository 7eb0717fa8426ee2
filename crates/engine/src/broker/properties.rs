//! Property bytes of AMQP 0-9-1 (§4.2.6.1): what the broker must know of them, and the few changes it
//! makes. Everything else is passed on verbatim.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

use super::table::{self, put_short};
use crate::value::{Arguments, Value};

/// The properties of a message, field by field as they came.
#[derive(Clone, Debug)]
pub(super) struct Properties<'a> {
    fields: [Option<&'a [u8]>; COUNT],
}

impl<'a> Properties<'a> {
    /// `None` if they are malformed.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (flags, mut rest) = bytes.split_first_chunk::<2>()?;
        let flags = u16::from_be_bytes(*flags);
        let mut fields = [None; COUNT];
        for (index, (field, shape)) in fields.iter_mut().zip(SHAPES).enumerate() {
            if flags & (0x8000 >> index) == 0 {
                continue;
            }
            let length = match shape {
                Shape::Short => 1 + usize::from(*rest.first()?),
                Shape::Table => {
                    let length = u32::from_be_bytes(*rest.first_chunk::<4>()?);
                    4 + usize::try_from(length).ok()?
                }
                Shape::Octet => 1,
                Shape::Long => 8,
            };
            let (taken, left) = rest.split_at_checked(length)?;
            *field = Some(taken);
            rest = left;
        }
        Some(Self { fields })
    }

    fn field(&self, index: usize) -> Option<&'a [u8]> {
        self.fields.get(index).copied().flatten()
    }

    fn octet(&self, index: usize) -> Option<u8> {
        self.field(index)?.first().copied()
    }

    fn short(&self, index: usize) -> Option<&'a [u8]> {
        self.field(index)?.get(1..)
    }

    fn text(&self, index: usize) -> Option<&'a str> {
        std::str::from_utf8(self.short(index)?).ok()
    }

    pub(super) fn is_persistent(&self) -> bool {
        self.octet(DELIVERY_MODE) == Some(2)
    }

    pub(super) fn priority(&self) -> Option<u8> {
        self.octet(PRIORITY)
    }

    /// As it came.
    pub(super) fn expiration(&self) -> Option<&'a str> {
        self.short(EXPIRATION).map(|octets| std::str::from_utf8(octets).unwrap_or("?"))
    }

    pub(super) fn reply_to(&self) -> Option<&'a str> {
        self.text(REPLY_TO)
    }

    pub(super) fn user_id(&self) -> Option<&'a str> {
        self.short(USER_ID).map(|octets| std::str::from_utf8(octets).unwrap_or("?"))
    }

    pub(super) fn message_id(&self) -> Option<&'a str> {
        self.text(MESSAGE_ID)
    }

    pub(super) fn correlation_id(&self) -> Option<&'a str> {
        self.text(CORRELATION_ID)
    }

    pub(super) fn timestamp(&self) -> Option<u64> {
        self.field(TIMESTAMP)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// Whether the headers may hold a name with these letters; cheap.
    pub(super) fn may_have_header(&self, letters: &[u8]) -> bool {
        self.field(HEADERS)
            .is_some_and(|headers| headers.windows(letters.len()).any(|window| window == letters))
    }

    /// Empty if there are none.
    pub(super) fn headers(&self) -> Arguments {
        let headers = self.field(HEADERS).and_then(|field| field.get(4..));
        headers.and_then(table::decode).unwrap_or_default()
    }

    /// Empty if there are none; `None` if they are malformed, as only foreign ones can be.
    pub(super) fn sound_headers(&self) -> Option<Arguments> {
        match self.field(HEADERS) {
            None => Some(Arguments::new()),
            Some(field) => table::decode(field.get(4..)?),
        }
    }

    /// All fields but the headers and the timestamp, with their names, as text.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&'static str, Cow<'a, [u8]>)> {
        let fields = self.fields;
        fields.into_iter().zip(SHAPES).zip(NAMES).filter_map(|((field, shape), name)| {
            let field = field?;
            let text = match shape {
                Shape::Short => Cow::Borrowed(field.get(1..)?),
                Shape::Octet => Cow::Owned(field.first()?.to_string().into_bytes()),
                Shape::Table | Shape::Long => return None,
            };
            Some((name, text))
        })
    }

    /// The same with other headers.
    pub(super) fn with_headers(&self, headers: &Arguments) -> Bytes {
        let mut encoded = BytesMut::new();
        table::encode(headers, &mut encoded);
        self.with(HEADERS, Some(&encoded)).encode()
    }

    /// The same with other headers and without expiration: a dead letter.
    pub(super) fn buried(&self, headers: &Arguments) -> Bytes {
        let mut encoded = BytesMut::new();
        table::encode(headers, &mut encoded);
        self.with(EXPIRATION, None).with(HEADERS, Some(&encoded)).encode()
    }

    /// The same with another `reply-to`.
    pub(super) fn with_reply_to(&self, address: &str) -> Bytes {
        let mut encoded = BytesMut::new();
        put_short(address.as_bytes(), &mut encoded);
        self.with(REPLY_TO, Some(&encoded)).encode()
    }

    fn with<'b>(&'b self, index: usize, replacement: Option<&'b [u8]>) -> Properties<'b>
    where
        'a: 'b,
    {
        let mut changed = Properties { fields: self.fields };
        if let Some(field) = changed.fields.get_mut(index) {
            *field = replacement;
        }
        changed
    }

    fn encode(&self) -> Bytes {
        let length: usize = self.fields.iter().flatten().map(|field| field.len()).sum();
        let mut out = BytesMut::with_capacity(2 + length);
        let set = self.fields.iter().enumerate().filter(|(_, field)| field.is_some());
        out.put_u16(set.map(|(index, _)| 0x8000_u16 >> index).sum());
        self.fields.iter().flatten().for_each(|field| out.put_slice(field));
        out.freeze()
    }
}

/// Adds what a quorum queue says of earlier deliveries.
pub(super) fn with_counts(properties: &Bytes, deliveries: u32, acquired: u32) -> Bytes {
    let Some(parsed) = Properties::parse(properties) else { return properties.clone() };
    let mut headers = parsed.headers();
    headers.set("x-delivery-count", Value::I64(deliveries.into()));
    headers.set("x-acquired-count", Value::I64(acquired.into()));
    parsed.with_headers(&headers)
}

/// Properties that the broker makes itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    fields: [Option<Vec<u8>>; COUNT],
}

impl Draft {
    /// Of a persistent message.
    pub(super) fn persistent() -> Self {
        let mut draft = Self::default();
        draft.set(DELIVERY_MODE, vec![2]);
        draft
    }

    /// Sets the property of that name, unless there is none, or it cannot have this value. Who wrote
    /// it is not for a record to say.
    pub(super) fn text(&mut self, name: &str, value: &[u8]) {
        let known = NAMES.iter().zip(SHAPES).position(|(known, _)| *known == name);
        let Some(index) = known.filter(|index| *index != USER_ID) else { return };
        let field = match (SHAPES.get(index), std::str::from_utf8(value)) {
            (Some(Shape::Short), Ok(_)) if value.len() <= usize::from(u8::MAX) => {
                let mut field = BytesMut::new();
                put_short(value, &mut field);
                field.to_vec()
            }
            (Some(Shape::Octet), Ok(text)) => match text.parse() {
                Ok(octet) => vec![octet],
                Err(_) => return,
            },
            _ => return,
        };
        self.set(index, field);
    }

    pub(super) fn headers(&mut self, headers: &Arguments) {
        let mut encoded = BytesMut::new();
        table::encode(headers, &mut encoded);
        self.set(HEADERS, encoded.to_vec());
    }

    /// In seconds since 1970.
    pub(super) fn timestamp(&mut self, seconds: u64) {
        self.set(TIMESTAMP, seconds.to_be_bytes().to_vec());
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut fields = [None; COUNT];
        fields.iter_mut().zip(&self.fields).for_each(|(to, from)| *to = from.as_deref());
        Properties { fields }.encode()
    }

    fn set(&mut self, index: usize, value: Vec<u8>) {
        if let Some(field) = self.fields.get_mut(index) {
            *field = Some(value);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Short,
    Table,
    Octet,
    Long,
}

const COUNT: usize = 14;
const SHAPES: [Shape; COUNT] = [
    Shape::Short, // content-type
    Shape::Short, // content-encoding
    Shape::Table, // headers
    Shape::Octet, // delivery-mode
    Shape::Octet, // priority
    Shape::Short, // correlation-id
    Shape::Short, // reply-to
    Shape::Short, // expiration
    Shape::Short, // message-id
    Shape::Long,  // timestamp
    Shape::Short, // type
    Shape::Short, // user-id
    Shape::Short, // app-id
    Shape::Short, // cluster-id
];
const NAMES: [&str; COUNT] = [
    "content-type",
    "content-encoding",
    "headers",
    "delivery-mode",
    "priority",
    "correlation-id",
    "reply-to",
    "expiration",
    "message-id",
    "timestamp",
    "type",
    "user-id",
    "app-id",
    "cluster-id",
];
const HEADERS: usize = 2;
const DELIVERY_MODE: usize = 3;
const PRIORITY: usize = 4;
const CORRELATION_ID: usize = 5;
const REPLY_TO: usize = 6;
const EXPIRATION: usize = 7;
const MESSAGE_ID: usize = 8;
const TIMESTAMP: usize = 9;
const USER_ID: usize = 11;

#[cfg(test)]
mod tests {
    use super::*;

    /// content-type "a", delivery-mode 2, expiration "500"
    const BYTES: &[u8] = &[0x91, 0, 1, b'a', 2, 3, b'5', b'0', b'0'];

    #[test]
    fn fields_are_found_where_they_stand() {
        let properties = Properties::parse(BYTES).unwrap();
        assert!(properties.is_persistent());
        assert_eq!(properties.expiration(), Some("500"));
        assert_eq!(properties.reply_to(), None);
        assert_eq!(properties.encode(), BYTES);
        for length in 0..BYTES.len() {
            assert!(Properties::parse(&BYTES[..length]).is_none(), "at {length}");
        }
    }

    #[test]
    fn a_dead_letter_loses_its_expiration_and_keeps_the_rest() {
        let headers: Arguments = [("why", Value::text("late"))].into_iter().collect();
        let buried = Properties::parse(BYTES).unwrap().buried(&headers);
        let properties = Properties::parse(&buried).unwrap();
        assert_eq!(properties.expiration(), None);
        assert_eq!(properties.headers(), headers);
        assert!(properties.is_persistent());
        assert_eq!(properties.text(0), Some("a"));
    }
}
