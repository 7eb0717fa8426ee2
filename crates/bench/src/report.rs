//! One run as a row of figures: JSON for programs, a table for people.

use std::fmt::Write;

use serde::Serialize;

use crate::args::Load;
use crate::process::{Cost, float};
use crate::spread::Spread;

/// The figures of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) mode: &'static str,
    pub(crate) partitions: u32,
    pub(crate) record_bytes: usize,
    /// Of the batch as sent.
    pub(crate) batch_bytes: usize,
    pub(crate) records_per_batch: usize,
    pub(crate) connections: u32,
    pub(crate) in_flight: usize,
    pub(crate) acks: i16,
    pub(crate) seconds: f64,
    pub(crate) records: u64,
    /// Bytes of whole batches.
    pub(crate) payload_bytes: u64,
    pub(crate) records_per_second: f64,
    pub(crate) mb_per_second: f64,
    /// From sending (in `latency`: from when it was due) to the acknowledgement, or to the fetch's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) answer_ms: Option<Spread>,
    /// From when a batch was due to when a consumer has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) end_to_end_ms: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<Cost>,
}

impl Row {
    pub(crate) fn new(mode: &'static str, load: &Load, batch: (usize, usize)) -> Self {
        let (batch_bytes, records_per_batch) = batch;
        Self {
            mode,
            partitions: load.partitions,
            record_bytes: load.record_bytes,
            batch_bytes,
            records_per_batch,
            connections: load.connections,
            in_flight: load.in_flight,
            acks: load.acks,
            seconds: 0.0,
            records: 0,
            payload_bytes: 0,
            records_per_second: 0.0,
            mb_per_second: 0.0,
            answer_ms: None,
            end_to_end_ms: None,
            server: None,
        }
    }

    pub(crate) fn counted(mut self, seconds: f64, records: u64, payload_bytes: u64) -> Self {
        self.seconds = seconds;
        self.records = records;
        self.payload_bytes = payload_bytes;
        self.records_per_second = float(records) / seconds;
        self.mb_per_second = float(payload_bytes) / 1e6 / seconds;
        self
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(crate) fn table(&self) -> String {
        let mut lines = vec![
            format!(
                "{:<12}{} partitions, {} records of {} B a batch of {} B, {} connections, {} in flight, acks {}",
                self.mode,
                self.partitions,
                self.records_per_batch,
                self.record_bytes,
                self.batch_bytes,
                self.connections,
                self.in_flight,
                self.acks
            ),
            format!(
                "{:<12}{:.0} records/s, {:.1} MB/s over {:.1} s",
                "throughput", self.records_per_second, self.mb_per_second, self.seconds
            ),
        ];
        for (name, spread) in [("answer", self.answer_ms), ("end to end", self.end_to_end_ms)] {
            if let Some(Spread { samples, p50, p99, p999, max }) = spread {
                lines.push(format!(
                    "{name:<12}p50 {p50:.2} ms, p99 {p99:.2}, p99.9 {p999:.2}, max {max:.2} ({samples} samples)"
                ));
            }
        }
        if let Some(cost) = self.server {
            let mut line = String::from("server      ");
            let mib = |bytes: u64| float(bytes) / f64::from(1 << 20);
            let written = write!(
                line,
                "{:.2} cores, {:.3} µs a record, RSS {:.0} MiB (peak {:.0}), {:.2} bytes to the device a byte",
                cost.cores,
                cost.cpu_us_per_record,
                mib(cost.rss_bytes),
                mib(cost.rss_peak_bytes),
                cost.device_over_payload.unwrap_or(f64::NAN)
            );
            if written.is_ok() {
                lines.push(line);
            }
        }
        lines.join("\n")
    }
}
