//! The records of a batch, borrowed from its decompressed bytes.
//!
//! For reading what was accepted: a timestamp's record, compaction, the console, our own consumers.
//! Damage ends the iteration with an error, never a panic; decompression is bounded.

use std::borrow::Cow;

use crate::Offset;
use crate::batch::{BatchError, BatchHeader, HEADER_BYTES, TimestampType};
use crate::codec::{DECOMPRESSED_BYTES_MAX, decompress};

/// A batch whose records can be read: decompressed once, kept while they are borrowed.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    header: BatchHeader,
    plain: Cow<'a, [u8]>,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the partition.
    pub offset: Offset,
    /// In ms since 1970, or -1.
    pub timestamp_ms: i64,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

/// The headers of a record, in their order. Names may repeat; a value may be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: usize,
}

/// The iterator over [`Records`]; after an error it ends.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    header: BatchHeader,
    rest: &'a [u8],
    index: i32,
}

impl<'a> Records<'a> {
    /// Opens the one whole batch at the start of `batch`. The CRC is not checked: whoever read the
    /// bytes did.
    pub fn open(batch: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(batch)?;
        let present = batch.len();
        let records = batch
            .get(HEADER_BYTES..header.bytes)
            .ok_or(BatchError::TooShort { bytes: present, needed: header.bytes })?;
        Self::of(header, records)
    }

    /// Opens the records that stand behind `header`.
    pub fn of(header: BatchHeader, records: &'a [u8]) -> Result<Self, BatchError> {
        let bits = header.attributes & 0b111;
        let codec = header.codec().ok_or(BatchError::UnknownCodec { bits })?;
        // A batch that compaction emptied has no compressed stream to end.
        if records.is_empty() && header.count == 0 {
            return Ok(Self { header, plain: Cow::Borrowed(&[]) });
        }
        let plain = decompress(codec, records, DECOMPRESSED_BYTES_MAX)?;
        Ok(Self { header, plain })
    }

    /// The batch's header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The records in their order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { header: self.header, rest: &self.plain, index: 0 }
    }

    /// The first record whose timestamp is at or above `timestamp_ms` (ListOffsets).
    pub fn find_timestamp(&self, timestamp_ms: i64) -> Result<Option<Record<'_>>, BatchError> {
        for record in self {
            let record = record?;
            if record.timestamp_ms >= timestamp_ms {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

impl<'a> IntoIterator for &'a Records<'_> {
    type Item = Result<Record<'a>, BatchError>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.header.count {
            let trailing = !std::mem::take(&mut self.rest).is_empty();
            let record = self.header.count;
            let what = "bytes after the last record";
            return trailing.then_some(Err(BatchError::Record { record, what }));
        }
        let next = self.parse_next();
        if next.is_err() {
            self.rest = &[];
            self.index = self.header.count;
        } else {
            self.index += 1;
        }
        Some(next)
    }
}

impl<'a> Iter<'a> {
    fn parse_next(&mut self) -> Result<Record<'a>, BatchError> {
        let fault = |what| BatchError::Record { record: self.index, what };
        let body = take_field(&mut self.rest).and_then(|body| body.ok_or("null record"));
        let mut body = body.map_err(fault)?;
        self.record(&mut body).map_err(fault)
    }

    fn record(&self, body: &mut &'a [u8]) -> Result<Record<'a>, &'static str> {
        let (_attributes, rest) = body.split_first().ok_or(CUT)?;
        *body = rest;
        let timestamp_delta = take_varlong(body)?;
        let offset_delta = take_varlong(body)?;
        let key = take_field(body)?;
        let value = take_field(body)?;
        let left = usize::try_from(take_varlong(body)?).map_err(|_| "negative header count")?;
        let headers = Headers { rest: body, left };
        headers.check()?;
        let timestamp_ms = match self.header.timestamp_type() {
            TimestampType::CreateTime => self.header.base_timestamp.saturating_add(timestamp_delta),
            TimestampType::LogAppendTime => self.header.max_timestamp,
        };
        let offset = Offset(self.header.base_offset.0.saturating_add(offset_delta));
        Ok(Record { offset, timestamp_ms, key, value, headers })
    }
}

impl Headers<'_> {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.left
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Reads them once, so that iterating needs no errors.
    fn check(mut self) -> Result<(), &'static str> {
        for _ in 0..self.left {
            take_field(&mut self.rest)?.ok_or("null header name")?;
            take_field(&mut self.rest)?;
        }
        if self.rest.is_empty() { Ok(()) } else { Err("bytes after the last header") }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = take_field(&mut self.rest).ok()??;
        let value = take_field(&mut self.rest).ok()?;
        Some((name, value))
    }
}

/// A length, -1 for null, and as many bytes.
fn take_field<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, &'static str> {
    let length = take_varlong(rest)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| "negative length")?;
    let (field, tail) = rest.split_at_checked(length).ok_or(CUT)?;
    *rest = tail;
    Ok(Some(field))
}

fn take_varlong(rest: &mut &[u8]) -> Result<i64, &'static str> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (&byte, tail) = rest.split_first().ok_or(CUT)?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    Err("a varint of more than 10 bytes")
}

const CUT: &str = "cut short";

#[cfg(test)]
mod tests;
