//! How often a node asks at all: bounded, whatever its VIPs say.

use crate::time::Millis;

/// So many questions a node asks in a second at most.
pub const RATE: u64 = 500;

/// The shortest interval that keeps all questions together within `rate` a second, given how often each is wanted to be
/// asked: those that are wanted more often than that are asked so often, the others as they are wanted.
/// 0 while there is room for all.
#[must_use]
pub fn no_more_often_than(intervals: impl Iterator<Item = Millis> + Clone, rate: u64) -> Millis {
    // Questions in 1,000 seconds, so that those of long intervals count.
    const IN: u64 = 1_000_000;
    let asked = |least: u64| -> u64 {
        let each = intervals.clone().map(|of| IN / of.0.max(least).max(1));
        each.fold(0, u64::saturating_add)
    };
    let most = rate.saturating_mul(IN / 1000);
    if asked(0) <= most {
        return Millis(0);
    }
    // More of `least` is never more questions, so halving finds it; an hour is the longest interval.
    let (mut low, mut high) = (0, 3_600_000);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if asked(middle) <= most {
            high = middle;
        } else {
            low = middle;
        }
    }
    Millis(high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    fn least(intervals: &[(usize, u64)], rate: u64) -> u64 {
        let all: Vec<Millis> = intervals
            .iter()
            .flat_map(|(n, ms)| vec![Millis(*ms); *n])
            .collect();
        no_more_often_than(all.iter().copied(), rate).0
    }

    #[test]
    fn as_long_as_there_is_room_all_are_asked_as_often_as_they_are_wanted() {
        assert_eq!(least(&[], 500), 0);
        assert_eq!(least(&[(50, 100)], 500), 0);
        assert_eq!(least(&[(1000, 2000)], 500), 0);
    }

    #[test]
    fn who_wants_most_gives_way_and_the_others_do_not() {
        // 256 each 100 ms would be 2,560 a second.
        assert_eq!(least(&[(256, 100)], 500), 512);
        // 100 each 2 s are 50 a second: 450 are left for the 256.
        let least = least(&[(256, 100), (100, 2000)], 500);
        assert!((568..=570).contains(&least), "{least}");
    }
}
