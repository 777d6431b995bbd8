//! Stands in for the crate `base2histogram` of crates.io, by `[patch.crates-io]` in the workspace.
//!
//! openraft counts the sizes of its batches with it. The original (0.2.3) builds, at the first use, tables for sixteen
//! scales, of which openraft uses one: 25 MiB of memory in every process, more than all else that vipd has. openraft has
//! no feature that does without. Here are the types and methods that openraft calls, over a counter for each power
//! of two: half a kilobyte a histogram and no table.
//!
//! What openraft's feature `runtime-stats` needs besides (a chart that can be shown) is absent: vipd does not switch it
//! on, and without it nobody can read these numbers. This crate goes once upstream builds a scale when it is first
//! asked for (`LOG_SCALES` in its `log_scale.rs`).

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::fmt;
use std::marker::PhantomData;

/// One for 0, and one for each number of significant bits of a `u64`.
const BUCKETS: usize = u64::BITS as usize + 1;

/// Counts values by their power of two. `T` is what the original keeps with each of its time slots; here are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    /// How many values had so many significant bits.
    counts: Box<[u64; BUCKETS]>,
    slots: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// One that has counted nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            slots: PhantomData,
        }
    }

    /// Counts `value`.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts `value` as often as `count` says.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let bits = (u64::BITS - value.leading_zeros()) as usize;
        self.counts[bits] = self.counts[bits].saturating_add(count);
    }

    /// What was counted, in short.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        let samples = self
            .counts
            .iter()
            .fold(0, |sum: u64, n| sum.saturating_add(*n));
        let at = |permille| self.at_most(permille, samples);
        PercentileStats {
            samples,
            p0_1: at(1),
            p1: at(10),
            p5: at(50),
            p10: at(100),
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p99_9: at(999),
        }
    }

    /// The largest value that has no more bits than the one below which `permille` of the `samples` lie; 0 of none.
    fn at_most(&self, permille: u128, samples: u64) -> u64 {
        let rank = (u128::from(samples) * permille).div_ceil(1000);
        let mut below = 0;
        for (bits, count) in (0u32..).zip(self.counts.iter()) {
            below += u128::from(*count);
            if *count > 0 && below >= rank {
                return u64::MAX.checked_shr(u64::BITS - bits).unwrap_or(0);
            }
        }
        0
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Of a [`Histogram`]: how many values, and below which ones so many hundredths of them lie, each rounded up to the next
/// power of two less one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values.
    pub samples: u64,
    /// 0.1 %.
    pub p0_1: u64,
    /// 1 %.
    pub p1: u64,
    /// 5 %.
    pub p5: u64,
    /// 10 %.
    pub p10: u64,
    /// Half of them.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} samples, 1 % up to {}, half up to {}, 99 % up to {}",
            self.samples, self.p1, self.p50, self.p99
        )
    }
}

/// Histograms by name, as openraft gathers them for its feature `runtime-stats`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsciiChart {
    series: Vec<(String, Histogram)>,
}

impl AsciiChart {
    /// One without any.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.series.push((name.into(), histogram));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> PercentileStats {
        let mut histogram = Histogram::<()>::new();
        values.into_iter().for_each(|value| histogram.record(value));
        histogram.percentile_stats()
    }

    #[test]
    fn percentiles_are_right_to_the_next_power_of_two() {
        let stats = of(1..=1000);
        assert_eq!(stats.samples, 1000);
        assert_eq!((stats.p0_1, stats.p1, stats.p5), (1, 15, 63));
        assert_eq!((stats.p10, stats.p50, stats.p90), (127, 511, 1023));
        assert_eq!((stats.p99, stats.p99_9), (1023, 1023));
    }

    #[test]
    fn the_smallest_and_the_largest_value_have_their_place() {
        let stats = of([0]);
        assert_eq!((stats.samples, stats.p50), (1, 0));
        let stats = of([0, u64::MAX, u64::MAX]);
        assert_eq!((stats.p1, stats.p50), (0, u64::MAX));
    }

    #[test]
    fn nothing_counted_is_nothing() {
        assert_eq!(of([]).samples, 0);
        assert_eq!(of([]).p99, 0);
    }
}
