//! What the beat thread lets others read without a lock.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Upper bounds of the lateness histogram's buckets, in microseconds; the last bucket is everything above. Those that a
/// profile must not pass (a quarter of its lease) are among them.
const LATENESS_BOUNDS_US: [u64; 13] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 15_000, 25_000, 37_500, 50_000, 75_000,
];
/// Beats in one window: lateness is told of the present one and the one before, so that what was an hour ago does not
/// count for ever.
const WINDOW: u64 = 10_000;

/// How late the beats of one window were.
#[derive(Debug, Default)]
struct Window {
    beats: AtomicU64,
    late: [AtomicU64; LATENESS_BOUNDS_US.len() + 1],
    latest_us: AtomicU64,
}

impl Window {
    fn clear(&self) {
        self.beats.store(0, Ordering::Relaxed);
        self.latest_us.store(0, Ordering::Relaxed);
        for bucket in &self.late {
            bucket.store(0, Ordering::Relaxed);
        }
    }
}

/// Counters and gauges of the beat thread.
#[derive(Debug, Default)]
pub struct BeatStats {
    pub(super) deadline: AtomicU64,
    pub(super) membership: AtomicU64,
    pub(super) answered: AtomicBool,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) rejected: AtomicU64,
    windows: [Window; 2],
    /// Which of the two is being filled.
    present: AtomicUsize,
    pub(super) realtime: AtomicBool,
    standstills: AtomicU64,
    standstill_ms: AtomicU64,
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

    /// Whether a majority of voters has answered this node's beats within the last lease, be it with a refusal.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }

    /// How often the host stood still, and for how many milliseconds altogether.
    #[must_use]
    pub fn standstills(&self) -> (u64, u64) {
        (
            self.standstills.load(Ordering::Acquire),
            self.standstill_ms.load(Ordering::Relaxed),
        )
    }

    pub(super) fn note_standstill(&self, ms: u64) {
        self.standstill_ms.fetch_add(ms, Ordering::Relaxed);
        self.standstills.fetch_add(1, Ordering::Release);
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

    /// The longest that one of the last 10,000 to 20,000 beats was late, in microseconds.
    #[must_use]
    pub fn latest_us(&self) -> u64 {
        let latest = |window: &Window| window.latest_us.load(Ordering::Relaxed);
        self.windows.iter().map(latest).max().unwrap_or(0)
    }

    /// Whether the thread runs in the real-time class.
    #[must_use]
    pub fn realtime(&self) -> bool {
        self.realtime.load(Ordering::Relaxed)
    }

    /// How late the slowest of 10,000 beats is at most, in microseconds: the upper bound of its bucket, or the
    /// latest of all. Of the last 10,000 to 20,000 beats.
    #[must_use]
    pub fn late_p9999_us(&self) -> u64 {
        let count = |i: usize| -> u64 {
            let windows = self.windows.iter();
            windows
                .map(|window| window.late[i].load(Ordering::Relaxed))
                .sum()
        };
        let buckets = 0..=LATENESS_BOUNDS_US.len();
        let mut left = buckets.clone().map(count).sum::<u64>() / 10_000;
        for i in buckets.rev() {
            if count(i) > left {
                return LATENESS_BOUNDS_US
                    .get(i)
                    .copied()
                    .unwrap_or(u64::MAX)
                    .min(self.latest_us());
            }
            left -= count(i);
        }
        0
    }

    /// For the beat thread alone.
    pub(super) fn note_lateness(&self, us: u64) {
        let mut present = self.present.load(Ordering::Relaxed);
        if self.windows[present].beats.load(Ordering::Relaxed) >= WINDOW {
            present = 1 - present;
            self.windows[present].clear();
            self.present.store(present, Ordering::Relaxed);
        }
        let window = &self.windows[present];
        let bucket = LATENESS_BOUNDS_US
            .iter()
            .position(|bound| us <= *bound)
            .unwrap_or(LATENESS_BOUNDS_US.len());
        window.beats.fetch_add(1, Ordering::Relaxed);
        window.late[bucket].fetch_add(1, Ordering::Relaxed);
        window.latest_us.fetch_max(us, Ordering::Relaxed);
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

    #[test]
    fn lateness_is_forgotten_after_two_windows() {
        let stats = BeatStats::default();
        (0..3).for_each(|_| stats.note_lateness(90_000));
        (0..WINDOW - 3).for_each(|_| stats.note_lateness(40));
        assert_eq!(stats.late_p9999_us(), 90_000);
        (0..WINDOW).for_each(|_| stats.note_lateness(40));
        assert_eq!(
            stats.late_p9999_us(),
            90_000,
            "the window before still counts"
        );
        stats.note_lateness(40);
        assert_eq!(stats.late_p9999_us(), 40);
    }
}
