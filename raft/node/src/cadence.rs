//! A common beat for all that is done once in a while: what falls on the same moment costs one wake-up, not one each.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::Instant;

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The next moment of those that are `period` apart, the same for everybody in this process; at least half a period off.
pub(crate) fn next(period: Duration) -> Instant {
    after(*BEGAN, Instant::now(), period)
}

fn after(began: Instant, now: Instant, period: Duration) -> Instant {
    let periods = (now - began + period / 2).as_nanos() / period.as_nanos().max(1) + 1;
    began + period * u32::try_from(periods).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_at_different_times_within_half_a_period_is_told_the_same_moment() {
        let (began, period) = (Instant::now(), Duration::from_millis(1000));
        let next = |ms| after(began, began + Duration::from_millis(ms), period) - began;
        assert_eq!(next(0), period);
        assert_eq!(next(499), period);
        assert_eq!(next(500), period * 2);
        assert_eq!(next(1_400), period * 2);
        assert_eq!(next(3_600_000), period * 3601);
    }
}
