//! Reading and writing the elementary types of §4.2.5, and what can be wrong with them.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::ids::{DeliveryTag, ShortStr};

/// Bytes that are not what the protocol says: answered with 502 `SYNTAX_ERROR`, never skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The bytes end inside a field.
    #[error("the frame ends inside a field")]
    Truncated,
    /// Bytes are left over behind the last field.
    #[error("{0} octets left behind the last field")]
    Trailing(usize),
    /// A field table holds a value of a type RabbitMQ does not know.
    #[error("unknown field type {0}")]
    FieldType(u8),
    /// Tables and arrays nested deeper than the given bound.
    #[error("field tables nested deeper than {0}")]
    Depth(usize),
    /// More fields in one table, at all depths, than the given bound.
    #[error("more than {0} fields in a table")]
    Fields(usize),
    /// The property flags go on in a second word; class basic has no fifteenth property.
    #[error("unknown property flags {0:#06x}")]
    PropertyFlags(u16),
}

/// A cursor over the arguments of one method. Strings it hands out share the frame's memory.
#[derive(Debug)]
pub(crate) struct Reader {
    bytes: Bytes,
    octet: u8,
    bits_left: u8,
}

impl Reader {
    pub(crate) const fn new(bytes: Bytes) -> Self {
        Self { bytes, octet: 0, bits_left: 0 }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bits_left = 0;
        let array = *self.bytes.first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.bytes.advance(N);
        Ok(array)
    }

    fn bytes(&mut self, len: usize) -> Result<Bytes, Malformed> {
        if self.bytes.len() < len {
            return Err(Malformed::Truncated);
        }
        Ok(self.bytes.split_to(len))
    }

    fn bit(&mut self) -> Result<bool, Malformed> {
        if self.bits_left == 0 {
            let [octet] = self.array()?;
            (self.octet, self.bits_left) = (octet, 8);
        }
        let bit = self.octet & 1 == 1;
        self.octet >>= 1;
        self.bits_left -= 1;
        Ok(bit)
    }

    pub(crate) fn long_bytes(&mut self) -> Result<Bytes, Malformed> {
        let len = u32::read(self)?;
        self.bytes(usize::try_from(len).map_err(|_| Malformed::Truncated)?)
    }

    pub(crate) const fn finish(&self) -> Result<(), Malformed> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Malformed::Trailing(self.bytes.len())) }
    }
}

/// Writes fields behind each other; bits that follow one another share an octet.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    out: &'a mut BytesMut,
    next_bit: u8,
}

impl<'a> Writer<'a> {
    pub(crate) const fn new(out: &'a mut BytesMut) -> Self {
        Self { out, next_bit: 0 }
    }

    fn slice(&mut self, bytes: &[u8]) {
        self.next_bit = 0;
        self.out.put_slice(bytes);
    }

    fn bit(&mut self, bit: bool) {
        if self.next_bit == 0 {
            self.out.put_u8(0);
        }
        if let Some(octet) = self.out.last_mut() {
            *octet |= u8::from(bit) << self.next_bit;
        }
        self.next_bit = (self.next_bit + 1) % 8;
    }

    /// Writes a long string. One longer than 4 GiB does not exist here: bodies go in frames.
    pub(crate) fn long_bytes(&mut self, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.slice(&len.to_be_bytes());
        self.out.put_slice(bytes);
    }
}

/// One argument of a method.
pub(crate) trait Field: Sized {
    fn read(reader: &mut Reader) -> Result<Self, Malformed>;
    fn write(&self, writer: &mut Writer<'_>);
}

macro_rules! integer_fields {
    ($($type:ty)*) => { $(
        impl Field for $type {
            fn read(reader: &mut Reader) -> Result<Self, Malformed> {
                reader.array().map(Self::from_be_bytes)
            }
            fn write(&self, writer: &mut Writer<'_>) {
                writer.slice(&self.to_be_bytes());
            }
        }
    )* };
}
integer_fields!(u8 u16 u32 u64);

impl Field for bool {
    fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        reader.bit()
    }
    fn write(&self, writer: &mut Writer<'_>) {
        writer.bit(*self);
    }
}

impl Field for DeliveryTag {
    fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        u64::read(reader).map(Self)
    }
    fn write(&self, writer: &mut Writer<'_>) {
        self.0.write(writer);
    }
}

impl Field for ShortStr {
    fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        let len = u8::read(reader)?;
        let bytes = reader.bytes(usize::from(len))?;
        Self::try_from(bytes).map_err(|_| Malformed::Truncated)
    }
    fn write(&self, writer: &mut Writer<'_>) {
        writer.slice(&[self.wire_len()]);
        writer.slice(self);
    }
}

/// A long string: any bytes, a 32-bit length before them.
impl Field for Bytes {
    fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        reader.long_bytes()
    }
    fn write(&self, writer: &mut Writer<'_>) {
        writer.long_bytes(self);
    }
}

/// A field the specification keeps for itself: read over, written empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved<T>(std::marker::PhantomData<T>);

impl<T: Field + Default> Field for Reserved<T> {
    fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        T::read(reader).map(|_| Self::default())
    }
    fn write(&self, writer: &mut Writer<'_>) {
        T::default().write(writer);
    }
}
