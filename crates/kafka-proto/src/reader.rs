//! Decoding: the primitive types of the Kafka protocol, every length judged before it is believed.

use bytes::Bytes;

use crate::api::ApiVersion;
use crate::error_code::ErrorCode;
use crate::malformed::Malformed;
use crate::value::{Records, Str, Uuid};

/// Reads one frame from front to back. Strings and byte fields are slices of the frame.
///
/// Invariant: `at <= frame.len()`; array items over all arrays of the frame never exceed what `new` was given.
#[derive(Debug)]
pub(crate) struct Reader {
    frame: Bytes,
    at: usize,
    flexible: bool,
    items_left: usize,
    #[cfg(test)]
    pub(crate) dice: Option<crate::dice::Dice>,
}

/// The tagged fields of one struct while they are read.
#[derive(Debug)]
pub(crate) struct Tags {
    left: u32,
    tag: u32,
    end: Option<usize>,
}

impl Reader {
    /// Reads `frame`, allowing `items_max` array items in it altogether.
    pub(crate) fn new(frame: Bytes, items_max: usize) -> Self {
        Self {
            frame,
            at: 0,
            flexible: false,
            items_left: items_max,
            #[cfg(test)]
            dice: None,
        }
    }

    /// From here on lengths are compact and structs end in tagged fields, or not (KIP-482).
    pub(crate) fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    /// Bytes not read yet.
    fn left(&self) -> usize {
        self.frame.len().saturating_sub(self.at)
    }

