//! Where in a partition: the ends, the newest record, the first at or after a moment.

use ottla_store::batch::BatchError;
use ottla_store::records::Records;
use ottla_store::{Offset, ReadError};

use super::Engine;
use crate::topic::{Isolation, Partition};

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The offset.
    pub offset: Offset,
    /// The record's time in milliseconds, where the question was about time.
    pub timestamp: Option<i64>,
}

impl Engine {
    /// The first offset that exists.
    pub fn earliest(&self, partition: &Partition) -> Result<Found, ReadError> {
        let stream = partition.stream();
        let extent = self.store.extent(stream).ok_or(ReadError::UnknownStream(stream))?;
        Ok(Found { offset: extent.start, timestamp: None })
    }

    /// After the last record that a reader of this isolation may see.
    pub fn latest(&self, partition: &Partition, isolation: Isolation) -> Result<Found, ReadError> {
        let end = partition.visible_end(&self.store, isolation);
        let offset = end.ok_or(ReadError::UnknownStream(partition.stream()))?;
        Ok(Found { offset, timestamp: None })
    }

    /// The record with the largest time; the first of several. `None` if there is no record.
    pub fn newest(&self, partition: &Partition) -> Result<Option<Found>, ReadError> {
        let Some(batch) = self.store.max_timestamp(partition.stream())? else { return Ok(None) };
        let records = Records::open(&batch).map_err(damaged)?;
        let largest = records.header().max_timestamp;
        first_from(&records, largest, Offset::ZERO)
    }

    /// The first visible record whose time is at or after `timestamp_ms`. Decompresses one batch.
    pub fn at_or_after(
        &self,
        partition: &Partition,
        timestamp_ms: i64,
        isolation: Isolation,
    ) -> Result<Option<Found>, ReadError> {
        let start = self.earliest(partition)?.offset;
        let end = self.latest(partition, isolation)?.offset;
        let found = self.store.find_timestamp(partition.stream(), timestamp_ms)?;
        let Some(batch) = found else { return Ok(None) };
        let records = Records::open(&batch).map_err(damaged)?;
        let found = first_from(&records, timestamp_ms, start)?;
        Ok(found.filter(|found| found.offset < end))
    }
}

fn first_from(
    records: &Records<'_>,
    timestamp_ms: i64,
    start: Offset,
) -> Result<Option<Found>, ReadError> {
    for record in records.iter() {
        let record = record.map_err(damaged)?;
        if record.timestamp_ms >= timestamp_ms && record.offset >= start {
            let timestamp = Some(record.timestamp_ms);
            return Ok(Some(Found { offset: record.offset, timestamp }));
        }
    }
    Ok(None)
}

fn damaged(error: BatchError) -> ReadError {
    ReadError::Corrupt { what: error.to_string() }
}
