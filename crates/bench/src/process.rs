//! What a server has used: its process from /proc, its disk from /sys.

use std::fs;
use std::path::Path;

use clap::Args;
use serde::Serialize;

use crate::Failure;

/// What is looked at while a server is loaded.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Watched {
    /// The server's process: its CPU, memory and writes are read from /proc.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// The disk, as /sys/class/block names it: what all processes write to it is counted.
    #[arg(long)]
    pub(crate) device: Option<String>,
}

/// Totals since the process and the machine began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    device: Option<Device>,
    cpu_seconds: f64,
    rss_bytes: u64,
    rss_peak_bytes: u64,
    dirtied_bytes: u64,
}

/// What a disk has done since the machine began, for anyone.
#[derive(Clone, Copy, Debug)]
struct Device {
    bytes: u64,
    flushes: u64,
}

/// What a run cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cost {
    pub(crate) cpu_seconds: f64,
    /// CPU seconds a second.
    pub(crate) cores: f64,
    pub(crate) cpu_us_per_record: f64,
    pub(crate) rss_bytes: u64,
    /// Since the process began.
    pub(crate) rss_peak_bytes: u64,
    /// `write_bytes` of /proc/PID/io: memory that became dirty, and of a large folio the whole folio,
    /// so that short writes into a large file count many times.
    pub(crate) dirtied_bytes: u64,
    pub(crate) dirtied_over_payload: f64,
    /// Written to the device by all processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device_over_payload: Option<f64>,
    /// Flushes of the device's cache asked for by all processes: what a sync ends in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device_flushes: Option<u64>,
}

impl Usage {
    /// Of the server that a run loads, if its process was named.
    pub(crate) fn of_server(watched: &Watched) -> Result<Option<Self>, Failure> {
        watched.pid.map(|pid| Self::of(pid, watched.device.as_deref())).transpose()
    }

    /// Memory that is resident now.
    pub(crate) const fn rss_bytes(&self) -> u64 {
        self.rss_bytes
    }

    fn of(pid: u32, device: Option<&str>) -> Result<Self, Failure> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name may hold blanks and brackets; the third field follows its last bracket.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks = |index: usize| {
            fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default()
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
        Ok(Self {
            device: device.map(Device::of).transpose()?,
            cpu_seconds: (ticks(UTIME) + ticks(STIME)) / TICKS_PER_SECOND,
            rss_bytes: number(&status, "VmRSS:") * 1024,
            rss_peak_bytes: number(&status, "VmHWM:") * 1024,
            dirtied_bytes: number(&io, "write_bytes:"),
        })
    }

    /// What was used since `before`, in a run of `seconds` with `records` and `payload` bytes.
    pub(crate) fn since(&self, before: &Self, seconds: f64, records: u64, payload: u64) -> Cost {
        let cpu_seconds = self.cpu_seconds - before.cpu_seconds;
        let dirtied_bytes = self.dirtied_bytes.saturating_sub(before.dirtied_bytes);
        let device = self.device.zip(before.device);
        let device_bytes = device.map(|(after, before)| after.bytes.saturating_sub(before.bytes));
        let over_payload = |bytes: u64| float(bytes) / float(payload.max(1));
        Cost {
            cpu_seconds,
            cores: cpu_seconds / seconds,
            cpu_us_per_record: cpu_seconds * 1e6 / float(records.max(1)),
            rss_bytes: self.rss_bytes,
            rss_peak_bytes: self.rss_peak_bytes,
            dirtied_bytes,
            dirtied_over_payload: over_payload(dirtied_bytes),
            device_bytes,
            device_over_payload: device_bytes.map(over_payload),
            device_flushes: device
                .map(|(after, before)| after.flushes.saturating_sub(before.flushes)),
        }
    }
}

impl Device {
    fn of(name: &str) -> Result<Self, Failure> {
        let path = Path::new("/sys/class/block").join(name).join("stat");
        let stat =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let fields: Vec<u64> =
            stat.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let at = |place: usize| fields.get(place).copied().unwrap_or_default();
        Ok(Self { bytes: at(SECTORS_WRITTEN) * SECTOR_BYTES, flushes: at(FLUSHES) })
    }
}

fn number(text: &str, key: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(key));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// For ratios; exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "for ratios")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// Places of proc(5) utime and stime behind the process's name.
const UTIME: usize = 11;
const STIME: usize = 12;
/// Places in a block device's stat; sectors there are always 512 bytes.
const SECTORS_WRITTEN: usize = 6;
const FLUSHES: usize = 15;
const SECTOR_BYTES: u64 = 512;
/// `sysconf(_SC_CLK_TCK)`: 100 on Linux whatever the kernel's own rate.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::of(std::process::id(), None).unwrap();
        assert!(usage.rss_bytes > 100_000 && usage.rss_bytes <= usage.rss_peak_bytes);
    }
}
