//! Field tables and arrays in RabbitMQ's dialect of §4.2.5.5.
//!
//! Two forms. Raw ([`RawTable`], [`TableRef`], [`FieldRef`]): the bytes as they came, checked once
//! without recursion, then read lazily, order and duplicates kept. Owned ([`Table`], [`Value`]): to
//! build and to change. Whatever is `Raw` or `Ref` has passed the check.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::ids::ShortStr;
use crate::wire::{Field, Malformed, Reader, Writer};

/// Tables and arrays may be nested this deep, the outermost counted.
pub(crate) const DEPTH_MAX: usize = 32;
/// Entries and elements in one table at all depths, those without any width counted too.
pub(crate) const FIELDS_MAX: usize = 4096;

/// A checked field table: the bytes behind its length.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct RawTable(Bytes);

/// A borrowed view of a checked field table.
#[derive(Clone, Copy, Default)]
pub struct TableRef<'a>(&'a [u8]);

/// A borrowed view of a checked array.
#[derive(Clone, Copy, Default)]
pub struct ArrayRef<'a>(&'a [u8]);

/// One value of a checked table, borrowed. The letter is its type on the wire.
#[derive(Clone, Copy, Debug)]
pub enum FieldRef<'a> {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`: RabbitMQ's dialect; the specification says short string.
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`, and `L`, which RabbitMQ reads as signed too.
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: decimal places and the digits.
    Decimal(u8, u32),
    /// `S`: any bytes.
    Str(&'a [u8]),
    /// `x`: any bytes.
    Binary(&'a [u8]),
    /// `T`: seconds since 1970.
    Timestamp(u64),
    /// `A`
    Array(ArrayRef<'a>),
    /// `F`
    Table(TableRef<'a>),
    /// `V`
    Void,
}

/// A field table to build or to change, order kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table(pub Vec<(ShortStr, Value)>);

/// An array to build or to change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Array(pub Vec<Value>);

/// An owned value; see [`FieldRef`] for the letters.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`
    Decimal(u8, u32),
    /// `S`
    Str(Bytes),
    /// `x`
    Binary(Bytes),
    /// `T`
    Timestamp(u64),
    /// `A`
    Array(Array),
    /// `F`
    Table(Table),
    /// `V`
    Void,
}

impl RawTable {
    /// Checks `bytes`, the content of a table without its length.
    ///
    /// # Errors
    /// If they are no table, one nested deeper than 32 or with more than 4096
    /// fields.
    pub fn new(bytes: Bytes) -> Result<Self, Malformed> {
        check_table(&bytes)?;
        Ok(Self(bytes))
    }

    /// The table to look into.
    #[must_use]
    pub fn view(&self) -> TableRef<'_> {
        TableRef(&self.0)
    }

    /// The last value under `name`: of duplicates the last wins, as in RabbitMQ.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<FieldRef<'_>> {
        self.view().get(name)
    }

    /// The bytes without the length.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Whether it has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> TableRef<'a> {
    /// Looks at a table that was checked as part of a larger one.
    pub(crate) const fn trusted(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Names and values in the order they were sent.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], FieldRef<'a>)> {
        let mut rest = Cursor(self.0);
        std::iter::from_fn(move || Some((rest.name().ok()?, rest.field().ok()?)))
    }

    /// The last value under `name`.
    #[must_use]
    pub fn get(self, name: &str) -> Option<FieldRef<'a>> {
        self.iter().filter(|(key, _)| *key == name.as_bytes()).last().map(|(_, value)| value)
    }

    /// An owned copy. Recursion here goes as deep as the check allowed, at most 32.
    #[must_use]
    pub fn to_table(self) -> Table {
        let entry = |(name, value): (&[u8], FieldRef<'_>)| {
            (ShortStr::try_from(name).unwrap_or_default(), value.to_value())
        };
        Table(self.iter().map(entry).collect())
    }
}

impl<'a> ArrayRef<'a> {
    /// The elements in order.
    pub fn iter(self) -> impl Iterator<Item = FieldRef<'a>> {
        let mut rest = Cursor(self.0);
        std::iter::from_fn(move || rest.field().ok())
    }
}

impl<'a> FieldRef<'a> {
    /// The integer in it, whatever its width: RabbitMQ compares integers by value.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            Self::I8(n) => Some(n.into()),
            Self::U8(n) => Some(n.into()),
            Self::I16(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::I32(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::I64(n) => Some(n),
            _ => None,
        }
    }

