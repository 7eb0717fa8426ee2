//! Walks every record of a batch without building any, for validation. Streams compressed records.

use super::check::{BatchError, BatchRules, REPORTED_RECORDS_MAX};
use super::{BatchHeader, TimestampType};
use crate::codec::{Codec, Inflater};

/// What the records themselves say.
#[derive(Debug)]
pub(super) struct Walked {
    /// The largest timestamp, -1 if none has one.
    pub(super) max_timestamp: i64,
    /// Records without a key, if keys are required.
    pub(super) keyless: Vec<i32>,
    /// Records whose timestamp the topic does not take.
    pub(super) untimely: Vec<i32>,
}

/// Walks the `header.count` records in `records`. Everything but missing keys and timestamps out of
/// bounds is an error at once.
pub(super) fn walk(
    header: &BatchHeader,
    records: &[u8],
    rules: &BatchRules,
    now_ms: i64,
) -> Result<Walked, BatchError> {
    let judge = Judge { header, rules, now_ms };
    match header.codec().unwrap_or_default() {
        Codec::None => judge.all(Plain { rest: records }),
        codec => judge.all(Streamed {
            inflater: Inflater::new(codec, records, rules.decompressed_bytes_max())?,
            piece: Vec::new(),
            at: 0,
        }),
    }
}

struct Judge<'a> {
    header: &'a BatchHeader,
    rules: &'a BatchRules,
    now_ms: i64,
}

/// What the head of one record says.
struct Seen {
    timestamp_delta: i64,
    offset_delta: i64,
    has_key: bool,
}

impl Judge<'_> {
    fn all<S: Source>(&self, source: S) -> Result<Walked, BatchError> {
        let mut walker = Walker { source, record: 0, left: usize::MAX };
        let mut walked = Walked { max_timestamp: -1, keyless: Vec::new(), untimely: Vec::new() };
        for index in 0..self.header.count {
            walker.record = index;
            let seen = walker.one()?;
            if seen.offset_delta != i64::from(index) {
                return Err(BatchError::Offsets { record: index, found: seen.offset_delta });
            }
            self.note(index, &seen, &mut walked);
        }
        walker.record = self.header.count;
        if !walker.source.at_end()? {
            return Err(walker.fault("bytes after the last record"));
        }
        Ok(walked)
    }

    fn note(&self, index: i32, seen: &Seen, walked: &mut Walked) {
        let timestamp = match self.header.timestamp_type() {
            TimestampType::CreateTime => {
                self.header.base_timestamp.saturating_add(seen.timestamp_delta)
            }
            TimestampType::LogAppendTime => self.header.max_timestamp,
        };
        walked.max_timestamp = walked.max_timestamp.max(timestamp);
        if !self.rules.takes_timestamp(timestamp, self.now_ms)
            && walked.untimely.len() < REPORTED_RECORDS_MAX
        {
            walked.untimely.push(index);
        }
        if self.rules.keys_required && !seen.has_key && walked.keyless.len() < REPORTED_RECORDS_MAX
        {
            walked.keyless.push(index);
        }
    }
}

/// Reads record after record, counting what is left of the one it is in.
struct Walker<S> {
    source: S,
    record: i32,
    left: usize,
}

impl<S: Source> Walker<S> {
    fn one(&mut self) -> Result<Seen, BatchError> {
        self.left = usize::MAX;
        let length = self.length("negative record length")?;
        self.left = length.ok_or_else(|| self.fault("negative record length"))?;
        self.byte()?;
        let timestamp_delta = self.varlong()?;
        let offset_delta = self.varlong()?;
        let key = self.length("negative key length")?;
        self.skip(key)?;
        let value = self.length("negative value length")?;
        self.skip(value)?;
        let headers = self.length("negative header count")?;
        let headers = headers.ok_or_else(|| self.fault("negative header count"))?;
        for _ in 0..headers {
            let name = self.length("negative header name length")?;
            let name = name.ok_or_else(|| self.fault("negative header name length"))?;
            self.skip(Some(name))?;
            let value = self.length("negative header value length")?;
            self.skip(value)?;
        }
        if self.left != 0 {
            return Err(self.fault("shorter than its length says"));
        }
        Ok(Seen { timestamp_delta, offset_delta, has_key: key.is_some() })
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, BatchError> {
        self.left = self.left.checked_sub(1).ok_or_else(|| self.fault(TOO_LONG))?;
        match self.source.byte()? {
            Some(byte) => Ok(byte),
            None => Err(self.fault("the records end here")),
        }
    }

    fn skip(&mut self, bytes: Option<usize>) -> Result<(), BatchError> {
        let bytes = bytes.unwrap_or(0);
        self.left = self.left.checked_sub(bytes).ok_or_else(|| self.fault(TOO_LONG))?;
        if self.source.skip(bytes)? {
            return Ok(());
        }
        Err(self.fault("the records end here"))
    }

    /// A varint that is a length: `None` for -1.
    #[inline]
    fn length(&mut self, what: &'static str) -> Result<Option<usize>, BatchError> {
        match self.varlong()? {
            -1 => Ok(None),
            length => i32::try_from(length)
                .ok()
                .and_then(|length| usize::try_from(length).ok())
                .map(Some)
                .ok_or_else(|| self.fault(what)),
        }
    }

    #[inline]
    fn varlong(&mut self) -> Result<i64, BatchError> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(self.fault("a varint of more than 10 bytes"))
    }

    fn fault(&self, what: &'static str) -> BatchError {
        BatchError::Record { record: self.record, what }
    }
}

/// Plain record bytes, wherever they come from. `None` and `false` mean that they ended.
trait Source {
    fn byte(&mut self) -> Result<Option<u8>, BatchError>;
    fn skip(&mut self, bytes: usize) -> Result<bool, BatchError>;
    fn at_end(&mut self) -> Result<bool, BatchError>;
}

struct Plain<'a> {
    rest: &'a [u8],
}

impl Source for Plain<'_> {
    #[inline]
    fn byte(&mut self) -> Result<Option<u8>, BatchError> {
        let Some((&byte, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        Ok(Some(byte))
    }

    #[inline]
    fn skip(&mut self, bytes: usize) -> Result<bool, BatchError> {
        let Some(rest) = self.rest.get(bytes..) else { return Ok(false) };
        self.rest = rest;
        Ok(true)
    }

    fn at_end(&mut self) -> Result<bool, BatchError> {
        Ok(self.rest.is_empty())
    }
}

struct Streamed<'a> {
    inflater: Inflater<'a>,
    piece: Vec<u8>,
    at: usize,
}

impl Streamed<'_> {
    /// Makes `piece[at..]` not empty; `false` at the end.
    fn fill(&mut self) -> Result<bool, BatchError> {
        if self.at < self.piece.len() {
            return Ok(true);
        }
        self.at = 0;
        self.piece.clear();
        self.piece.extend_from_slice(self.inflater.next_piece()?);
        Ok(!self.piece.is_empty())
    }
}

impl Source for Streamed<'_> {
    #[inline]
    fn byte(&mut self) -> Result<Option<u8>, BatchError> {
        if !self.fill()? {
            return Ok(None);
        }
        let byte = self.piece.get(self.at).copied();
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, bytes: usize) -> Result<bool, BatchError> {
        let mut left = bytes;
        while left > 0 {
            if !self.fill()? {
                return Ok(false);
            }
            let step = left.min(self.piece.len() - self.at);
            self.at += step;
            left -= step;
        }
        Ok(true)
    }

    fn at_end(&mut self) -> Result<bool, BatchError> {
        Ok(!self.fill()?)
    }
}

const TOO_LONG: &str = "longer than its length says";
