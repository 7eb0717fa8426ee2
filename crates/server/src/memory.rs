//! How much memory the machine, or the container, has.

/// Two fifths of it; where nobody says, 1 GiB.
pub(crate) fn default_max() -> u64 {
    let file = |path: &str| std::fs::read_to_string(path).ok();
    let machine = file("/proc/meminfo").and_then(|text| of_meminfo(&text));
    let container = file("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
    let all = machine.into_iter().chain(container).min();
    all.map_or(UNKNOWN_BYTES, |bytes| bytes / 5 * 2)
}

/// `MemTotal`, in bytes.
fn of_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

const UNKNOWN_BYTES: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_in_kibibytes() {
        assert_eq!(of_meminfo("MemTotal:       24000 kB\nMemFree: 1 kB\n"), Some(24_576_000));
        assert_eq!(of_meminfo("MemFree: 1 kB\n"), None);
        assert!(default_max() > 0);
    }
}