    /// The bytes of a long string.
    #[must_use]
    pub const fn as_bytes(&self) -> Option<&'a [u8]> {
        if let Self::Str(bytes) = self { Some(bytes) } else { None }
    }

    /// The text of a long string, if it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// The truth value of a `t`.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(truth) = self { Some(*truth) } else { None }
    }

    /// RabbitMQ's word for the type, as it stands in the texts about inequivalent arguments.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::I8(_) => "byte",
            Self::U8(_) => "unsignedbyte",
            Self::I16(_) => "short",
            Self::U16(_) => "unsignedshort",
            Self::I32(_) => "signedint",
            Self::U32(_) => "unsignedint",
            Self::I64(_) => "long",
            Self::F32(_) => "float",
            Self::F64(_) => "double",
            Self::Decimal(..) => "decimal",
            Self::Str(_) => "longstr",
            Self::Binary(_) => "binary",
            Self::Timestamp(_) => "timestamp",
            Self::Array(_) => "array",
            Self::Table(_) => "table",
            Self::Void => "void",
        }
    }

    /// An owned copy.
    #[must_use]
    pub fn to_value(self) -> Value {
        match self {
            Self::Bool(truth) => Value::Bool(truth),
            Self::I8(n) => Value::I8(n),
            Self::U8(n) => Value::U8(n),
            Self::I16(n) => Value::I16(n),
            Self::U16(n) => Value::U16(n),
            Self::I32(n) => Value::I32(n),
            Self::U32(n) => Value::U32(n),
            Self::I64(n) => Value::I64(n),
            Self::F32(n) => Value::F32(n),
            Self::F64(n) => Value::F64(n),
            Self::Decimal(places, digits) => Value::Decimal(places, digits),
            Self::Str(bytes) => Value::Str(Bytes::copy_from_slice(bytes)),
            Self::Binary(bytes) => Value::Binary(Bytes::copy_from_slice(bytes)),
            Self::Timestamp(seconds) => Value::Timestamp(seconds),
            Self::Array(array) => Value::Array(Array(array.iter().map(Self::to_value).collect())),
            Self::Table(table) => Value::Table(table.to_table()),
            Self::Void => Value::Void,
        }
    }
}

impl Table {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The table with one more entry at its end.
    ///
    /// # Panics
    /// If `name` has more than 255 bytes: it is a literal.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((ShortStr::from_static(name), value.into()));
        self
    }

    /// Puts `value` under `name` in the place of the first that was there, or at the end.
    pub fn set(&mut self, name: ShortStr, value: impl Into<Value>) {
        let value = value.into();
        match self.0.iter_mut().find(|(key, _)| *key == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// The last value under `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().rfind(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Takes every value under `name` out; gives back the last.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let removed = self.get(name).cloned();
        self.0.retain(|(key, _)| *key != name);
        removed
    }

    /// The table as bytes, ready to be sent.
    ///
    /// # Errors
    /// If it is nested or grown beyond what the check of a received table allows.
    pub fn encode(&self) -> Result<RawTable, Malformed> {
        let mut out = BytesMut::new();
        self.write(&mut out);
        RawTable::new(out.freeze())
    }

    fn write(&self, out: &mut BytesMut) {
        for (name, value) in &self.0 {
            out.put_u8(name.wire_len());
            out.put_slice(name);
            value.write(out);
        }
    }
}

impl Value {
    fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Bool(truth) => tagged(out, b't', &[u8::from(*truth)]),
            Self::I8(n) => tagged(out, b'b', &n.to_be_bytes()),
            Self::U8(n) => tagged(out, b'B', &n.to_be_bytes()),
            Self::I16(n) => tagged(out, b's', &n.to_be_bytes()),
            Self::U16(n) => tagged(out, b'u', &n.to_be_bytes()),
            Self::I32(n) => tagged(out, b'I', &n.to_be_bytes()),
            Self::U32(n) => tagged(out, b'i', &n.to_be_bytes()),
            Self::I64(n) => tagged(out, b'l', &n.to_be_bytes()),
            Self::F32(n) => tagged(out, b'f', &n.to_be_bytes()),
            Self::F64(n) => tagged(out, b'd', &n.to_be_bytes()),
            Self::Timestamp(seconds) => tagged(out, b'T', &seconds.to_be_bytes()),
            Self::Void => tagged(out, b'V', &[]),
            Self::Decimal(places, digits) => {
                tagged(out, b'D', &[*places]);
                out.put_u32(*digits);
            }
            Self::Str(bytes) => {
                out.put_u8(b'S');
                Writer::new(out).long_bytes(bytes);
            }
            Self::Binary(bytes) => {
                out.put_u8(b'x');
                Writer::new(out).long_bytes(bytes);
            }
            Self::Array(Array(values)) => {
                out.put_u8(b'A');
                measured(out, |out| values.iter().for_each(|value| value.write(out)));
            }
            Self::Table(table) => {
                out.put_u8(b'F');
                measured(out, |out| table.write(out));
            }
        }
    }
}

