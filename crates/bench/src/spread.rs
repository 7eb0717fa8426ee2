//! Durations at some ranks.

use serde::Serialize;

use crate::process::float;

/// Milliseconds at some ranks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) samples: usize,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of durations in nanoseconds; `None` without any.
    pub(crate) fn of(mut nanos: Vec<u64>) -> Option<Self> {
        nanos.sort_unstable();
        let last = nanos.len().checked_sub(1)?;
        let at = |per_mille: usize| {
            let rank = (nanos.len() * per_mille).div_ceil(1000).clamp(1, nanos.len());
            nanos.get(rank - 1).map_or(0.0, |nanos| float(*nanos) / 1e6)
        };
        let max = nanos.get(last).map_or(0.0, |nanos| float(*nanos) / 1e6);
        Some(Self { samples: nanos.len(), p50: at(500), p99: at(990), p999: at(999), max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_real_samples() {
        let spread = Spread::of((1..=1000).rev().map(|n| n * 1_000_000).collect()).unwrap();
        assert_eq!(
            spread,
            Spread { samples: 1000, p50: 500.0, p99: 990.0, p999: 999.0, max: 1000.0 }
        );
        assert_eq!(Spread::of(vec![7_000_000]).unwrap().p999, 7.0);
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
