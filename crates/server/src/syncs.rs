//! How long the disk takes to sync the log: a histogram of fixed buckets.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla_engine::disk::{Disk, DiskFile};
use tokio::time::Instant;

/// Durations of syncs, counted in buckets.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    /// One for each bound, and one for what took longer than all.
    counts: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Syncs {
    fn count(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|(bound, _)| *bound < micros);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// As Prometheus reads a histogram of this name, in seconds.
    pub(crate) fn text(&self, name: &str, about: &str) -> String {
        let mut text = format!("# HELP {name} {about}\n# TYPE {name} histogram\n");
        let mut sum = 0;
        let bounds = BOUNDS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
        for (count, bound) in self.counts.iter().zip(bounds) {
            sum += count.load(Ordering::Relaxed);
            line(&mut text, format_args!("{name}_bucket{{le=\"{bound}\"}} {sum}\n"));
        }
        let micros = self.micros.load(Ordering::Relaxed);
        let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
        line(&mut text, format_args!("{name}_sum {seconds}.{rest:06}\n{name}_count {sum}\n"));
        text
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(arguments);
    debug_assert!(written.is_ok(), "writing to a string does not fail");
}

/// A disk that measures the syncs of the log's files.
#[derive(Debug)]
pub(crate) struct Measured<D> {
    disk: D,
    syncs: Arc<Syncs>,
}

impl<D: Disk> Measured<D> {
    pub(crate) const fn new(disk: D, syncs: Arc<Syncs>) -> Self {
        Self { disk, syncs }
    }

    fn wrapped(&self, path: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        match path.starts_with(LOG) {
            true => Arc::new(LogFile { file, syncs: Arc::clone(&self.syncs) }),
            false => file,
        }
    }
}

impl<D: Disk> Disk for Measured<D> {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(path).map(|file| self.wrapped(path, file))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(path).map(|file| self.wrapped(path, file))
    }

    fn open_read(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open_read(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.disk.remove_dir(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

/// A file of the log.
#[derive(Debug)]
struct LogFile {
    file: Arc<dyn DiskFile>,
    syncs: Arc<Syncs>,
}

impl DiskFile for LogFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn write_at(&self, parts: &[io::IoSlice<'_>], position: u64) -> io::Result<()> {
        self.file.write_at(parts, position)
    }

    fn sync(&self) -> io::Result<()> {
        let begun = Instant::now();
        let done = self.file.sync();
        self.syncs.count(begun.elapsed());
        done
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<bool> {
        self.file.allocate(len)
    }
}

/// Upper bounds of the buckets: microseconds, and the same in seconds.
const BOUNDS: [(u64, &str); 14] = [
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
];
/// What the paths of the log's files begin with.
const LOG: &str = "wal/";

#[cfg(test)]
mod tests {
    use ottla_engine::FileDisk;

    use super::*;

    #[test]
    fn each_sync_is_in_the_first_bucket_that_it_fits_in_and_in_all_behind() {
        let syncs = Syncs::default();
        for micros in [100, 101, 999, 1_000, 2_499_999, 2_500_001] {
            syncs.count(Duration::from_micros(micros));
        }
        let text = syncs.text("x_seconds", "Of x");
        assert!(text.starts_with("# HELP x_seconds Of x\n# TYPE x_seconds histogram\n"), "{text}");
        let values: Vec<(&str, &str)> =
            text.lines().skip(2).filter_map(|line| line.rsplit_once(' ')).collect();
        let of = |le: &str| {
            let name = format!("x_seconds_bucket{{le=\"{le}\"}}");
            values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
        };
        let cumulative = ["0.0001", "0.00025", "0.0005", "0.001", "1", "2.5", "+Inf"].map(of);
        assert_eq!(cumulative, ["1", "2", "2", "4", "4", "5", "6"].map(Some));
        assert_eq!(values.len(), 17);
        assert_eq!(values[15..], [("x_seconds_sum", "5.002200"), ("x_seconds_count", "6")]);
    }

    #[test]
    fn only_what_the_log_syncs_is_counted() {
        let name = format!("ottla-syncs-{}", std::process::id());
        let data = std::env::temp_dir().join(name);
        drop(std::fs::remove_dir_all(&data));
        let syncs = Arc::new(Syncs::default());
        let disk = Measured::new(FileDisk::open(&data).unwrap(), Arc::clone(&syncs));
        disk.create_dir("wal").unwrap();
        disk.create("wal/1.wal").unwrap().sync().unwrap();
        disk.open("wal/1.wal").unwrap().sync().unwrap();
        disk.create("other").unwrap().sync().unwrap();
        assert!(syncs.text("x", "").ends_with("x_count 2\n"));
        drop(disk);
        std::fs::remove_dir_all(&data).unwrap();
    }
}
