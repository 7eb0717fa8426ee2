//! The 14 properties of a message (§1.8.1): verbatim bytes that are checked once and read lazily,
//! and an owned form to build and to change them.

use bytes::{BufMut, Bytes, BytesMut};

use crate::ids::ShortStr;
use crate::value::{RawTable, TableRef, check_table};
use crate::wire::{Field, Malformed, Reader, Writer};

/// Whether a message outlives a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryMode {
    /// 1, absent, or any other number: it need not.
    #[default]
    Transient,
    /// 2: it does.
    Persistent,
}

/// A checked property list as it came: the flags and the fields, spliced into deliveries as is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties(Bytes);

/// The shape of each property, in the order of the flags from bit 15 down.
const SHAPES: [Shape; 14] = [
    Shape::Short,    // content-type
    Shape::Short,    // content-encoding
    Shape::Long,     // headers
    Shape::Fixed(1), // delivery-mode
    Shape::Fixed(1), // priority
    Shape::Short,    // correlation-id
    Shape::Short,    // reply-to
    Shape::Short,    // expiration
    Shape::Short,    // message-id
    Shape::Fixed(8), // timestamp
    Shape::Short,    // type
    Shape::Short,    // user-id
    Shape::Short,    // app-id
    Shape::Short,    // cluster-id
];

#[derive(Clone, Copy)]
enum Shape {
    Short,
    Long,
    Fixed(usize),
}

const CONTENT_TYPE: usize = 0;
const CONTENT_ENCODING: usize = 1;
const HEADERS: usize = 2;
const DELIVERY_MODE: usize = 3;
const PRIORITY: usize = 4;
const CORRELATION_ID: usize = 5;
const REPLY_TO: usize = 6;
const EXPIRATION: usize = 7;
const MESSAGE_ID: usize = 8;
const TIMESTAMP: usize = 9;
const TYPE: usize = 10;
const USER_ID: usize = 11;
const APP_ID: usize = 12;

impl Default for Properties {
    /// No property at all.
    fn default() -> Self {
        Self(Bytes::from_static(&[0, 0]))
    }
}

impl Properties {
    /// Checks flags and fields: what is passed on to a consumer must not be what breaks it.
    ///
    /// # Errors
    /// If the flags name more than 14 properties, a field is cut or the header table is malformed,
    /// or octets are left over.
    pub fn new(bytes: Bytes) -> Result<Self, Malformed> {
        Self::check(&bytes)?;
        Ok(Self(bytes))
    }

    /// What [`new`](Self::new) checks.
    pub(crate) fn check(bytes: &[u8]) -> Result<(), Malformed> {
        let mut fields = Fields::new(bytes)?;
        if fields.flags & 1 != 0 {
            return Err(Malformed::PropertyFlags(fields.flags));
        }
        let mut left = fields.flags & !0b11; // the properties still to come: mostly one or two
        while left != 0 {
            let property = left.leading_zeros();
            left &= !(0x8000 >> property);
            let property = usize::try_from(property).unwrap_or(usize::MAX);
            let Some(shape) = SHAPES.get(property) else { break };
            let field = fields.take(*shape)?;
            if property == HEADERS {
                check_table(field)?;
            }
        }
        if fields.rest.is_empty() { Ok(()) } else { Err(Malformed::Trailing(fields.rest.len())) }
    }

    /// Takes bytes that passed [`new`](Self::new) before they were stored.
    #[must_use]
    pub const fn trusted(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Flags and fields as they came.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// `content-type`, a MIME type.
    #[must_use]
    pub fn content_type(&self) -> Option<&[u8]> {
        self.find(CONTENT_TYPE)
    }

    /// `content-encoding`.
    #[must_use]
    pub fn content_encoding(&self) -> Option<&[u8]> {
        self.find(CONTENT_ENCODING)
    }

    /// `headers`, the application's own table.
    #[must_use]
    pub fn headers(&self) -> Option<TableRef<'_>> {
        self.find(HEADERS).map(TableRef::trusted)
    }

    /// `delivery-mode`.
    #[must_use]
    pub fn delivery_mode(&self) -> DeliveryMode {
        match self.find(DELIVERY_MODE) {
            Some([2]) => DeliveryMode::Persistent,
            _ => DeliveryMode::Transient,
        }
    }

    /// `priority`, 0 to 255.
    #[must_use]
    pub fn priority(&self) -> Option<u8> {
        self.find(PRIORITY).and_then(<[u8]>::first).copied()
    }

