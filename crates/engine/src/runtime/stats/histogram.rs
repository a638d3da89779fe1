//! A histogram of durations with fixed buckets: atomics only, written once per epoch or acknowledgement.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of the buckets, in nanoseconds: 0.1 ms to 5 minutes. One more bucket holds what is longer.
pub const BOUNDS_NANOS: [u64; 18] = [
    100_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
    300_000_000_000,
];

/// Durations, counted by bucket.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS_NANOS.len() + 1],
    sum_nanos: AtomicU64,
}

/// A histogram as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistogramCounts {
    /// Observations by bucket, each on its own (not cumulative); the last is of those beyond the greatest bound.
    pub buckets: [u64; BOUNDS_NANOS.len() + 1],
    /// All durations together, in nanoseconds.
    pub sum_nanos: u64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, nanos: u64) {
        self.observe_many(nanos, 1);
    }

    /// Counts a duration `times` times.
    pub fn observe_many(&self, nanos: u64, times: u64) {
        let bucket = BOUNDS_NANOS.partition_point(|bound| *bound < nanos);
        self.buckets[bucket].fetch_add(times, Relaxed);
        self.sum_nanos.fetch_add(nanos.saturating_mul(times), Relaxed);
    }

    /// What it holds.
    pub fn counts(&self) -> HistogramCounts {
        let buckets = std::array::from_fn(|i| self.buckets[i].load(Relaxed));
        HistogramCounts { buckets, sum_nanos: self.sum_nanos.load(Relaxed) }
    }
}

impl HistogramCounts {
    /// How many were observed.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The duration in seconds that the share `quantile` (0 to 1) of all observations does not exceed, by linear
    /// interpolation within its bucket as Prometheus' `histogram_quantile` does; beyond the greatest bound: that bound.
    /// `None` if nothing was observed.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = quantile.clamp(0.0, 1.0) * count as f64;
        let mut below = 0;
        for (i, (bound, within)) in BOUNDS_NANOS.iter().zip(self.buckets).enumerate() {
            if (below + within) as f64 >= rank && within > 0 {
                let lower = if i == 0 { 0 } else { BOUNDS_NANOS[i - 1] } as f64;
                return Some((lower + (*bound as f64 - lower) * (rank - below as f64) / within as f64) / 1e9);
            }
            below += within;
        }
        Some(BOUNDS_NANOS[BOUNDS_NANOS.len() - 1] as f64 / 1e9)
    }

    /// Adds those of another histogram.
    pub fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(a, b)| *a += b);
        self.sum_nanos += other.sum_nanos;
    }

    /// What came since `earlier` of the same histogram.
    pub fn since(&self, earlier: &Self) -> Self {
        let buckets = std::array::from_fn(|i| self.buckets[i].saturating_sub(earlier.buckets[i]));
        Self { buckets, sum_nanos: self.sum_nanos.saturating_sub(earlier.sum_nanos) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for nanos in [0, 100_000, 100_001, 500_000, 301_000_000_000] {
            histogram.observe(nanos);
        }
        let counts = histogram.counts();
        assert_eq!((counts.buckets[0], counts.buckets[1], counts.buckets[18]), (2, 2, 1));
        assert_eq!((counts.count(), counts.sum_nanos), (5, 301_000_700_001));
    }

    #[test]
    fn quantiles_are_interpolated_within_a_bucket() {
        let histogram = Histogram::default();
        assert_eq!(histogram.counts().quantile(0.5), None);
        histogram.observe_many(20_000_000, 100);
        let counts = histogram.counts();
        assert_eq!(counts.quantile(0.5), Some(0.0175), "half of the way from 10 to 25 ms");
        histogram.observe_many(u64::MAX / 1000, 900);
        assert_eq!(histogram.counts().quantile(0.99), Some(300.0));
        assert_eq!(histogram.counts().since(&counts).count(), 900);
    }
}
