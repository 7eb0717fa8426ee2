//! Field tables of AMQP 0-9-1 (§4.2.5.5, RabbitMQ's dialect) as they stand in stored property bytes.
//! The codec has judged them when they came; here they are read when a feature looks at headers.

use bytes::{BufMut, BytesMut};

use crate::value::{Arguments, Value};

/// The table in `bytes` (without its length); `None` if it is malformed or nested too deep.
pub(super) fn decode(bytes: &[u8]) -> Option<Arguments> {
    table(bytes, DEPTH_MAX)
}

/// The table with its length in front.
pub(super) fn encode(arguments: &Arguments, out: &mut BytesMut) {
    let start = out.len();
    out.put_u32(0);
    for (name, value) in arguments.iter() {
        put_short(name.as_bytes(), out);
        put_value(value, out);
    }
    put_length(start, out);
}

fn table(bytes: &[u8], depth: u8) -> Option<Arguments> {
    let mut reader = Reader(bytes);
    let mut arguments = Arguments::new();
    while !reader.0.is_empty() {
        let length = usize::from(reader.u8()?);
        let name = String::from_utf8_lossy(reader.take(length)?).into_owned();
        arguments.push(name, reader.value(depth)?);
    }
    Some(arguments)
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
        self.array().map(u8::from_be_bytes)
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_be_bytes(self.array()?);
        self.take(usize::try_from(length).ok()?)
    }

    fn value(&mut self, depth: u8) -> Option<Value> {
        Some(match self.u8()? {
            b't' => Value::Bool(self.u8()? != 0),
            b'b' => Value::I8(i8::from_be_bytes(self.array()?)),
            b'B' => Value::U8(self.u8()?),
            b's' => Value::I16(i16::from_be_bytes(self.array()?)),
            b'u' => Value::U16(u16::from_be_bytes(self.array()?)),
            b'I' => Value::I32(i32::from_be_bytes(self.array()?)),
            b'i' => Value::U32(u32::from_be_bytes(self.array()?)),
            b'l' | b'L' => Value::I64(i64::from_be_bytes(self.array()?)),
            b'f' => Value::F32(f32::from_be_bytes(self.array()?)),
            b'd' => Value::F64(f64::from_be_bytes(self.array()?)),
            b'D' => {
                let scale = self.u8()?;
                Value::Decimal { scale, value: u32::from_be_bytes(self.array()?) }
            }
            b'S' => Value::LongString(self.long()?.to_vec()),
            b'A' => {
                let depth = depth.checked_sub(1)?;
                let mut inner = Reader(self.long()?);
                let mut values = Vec::new();
                while !inner.0.is_empty() {
                    values.push(inner.value(depth)?);
                }
                Value::Array(values)
            }
            b'T' => Value::Timestamp(u64::from_be_bytes(self.array()?)),
            b'F' => Value::Table(table(self.long()?, depth.checked_sub(1)?)?),
            b'V' => Value::Void,
            b'x' => Value::Bytes(self.long()?.to_vec()),
            _ => return None,
        })
    }
}

fn put_value(value: &Value, out: &mut BytesMut) {
    match value {
        Value::Bool(b) => out.put_slice(&[b't', u8::from(*b)]),
        Value::I8(n) => put(b'b', &n.to_be_bytes(), out),
        Value::U8(n) => put(b'B', &n.to_be_bytes(), out),
        Value::I16(n) => put(b's', &n.to_be_bytes(), out),
        Value::U16(n) => put(b'u', &n.to_be_bytes(), out),
        Value::I32(n) => put(b'I', &n.to_be_bytes(), out),
        Value::U32(n) => put(b'i', &n.to_be_bytes(), out),
        Value::I64(n) => put(b'l', &n.to_be_bytes(), out),
        Value::F32(n) => put(b'f', &n.to_be_bytes(), out),
        Value::F64(n) => put(b'd', &n.to_be_bytes(), out),
        Value::Decimal { scale, value } => {
            out.put_slice(&[b'D', *scale]);
            out.put_u32(*value);
        }
        Value::LongString(octets) => put_long(b'S', octets, out),
        Value::Bytes(octets) => put_long(b'x', octets, out),
        Value::Array(values) => {
            out.put_u8(b'A');
            let start = out.len();
            out.put_u32(0);
            values.iter().for_each(|value| put_value(value, out));
            put_length(start, out);
        }
        Value::Timestamp(seconds) => put(b'T', &seconds.to_be_bytes(), out),
        Value::Table(arguments) => {
            out.put_u8(b'F');
            encode(arguments, out);
        }
        Value::Void => out.put_u8(b'V'),
    }
}

fn put(kind: u8, octets: &[u8], out: &mut BytesMut) {
    out.put_u8(kind);
    out.put_slice(octets);
}

fn put_long(kind: u8, octets: &[u8], out: &mut BytesMut) {
    out.put_u8(kind);
    out.put_u32(u32::try_from(octets.len()).unwrap_or(u32::MAX)); // a message is far smaller
    out.put_slice(octets);
}

/// A short string; cut at 255 bytes, which no decoded one exceeds.
pub(super) fn put_short(octets: &[u8], out: &mut BytesMut) {
    let octets = octets.get(..usize::from(u8::MAX)).unwrap_or(octets);
    out.put_u8(u8::try_from(octets.len()).unwrap_or(u8::MAX));
    out.put_slice(octets);
}

/// Writes the length of what stands behind `start` there.
fn put_length(start: usize, out: &mut BytesMut) {
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Tables and arrays inside one another.
const DEPTH_MAX: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_value_is_read_as_it_was_written() {
        let inner: Arguments = [("k", Value::I64(-1))].into_iter().collect();
        let all: Arguments = [
            ("t", Value::Bool(true)),
            ("b", Value::I8(-8)),
            ("B", Value::U8(8)),
            ("s", Value::I16(-16)),
            ("u", Value::U16(16)),
            ("I", Value::I32(-32)),
            ("i", Value::U32(32)),
            ("f", Value::F32(1.5)),
            ("d", Value::F64(2.5)),
            ("D", Value::Decimal { scale: 2, value: 314 }),
            ("S", Value::text("text")),
            ("A", Value::Array(vec![Value::Void, Value::Table(inner.clone())])),
            ("T", Value::Timestamp(1_700_000_000)),
            ("F", Value::Table(inner)),
            ("x", Value::Bytes(vec![0, 255])),
        ]
        .into_iter()
        .collect();
        let mut out = BytesMut::new();
        encode(&all, &mut out);
        assert_eq!(decode(&out[4..]), Some(all));
        for length in 1..out.len() - 4 {
            let _ = decode(&out[4..4 + length]); // a cut table is refused or shorter, never a panic
        }
    }

    #[test]
    fn tables_inside_one_another_are_bounded() {
        let mut bytes = Vec::new();
        for _ in 0..1000 {
            let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
            bytes = [&[1, b'k', b'F'], &length[..], &bytes].concat();
        }
        assert_eq!(decode(&bytes), None);
    }
}
