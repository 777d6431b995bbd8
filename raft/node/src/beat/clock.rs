//! The clock of the lease: `CLOCK_BOOTTIME`, which the eBPF side reads too.

use nix::time::{ClockId, clock_gettime};
use vipd_core::time::{Instant, Span};

/// What two clocks may differ by without the host having stood still: reading them takes time.
const SLACK: Span = Span::millis(1);

/// Now, since boot, suspend included.
#[must_use]
pub fn now() -> Instant {
    read(ClockId::CLOCK_BOOTTIME)
}

fn read(clock: ClockId) -> Instant {
    // Linux has had these clocks since 2.6.39; the call cannot fail with a valid clock number.
    let time = clock_gettime(clock).expect("Linux has CLOCK_BOOTTIME and CLOCK_MONOTONIC");
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
    Instant(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Notices that the host was suspended: CLOCK_BOOTTIME then counts on, CLOCK_MONOTONIC does not. The wall clock has no part
/// in it, so that setting it means nothing.
#[derive(Debug, Default)]
pub(super) struct Standstill {
    /// The first clock is ahead of the second by this at most, as of the last look.
    ahead: Option<Span>,
}

impl Standstill {
    /// For how long the host stood still since the last look, if it did.
    pub(super) fn look(&mut self) -> Option<Span> {
        let before = read(ClockId::CLOCK_MONOTONIC);
        let boot = now();
        let after = read(ClockId::CLOCK_MONOTONIC);
        self.judge(before, boot, after)
    }

    /// `boot` was read between the two readings of the other clock, so it is ahead by something between the two
    /// differences, however long this thread was kept from running.
    fn judge(&mut self, before: Instant, boot: Instant, after: Instant) -> Option<Span> {
        let (least, most) = (boot.since(after), boot.since(before));
        let known = *self.ahead.get_or_insert(most);
        if least > Span(known.0 + SLACK.0) {
            self.ahead = Some(most);
            return Some(Span(least.0 - known.0));
        }
        self.ahead = Some(known.min(most));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    #[test]
    fn a_host_that_was_suspended_stood_still() {
        let mut still = Standstill::default();
        assert_eq!(still.judge(ms(1000), ms(5000), ms(1000)), None);
        assert_eq!(still.judge(ms(1025), ms(5025), ms(1025)), None);
        // 300 ms asleep: only one of the clocks went on.
        let slept = still.judge(ms(1050), ms(5350), ms(1050));
        assert_eq!(slept, Some(Span::millis(300)));
        assert_eq!(still.judge(ms(1075), ms(5375), ms(1075)), None, "told once");
    }

    #[test]
    fn a_thread_that_is_kept_from_running_between_two_readings_did_not_sleep() {
        let mut still = Standstill::default();
        assert_eq!(still.judge(ms(1000), ms(5000), ms(1000)), None);
        assert_eq!(still.judge(ms(1025), ms(5525), ms(1525)), None);
        assert_eq!(still.judge(ms(1550), ms(5550), ms(2050)), None);
        // And is not blind for what comes after.
        let slept = still.judge(ms(2100), ms(6110), ms(2100));
        assert_eq!(slept, Some(Span::millis(10)));
    }

    #[test]
    fn the_real_clocks_of_a_host_that_is_awake_agree() {
        let mut still = Standstill::default();
        assert!((0..10_000).all(|_| still.look().is_none()));
    }
}
