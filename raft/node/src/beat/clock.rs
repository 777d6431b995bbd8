//! The clock of the lease: `CLOCK_BOOTTIME`, which the eBPF side reads too.

use nix::time::{ClockId, clock_gettime};
use vipd_core::time::Instant;

/// Now, since boot, suspend included.
#[must_use]
pub fn now() -> Instant {
    // Linux has had this clock since 2.6.39; the call cannot fail with a valid clock number.
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has CLOCK_BOOTTIME");
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
    Instant(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
