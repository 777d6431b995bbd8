//! What the beat thread lets others read without a lock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Upper bounds of the lateness histogram's buckets, in microseconds; the last bucket is everything above.
const LATENESS_BOUNDS_US: [u64; 10] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000,
];

/// Counters and gauges of the beat thread.
#[derive(Debug, Default)]
pub struct BeatStats {
    pub(super) deadline: AtomicU64,
    pub(super) membership: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) late: [AtomicU64; LATENESS_BOUNDS_US.len() + 1],
    pub(super) latest_us: AtomicU64,
    pub(super) realtime: AtomicBool,
}

impl BeatStats {
    /// Until when this node may announce (`CLOCK_BOOTTIME` nanoseconds), 0 if never.
    #[must_use]
    pub fn deadline_ns(&self) -> u64 {
        self.deadline.load(Ordering::Acquire)
    }

    /// The membership entry by whose voters the deadline is reckoned: what a node may tell the cluster to have applied.
    #[must_use]
    pub fn membership(&self) -> u64 {
        self.membership.load(Ordering::Acquire)
    }

    /// Beats sent, one for each voter.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Datagrams taken.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Datagrams refused: not from a member, or forged.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// The longest that a beat was late, in microseconds.
    #[must_use]
    pub fn latest_us(&self) -> u64 {
        self.latest_us.load(Ordering::Relaxed)
    }

    /// Whether the thread runs in the real-time class.
    #[must_use]
    pub fn realtime(&self) -> bool {
        self.realtime.load(Ordering::Relaxed)
    }

    /// How late the slowest of 10,000 beats is at most, in microseconds: the upper bound of its bucket, or the
    /// latest of all.
    #[must_use]
    pub fn late_p9999_us(&self) -> u64 {
        let counts: Vec<u64> = self
            .late
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .collect();
        let mut left = counts.iter().sum::<u64>() / 10_000;
        for (i, count) in counts.iter().enumerate().rev() {
            if *count > left {
                return LATENESS_BOUNDS_US
                    .get(i)
                    .copied()
                    .unwrap_or(u64::MAX)
                    .min(self.latest_us());
            }
            left -= count;
        }
        0
    }

    pub(super) fn note_lateness(&self, us: u64) {
        let bucket = LATENESS_BOUNDS_US
            .iter()
            .position(|bound| us <= *bound)
            .unwrap_or(LATENESS_BOUNDS_US.len());
        self.late[bucket].fetch_add(1, Ordering::Relaxed);
        self.latest_us.fetch_max(us, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_late_beat_in_ten_thousand_is_not_yet_the_p9999() {
        let stats = BeatStats::default();
        (0..9_999).for_each(|_| stats.note_lateness(40));
        assert_eq!(stats.late_p9999_us(), 40, "never above the latest");
        stats.note_lateness(7_000);
        assert_eq!(stats.late_p9999_us(), 50);
        stats.note_lateness(7_000);
        assert_eq!(stats.late_p9999_us(), 7_000);
    }
}