    /// `correlation-id`.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&[u8]> {
        self.find(CORRELATION_ID)
    }

    /// `reply-to`.
    #[must_use]
    pub fn reply_to(&self) -> Option<&[u8]> {
        self.find(REPLY_TO)
    }

    /// `expiration`: milliseconds, written in decimal digits.
    #[must_use]
    pub fn expiration(&self) -> Option<&[u8]> {
        self.find(EXPIRATION)
    }

    /// `message-id`.
    #[must_use]
    pub fn message_id(&self) -> Option<&[u8]> {
        self.find(MESSAGE_ID)
    }

    /// `timestamp`: seconds since 1970.
    #[must_use]
    pub fn timestamp(&self) -> Option<u64> {
        self.find(TIMESTAMP)?.first_chunk().copied().map(u64::from_be_bytes)
    }

    /// `type`.
    #[must_use]
    pub fn kind(&self) -> Option<&[u8]> {
        self.find(TYPE)
    }

    /// `user-id`: RabbitMQ checks it against the login.
    #[must_use]
    pub fn user_id(&self) -> Option<&[u8]> {
        self.find(USER_ID)
    }

    /// `app-id`.
    #[must_use]
    pub fn app_id(&self) -> Option<&[u8]> {
        self.find(APP_ID)
    }

    /// An owned copy, to change something.
    #[must_use]
    pub fn to_basic(&self) -> BasicProperties {
        BasicProperties::read(self.0.clone()).unwrap_or_default()
    }

    fn find(&self, wanted: usize) -> Option<&[u8]> {
        Fields::new(&self.0).and_then(|mut fields| fields.find(wanted)).ok().flatten()
    }
}

/// Walks the fields that the flags name, from the first on.
struct Fields<'a> {
    flags: u16,
    next: usize,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (flags, rest) = bytes.split_first_chunk().ok_or(Malformed::Truncated)?;
        Ok(Self { flags: u16::from_be_bytes(*flags), next: 0, rest })
    }

    const fn has(&self, property: usize) -> bool {
        self.flags & (0x8000 >> property) != 0
    }

    /// Goes on to property `wanted` and takes it, if it is there.
    fn find(&mut self, wanted: usize) -> Result<Option<&'a [u8]>, Malformed> {
        let mut found = None;
        for (property, shape) in SHAPES.iter().enumerate().take(wanted + 1).skip(self.next) {
            found = if self.has(property) { Some(self.take(*shape)?) } else { None };
        }
        self.next = self.next.max(wanted + 1);
        Ok(found.filter(|_| wanted < SHAPES.len()))
    }

    fn take(&mut self, shape: Shape) -> Result<&'a [u8], Malformed> {
        let (len, rest) = match shape {
            Shape::Fixed(len) => (len, self.rest),
            Shape::Short => {
                let (len, rest) = self.rest.split_first().ok_or(Malformed::Truncated)?;
                (usize::from(*len), rest)
            }
            Shape::Long => {
                let (len, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated)?;
                let len = usize::try_from(u32::from_be_bytes(*len));
                (len.map_err(|_| Malformed::Truncated)?, rest)
            }
        };
        let (field, rest) = rest.split_at_checked(len).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(field)
    }
}

macro_rules! basic_properties {
    ($( $(#[$doc:meta])* $bit:literal $field:ident : $type:ty, )*) => {
        /// The properties to build or to change.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct BasicProperties {
            $( $(#[$doc])* pub $field: Option<$type>, )*
        }

        impl BasicProperties {
            /// Flags and fields, ready to be sent.
            #[must_use]
            pub fn encode(&self) -> Properties {
                let mut out = BytesMut::new();
                out.put_u16(0 $( | (u16::from(self.$field.is_some()) << $bit) )*);
                let mut writer = Writer::new(&mut out);
                $( if let Some(field) = &self.$field { field.write(&mut writer); } )*
                Properties(out.freeze())
            }

            fn read(bytes: Bytes) -> Result<Self, Malformed> {
                let mut reader = Reader::new(bytes);
                let flags = u16::read(&mut reader)?;
                Ok(Self {
                    $( $field: if flags & (1 << $bit) == 0 { None } else { Some(Field::read(&mut reader)?) }, )*
                })
            }
        }
    };
}

basic_properties! {
    /// `content-type`, a MIME type.
    15 content_type: ShortStr,
    /// `content-encoding`.
    14 content_encoding: ShortStr,
    /// `headers`.
    13 headers: RawTable,
    /// `delivery-mode`: 2 is persistent.
    12 delivery_mode: u8,
    /// `priority`.
    11 priority: u8,
    /// `correlation-id`.
    10 correlation_id: ShortStr,
    /// `reply-to`.
    9 reply_to: ShortStr,
    /// `expiration`: milliseconds in decimal digits.
    8 expiration: ShortStr,
    /// `message-id`.
    7 message_id: ShortStr,
    /// `timestamp`: seconds since 1970.
    6 timestamp: u64,
    /// `type`.
    5 kind: ShortStr,
    /// `user-id`.
    4 user_id: ShortStr,
    /// `app-id`.
    3 app_id: ShortStr,
    /// `cluster-id`, deprecated.
    2 cluster_id: ShortStr,
}

#[cfg(test)]
mod tests;
