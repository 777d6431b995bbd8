//! A host's clock: as fast as it likes, within what NTP allows.

use std::sync::Mutex;

use openraft_rt_sim::SimInstant;

use crate::lock;

/// True time: nanoseconds since the simulation began.
#[must_use]
pub(crate) fn true_now() -> u64 {
    let since = SimInstant::try_now().map(SimInstant::elapsed_since_start);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

/// `CLOCK_BOOTTIME` of one host. Its rate may change, it never steps; a reboot begins it anew.
#[derive(Debug)]
pub(crate) struct Clock(Mutex<Rate>);

#[derive(Clone, Copy, Debug)]
struct Rate {
    /// From this true time on ...
    since: u64,
    /// ... it shows this ...
    shown: u64,
    /// ... and gains so many parts per million.
    ppm: i64,
}

impl Rate {
    fn local(self, now: u64) -> u64 {
        let passed = i128::from(now.saturating_sub(self.since));
        let gained = passed * i128::from(self.ppm) / 1_000_000;
        self.shown
            .saturating_add(u64::try_from(passed + gained).unwrap_or(0))
    }
}

impl Clock {
    /// A clock that shows `shown` now.
    #[must_use]
    pub(crate) fn new(shown: u64, ppm: i64) -> Self {
        let since = true_now();
        Self(Mutex::new(Rate { since, shown, ppm }))
    }

    /// What it shows.
    #[must_use]
    pub(crate) fn now(&self) -> u64 {
        self.at(true_now())
    }

    /// What it shows at a true time.
    #[must_use]
    pub(crate) fn at(&self, now: u64) -> u64 {
        lock(&self.0).local(now)
    }

    /// How much true time passes until it shows `local`, at its present rate; rounded up.
    #[must_use]
    pub(crate) fn until(&self, local: u64) -> u64 {
        let rate = *lock(&self.0);
        let left = i128::from(local.saturating_sub(rate.local(true_now())));
        let whole = left * 1_000_000 / (1_000_000 + i128::from(rate.ppm));
        u64::try_from(whole)
            .unwrap_or(0)
            .saturating_add(u64::from(left > 0))
    }

    /// Goes on at another rate.
    pub(crate) fn set_rate(&self, ppm: i64) {
        let (mut rate, now) = (lock(&self.0), true_now());
        let shown = rate.local(now);
        *rate = Rate {
            since: now,
            shown,
            ppm,
        };
    }

    /// The host has rebooted.
    pub(crate) fn reboot(&self, shown: u64) {
        let mut rate = lock(&self.0);
        (rate.since, rate.shown) = (true_now(), shown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_gains_and_says_how_long_a_span_of_its_own_really_is() {
        let clock = Clock::new(1_000, 500);
        assert_eq!(clock.at(0), 1_000);
        assert_eq!(clock.at(1_000_000_000), 1_000_501_000);
        let wait = clock.until(1_000_501_000);
        assert!((1_000_000_000..=1_000_000_002).contains(&wait), "{wait}");
        assert!(clock.at(wait) >= 1_000_501_000);
    }
}
