//! The small words of the protocol: channel numbers, delivery tags, method ids, short strings.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

/// The number of a channel on its connection. 0 is the connection itself (§2.3.5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u16);

impl ChannelId {
    /// The connection itself.
    pub const CONNECTION: Self = Self(0);
}

/// The number of a delivery, or of a publish in confirm mode, on its channel: counted from 1.
/// 0 means "all so far" where the peer sends it together with `multiple` (§1.8.3.13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryTag(pub u64);

impl DeliveryTag {
    /// The tag after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for DeliveryTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Class and method number, as they stand in a method frame and in the culprit fields of a close.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MethodId {
    /// The class: 10 connection, 20 channel, 40 exchange, 50 queue, 60 basic, 85 confirm, 90 tx.
    pub class: u16,
    /// The method in its class.
    pub method: u16,
}

impl MethodId {
    /// No method to blame: both fields 0 in the close.
    pub const NONE: Self = Self::new(0, 0);

    /// The method `method` of class `class`.
    #[must_use]
    pub const fn new(class: u16, method: u16) -> Self {
        Self { class, method }
    }
}

/// A string of at most 255 bytes. The protocol asks for UTF-8, RabbitMQ does not, so neither do we:
/// routing keys may be any bytes. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortStr(Bytes);

/// A name longer than the 255 bytes of a short string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes do not fit a short string of at most 255")]
pub struct TooLong {
    /// How long it was, in bytes.
    pub len: usize,
}

impl ShortStr {
    /// The longest short string, in bytes.
    pub const LEN_MAX: usize = 255;

    /// The empty string.
    #[must_use]
    pub const fn new() -> Self {
        Self(Bytes::new())
    }

    /// A literal.
    ///
    /// # Panics
    /// If it has more than 255 bytes: use it for literals only.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        assert!(text.len() <= Self::LEN_MAX, "a literal longer than a short string");
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// `text`, cut to 255 bytes at a character: for texts made to be read by people.
    #[must_use]
    pub fn cut(text: &str) -> Self {
        let end = text.floor_char_boundary(Self::LEN_MAX);
        Self(Bytes::copy_from_slice(text.get(..end).unwrap_or_default().as_bytes()))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, if it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The shared bytes.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Its length in front of it: never more than 255.
    pub(crate) fn wire_len(&self) -> u8 {
        u8::try_from(self.0.len()).unwrap_or(u8::MAX)
    }
}

impl TryFrom<Bytes> for ShortStr {
    type Error = TooLong;

    fn try_from(bytes: Bytes) -> Result<Self, TooLong> {
        if bytes.len() > Self::LEN_MAX {
            return Err(TooLong { len: bytes.len() });
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<&[u8]> for ShortStr {
    type Error = TooLong;

    fn try_from(bytes: &[u8]) -> Result<Self, TooLong> {
        if bytes.len() > Self::LEN_MAX {
            return Err(TooLong { len: bytes.len() });
        }
        Ok(Self(Bytes::copy_from_slice(bytes)))
    }
}

impl TryFrom<&str> for ShortStr {
    type Error = TooLong;

    fn try_from(text: &str) -> Result<Self, TooLong> {
        Self::try_from(text.as_bytes())
    }
}

impl TryFrom<String> for ShortStr {
    type Error = TooLong;

    fn try_from(text: String) -> Result<Self, TooLong> {
        Self::try_from(Bytes::from(text))
    }
}

impl Deref for ShortStr {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for ShortStr {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for ShortStr {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Display for ShortStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

impl fmt::Debug for ShortStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}
