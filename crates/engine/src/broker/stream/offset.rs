//! `x-stream-offset`: where a consumer of a stream begins.

use ottla_store::batch::BatchHeader;
use ottla_store::records::Records;
use ottla_store::{Offset, ReadError, Store};

use crate::broker::error::BrokerError;
use crate::clock::Wall;
use crate::queue::interval_ms;
use crate::topic::{Isolation, Partition};
use crate::value::{Arguments, Value};

/// Where a consumer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// At the first record there is.
    First,
    /// At the batch that was written last.
    Last,
    /// At what comes next.
    Next,
    /// At this record, or the first there is behind it.
    At(Offset),
    /// At the first record of this time, in ms since 1970, or later.
    Since(i64),
}

impl Begin {
    /// What the arguments of `basic.consume` say; without a word: what comes next.
    pub(super) fn parse(
        arguments: &Arguments,
        now: Wall,
        queue: &str,
        vhost: &str,
    ) -> Result<Self, BrokerError> {
        let Some(value) = arguments.get(STREAM_OFFSET) else { return Ok(Self::Next) };
        let (Value::LongString(word) | Value::Bytes(word)) = value else {
            return match value {
                Value::Timestamp(seconds) => {
                    let ms = i64::try_from(*seconds).unwrap_or(i64::MAX).saturating_mul(1000);
                    Ok(Self::Since(ms))
                }
                value => match value.as_int() {
                    Some(offset) => Ok(Self::At(Offset(offset.max(0)))),
                    None => Err(invalid(value, queue, vhost)),
                },
            };
        };
        let interval = std::str::from_utf8(word).ok().and_then(interval_ms);
        match (word.as_slice(), interval) {
            (b"first", _) => Ok(Self::First),
            (b"last", _) => Ok(Self::Last),
            (b"next", _) => Ok(Self::Next),
            (_, Some(ms)) => {
                let ms = i64::try_from(ms).unwrap_or(i64::MAX);
                Ok(Self::Since(now.0.saturating_sub(ms)))
            }
            _ => Err(invalid(value, queue, vhost)),
        }
    }

    /// The offset in the partition as it is now.
    pub(super) fn offset(self, store: &Store, partition: &Partition) -> Result<Offset, ReadError> {
        let stream = partition.stream();
        let unknown = || ReadError::UnknownStream(stream);
        let start = store.extent(stream).ok_or_else(unknown)?.start;
        let end = partition.visible_end(store, Isolation::ReadCommitted).ok_or_else(unknown)?;
        Ok(match self {
            Self::First => start,
            Self::Next => end,
            Self::At(offset) => offset.max(start),
            Self::Last => last_batch(store, partition, start, end)?,
            Self::Since(ms) => match store.find_timestamp(stream, ms)? {
                Some(batch) => first_since(&batch, ms).unwrap_or(end).clamp(start, end),
                None => end,
            },
        })
    }
}

/// Where the last batch begins that is no marker of a transaction.
fn last_batch(
    store: &Store,
    partition: &Partition,
    start: Offset,
    end: Offset,
) -> Result<Offset, ReadError> {
    let mut before = end;
    for _ in 0..MARKERS_MAX {
        if before <= start {
            return Ok(before);
        }
        let at = Offset(before.0 - 1);
        let fetched = partition.fetch(store, at, 1, Isolation::ReadCommitted, false)?;
        let Some(fetched) = fetched else { return Ok(end) };
        let Some(piece) = fetched.batches.pieces.first() else { return Ok(end) };
        let Ok(header) = BatchHeader::parse(piece) else { return Ok(end) };
        if !header.is_control() {
            return Ok(header.base_offset.max(start));
        }
        before = header.base_offset;
    }
    Ok(before)
}

fn first_since(batch: &[u8], ms: i64) -> Option<Offset> {
    let records = Records::open(batch).ok()?;
    let mut sound = records.iter().map_while(Result::ok);
    sound.find(|record| record.timestamp_ms >= ms).map(|record| record.offset)
}

fn invalid(value: &Value, queue: &str, vhost: &str) -> BrokerError {
    let shown = match value {
        Value::LongString(word) | Value::Bytes(word) => {
            let word = String::from_utf8_lossy(word);
            let word = if word.is_empty() { String::new() } else { format!("\"{word}\"") };
            format!("{{{},<<{word}>>}}", value.type_name())
        }
        value => format!("{{{},…}}", value.type_name()),
    };
    let why = format!("{{invalid_stream_offset_arg,{shown}}}");
    BrokerError::invalid_argument(STREAM_OFFSET, queue, vhost, &why)
}

const STREAM_OFFSET: &str = "x-stream-offset";
/// Markers of transactions in a row that are looked behind.
const MARKERS_MAX: usize = 64;