    /// The next `N` bytes.
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        #[cfg(test)]
        if let Some(dice) = &mut self.dice {
            return Ok(dice.bytes());
        }
        let rest = self.frame.get(self.at..).unwrap_or_default();
        let Some(bytes) = rest.first_chunk::<N>() else {
            return Err(Malformed::Truncated { at: self.at, wanted: N });
        };
        self.at += N;
        Ok(*bytes)
    }

    /// The next `len` bytes, shared with the frame.
    fn slice(&mut self, len: usize) -> Result<Bytes, Malformed> {
        #[cfg(test)]
        if let Some(dice) = &mut self.dice {
            return Ok(dice.text(len));
        }
        if len > self.left() {
            return Err(Malformed::Truncated { at: self.at, wanted: len });
        }
        let bytes = self.frame.slice(self.at..self.at + len);
        self.at += len;
        Ok(bytes)
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Malformed> {
        Ok(self.i8()? != 0)
    }

    pub(crate) fn i8(&mut self) -> Result<i8, Malformed> {
        self.fixed().map(i8::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, Malformed> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.fixed().map(u16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        self.fixed().map(i64::from_be_bytes)
    }

    pub(crate) fn f64(&mut self) -> Result<f64, Malformed> {
        self.fixed().map(f64::from_be_bytes)
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, Malformed> {
        self.fixed().map(Uuid)
    }

    pub(crate) fn err(&mut self) -> Result<ErrorCode, Malformed> {
        self.i16().map(ErrorCode)
    }

    /// An unsigned varint of at most 32 bits in at most five bytes.
    pub(crate) fn uvarint(&mut self) -> Result<u32, Malformed> {
        let start = self.at;
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed::<1>()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| Malformed::Varint { at: start });
            }
        }
        Err(Malformed::Varint { at: start })
    }

    /// A length: compact when flexible, else of the given width. `None` is null.
    fn length(&mut self, short: bool, nullable: bool) -> Result<Option<usize>, Malformed> {
        #[cfg(test)]
        if let Some(dice) = &mut self.dice {
            return Ok(dice.length(nullable));
        }
        let at = self.at;
        let len = if self.flexible {
            self.uvarint()?.checked_sub(1)
        } else {
            let len = if short { i32::from(self.i16()?) } else { self.i32()? };
            match u32::try_from(len) {
                Ok(len) => Some(len),
                Err(_) if len == -1 => None,
                Err(_) => return Err(Malformed::NegativeLength { at, len }),
            }
        };
        match len {
            None if !nullable => Err(Malformed::Null { at }),
            None => Ok(None),
            // on a 16-bit machine a length may not fit: then it is not in the frame either
            Some(len) => Ok(Some(usize::try_from(len).unwrap_or(usize::MAX))),
        }
    }

    /// A string that may be null if `nullable`.
    pub(crate) fn nstr(&mut self, nullable: bool) -> Result<Option<Str>, Malformed> {
        let Some(len) = self.length(true, nullable)? else { return Ok(None) };
        let at = self.at;
        let bytes = self.slice(len)?;
        Str::from_utf8(bytes).map(Some).ok_or(Malformed::NotUtf8 { at })
    }

    pub(crate) fn str(&mut self) -> Result<Str, Malformed> {
        self.nstr(false).map(Option::unwrap_or_default)
    }

    /// A byte field that may be null if `nullable`.
    pub(crate) fn nbytes(&mut self, nullable: bool) -> Result<Option<Bytes>, Malformed> {
        let Some(len) = self.length(false, nullable)? else { return Ok(None) };
        self.slice(len).map(Some)
    }

    /// Record batches, in one piece, that may be null if `nullable`.
    pub(crate) fn npieces(&mut self, nullable: bool) -> Result<Option<Records>, Malformed> {
        Ok(self.nbytes(nullable)?.map(Records::from))
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, Malformed> {
        self.nbytes(false).map(Option::unwrap_or_default)
    }

    /// The number of items of an array, judged against the bytes left and the items left.
    fn count(&mut self, nullable: bool, item_bytes_min: usize) -> Result<Option<usize>, Malformed> {
        let at = self.at;
        let Some(count) = self.length(false, nullable)? else { return Ok(None) };
        #[cfg(test)]
        if self.dice.is_some() {
            return Ok(Some(count));
        }
        let left = self.left();
        if count > left / item_bytes_min.max(1) {
            return Err(Malformed::ArrayTooLong { at, count, left });
        }
        self.items_left =
            self.items_left.checked_sub(count).ok_or(Malformed::TooManyItems { at })?;
        Ok(Some(count))
    }

    /// An array whose items take at least `item_bytes_min` bytes each.
    pub(crate) fn array<T>(
        &mut self,
        item_bytes_min: usize,
        version: ApiVersion,
        item: fn(&mut Self, ApiVersion) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        self.narray(false, item_bytes_min, version, item).map(Option::unwrap_or_default)
    }

    /// The same, and null if `nullable`.
    pub(crate) fn narray<T>(
        &mut self,
        nullable: bool,
        item_bytes_min: usize,
        version: ApiVersion,
        item: fn(&mut Self, ApiVersion) -> Result<T, Malformed>,
    ) -> Result<Option<Vec<T>>, Malformed> {
        let Some(count) = self.count(nullable, item_bytes_min)? else { return Ok(None) };
        let mut items = Vec::with_capacity(count.min(ITEMS_AT_ONCE_MAX));
        for _ in 0..count {
            items.push(item(self, version)?);
        }
        Ok(Some(items))
    }

    /// A struct that may be null: one byte, negative for null, then the struct.
    pub(crate) fn nstruct<T>(
        &mut self,
        version: ApiVersion,
        item: fn(&mut Self, ApiVersion) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.i8()? < 0 { Ok(None) } else { item(self, version).map(Some) }
    }

    /// Starts the tagged fields at the end of a struct; there are none unless flexible.
    pub(crate) fn tags(&mut self) -> Result<Tags, Malformed> {
        #[cfg(test)]
        if let Some(dice) = &mut self.dice {
            let left = if self.flexible { dice.below(4) } else { 0 };
            return Ok(Tags { left, tag: 0, end: None });
        }
        let at = self.at;
        let left = if self.flexible { self.uvarint()? } else { 0 };
        let count = usize::try_from(left).unwrap_or(usize::MAX);
        if count > self.left() / TAG_BYTES_MIN {
            return Err(Malformed::ArrayTooLong { at, count, left: self.left() });
        }
        Ok(Tags { left, tag: 0, end: None })
    }

    /// The next tag, whose value the caller reads or skips. Checks that the previous value had its size.
    pub(crate) fn tag(&mut self, tags: &mut Tags) -> Result<Option<u32>, Malformed> {
        if tags.end.is_some_and(|end| end != self.at) {
            return Err(Malformed::TagSize { tag: tags.tag, at: self.at });
        }
        let Some(left) = tags.left.checked_sub(1) else { return Ok(None) };
        tags.left = left;
        #[cfg(test)]
        if let Some(dice) = &mut self.dice {
            return Ok(Some(dice.below(4)));
        }
        tags.tag = self.uvarint()?;
        let size = usize::try_from(self.uvarint()?).unwrap_or(usize::MAX);
        if size > self.left() {
            return Err(Malformed::Truncated { at: self.at, wanted: size });
        }
        tags.end = Some(self.at + size);
        Ok(Some(tags.tag))
    }

    /// Skips the value of a tag that this side does not know.
    pub(crate) fn skip_tag(&mut self, tags: &Tags) {
        if let Some(end) = tags.end {
            self.at = end;
        }
    }

    /// Skips all tagged fields of a struct that has none of its own.
    pub(crate) fn skip_tags(&mut self) -> Result<(), Malformed> {
        let mut tags = self.tags()?;
        while self.tag(&mut tags)?.is_some() {
            self.skip_tag(&tags);
        }
        Ok(())
    }
}

/// Items an array gets room for at once; longer arrays grow as their items turn out to be there.
const ITEMS_AT_ONCE_MAX: usize = 1024;
/// A tagged field is at least its tag and its size.
const TAG_BYTES_MIN: usize = 2;
