//! Median, ninety-ninth percentile, extremes.

use std::time::Duration;

/// A sorted sample of at least one value.
#[derive(Clone, Debug)]
pub(crate) struct Sample(Vec<Duration>);

impl Sample {
    /// The values, in any order; `None` without any.
    pub(crate) fn new(values: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut values: Vec<Duration> = values.into_iter().collect();
        values.sort_unstable();
        (!values.is_empty()).then_some(Self(values))
    }

    /// All values, the smallest first.
    pub(crate) fn values(&self) -> &[Duration] {
        &self.0
    }

    /// How many values.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The largest value.
    pub(crate) fn max(&self) -> Duration {
        self.0[self.0.len() - 1]
    }

    /// The middle value; of an even number, the mean of the two in the middle.
    pub(crate) fn median(&self) -> Duration {
        let half = self.0.len() / 2;
        if self.0.len() % 2 == 1 {
            self.0[half]
        } else {
            (self.0[half - 1] + self.0[half]) / 2
        }
    }

    /// The smallest value that 99 % of the sample do not exceed (nearest rank). Of fewer than a hundred values that
    /// is the largest one, and tables say "max" then.
    pub(crate) fn p99(&self) -> Duration {
        let rank = (self.0.len() * 99).div_ceil(100);
        self.0[rank - 1]
    }
}

/// Milliseconds with as many digits as mean something.
pub(crate) fn ms(value: Duration) -> String {
    let ms = value.as_secs_f64() * 1e3;
    if value.is_zero() {
        "0".to_owned()
    } else if ms < 99.95 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(ms: impl IntoIterator<Item = u64>) -> Sample {
        Sample::new(ms.into_iter().map(Duration::from_millis)).unwrap()
    }

    #[test]
    fn the_figures_are_those_of_the_sorted_sample() {
        let odd = sample([30, 10, 20]);
        assert_eq!(odd.median().as_millis(), 20);
        assert_eq!((odd.max().as_millis(), odd.count()), (30, 3));
        assert_eq!(sample([10, 20, 40, 50]).median().as_millis(), 30);
        assert!(Sample::new([]).is_none());
    }

    #[test]
    fn the_ninety_ninth_percentile_of_few_values_is_their_maximum() {
        assert_eq!(sample(1..=30).p99().as_millis(), 30);
        assert_eq!(sample(1..=100).p99().as_millis(), 99);
        assert_eq!(sample(1..=1000).p99().as_millis(), 990);
    }

    #[test]
    fn milliseconds_are_shown_with_one_digit_below_a_hundred() {
        assert_eq!(ms(Duration::from_micros(12_345)), "12.3");
        assert_eq!(ms(Duration::from_micros(3_217_400)), "3217");
        assert_eq!(ms(Duration::ZERO), "0");
    }
}