fn tagged(out: &mut BytesMut, letter: u8, bytes: &[u8]) {
    out.put_u8(letter);
    out.put_slice(bytes);
}

/// Writes what `write` writes, with its length in bytes before it.
fn measured(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    write(out);
    let len = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&len.to_be_bytes());
    }
}

/// Walks a table of any depth without recursion: a stack of ends, bounded by 32.
pub(crate) fn check_table(bytes: &[u8]) -> Result<(), Malformed> {
    let mut open = Vec::new(); // what is left of the outer levels; allocates for nested tables only
    let mut level = Level { rest: Cursor(bytes), named: true };
    let mut fields = 0;
    loop {
        if level.rest.0.is_empty() {
            match open.pop() {
                Some(outer) => level = outer,
                None => return Ok(()),
            }
            continue;
        }
        fields += 1;
        if fields > FIELDS_MAX {
            return Err(Malformed::Fields(FIELDS_MAX));
        }
        if level.named {
            level.rest.name()?;
        }
        let inner = match level.rest.field()? {
            FieldRef::Table(TableRef(inner)) => Level { rest: Cursor(inner), named: true },
            FieldRef::Array(ArrayRef(inner)) => Level { rest: Cursor(inner), named: false },
            _ => continue,
        };
        if open.len() + 2 > DEPTH_MAX {
            return Err(Malformed::Depth(DEPTH_MAX));
        }
        open.push(std::mem::replace(&mut level, inner));
    }
}

struct Level<'a> {
    rest: Cursor<'a>,
    named: bool,
}

/// Reads values one after the other; a table or an array is taken whole, unread.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(*array)
    }

    fn slice(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (slice, rest) = self.0.split_at_checked(len).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(slice)
    }

    fn name(&mut self) -> Result<&'a [u8], Malformed> {
        let [len] = self.array()?;
        self.slice(len.into())
    }

    fn long(&mut self) -> Result<&'a [u8], Malformed> {
        let len = u32::from_be_bytes(self.array()?);
        self.slice(usize::try_from(len).map_err(|_| Malformed::Truncated)?)
    }

    fn field(&mut self) -> Result<FieldRef<'a>, Malformed> {
        let [letter] = self.array()?;
        Ok(match letter {
            b't' => FieldRef::Bool(self.array::<1>()? != [0]),
            b'b' => FieldRef::I8(i8::from_be_bytes(self.array()?)),
            b'B' => FieldRef::U8(u8::from_be_bytes(self.array()?)),
            b's' => FieldRef::I16(i16::from_be_bytes(self.array()?)),
            b'u' => FieldRef::U16(u16::from_be_bytes(self.array()?)),
            b'I' => FieldRef::I32(i32::from_be_bytes(self.array()?)),
            b'i' => FieldRef::U32(u32::from_be_bytes(self.array()?)),
            b'l' | b'L' => FieldRef::I64(i64::from_be_bytes(self.array()?)),
            b'f' => FieldRef::F32(f32::from_be_bytes(self.array()?)),
            b'd' => FieldRef::F64(f64::from_be_bytes(self.array()?)),
            b'T' => FieldRef::Timestamp(u64::from_be_bytes(self.array()?)),
            b'D' => {
                let [places] = self.array()?;
                FieldRef::Decimal(places, u32::from_be_bytes(self.array()?))
            }
            b'S' => FieldRef::Str(self.long()?),
            b'x' => FieldRef::Binary(self.long()?),
            b'A' => FieldRef::Array(ArrayRef(self.long()?)),
            b'F' => FieldRef::Table(TableRef(self.long()?)),
            b'V' => FieldRef::Void,
            unknown => return Err(Malformed::FieldType(unknown)),
        })
    }
}

impl Field for RawTable {
    fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        Self::new(reader.long_bytes()?)
    }
    fn write(&self, writer: &mut Writer<'_>) {
        writer.long_bytes(&self.0);
    }
}

macro_rules! values_from {
    ($($type:ty => $variant:ident,)*) => { $(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        }
    )* };
}
values_from! {
    bool => Bool, i8 => I8, u8 => U8, i16 => I16, u16 => U16, i32 => I32, u32 => U32, i64 => I64,
    f32 => F32, f64 => F64, Bytes => Str, Table => Table, Array => Array,
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Str(Bytes::from_static(text.as_bytes()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(Bytes::from(text))
    }
}

impl fmt::Debug for RawTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

impl fmt::Debug for TableRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(name, value)| (String::from_utf8_lossy(name), value)))
            .finish()
    }
}

impl fmt::Debug for ArrayRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests;
