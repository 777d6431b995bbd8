//! What a node sees of all backends of a VIP together, and when it says so: for VIPs that go elsewhere when all are down.
//!
//! Such a VIP leaves a node only when the node has said "all are down", and comes back only after it has said otherwise. So
//! how often it moves is bounded by how often nodes say something, and that is bounded here: bad news is told at once,
//! good news only after it has lasted, and the longer the more often it did not.

use crate::time::{Instant, Span};

/// What is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nobody knows yet: not all that matter were asked.
    Unknown,
    /// For each family of the VIP's addresses some backend is up, and has said so itself.
    Up,
    /// Of a family of the VIP's addresses all backends are down, and there are some.
    Down,
}

/// What one node says about one VIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Since when it has been up without a break.
    up_since: Option<Instant>,
    /// When it last said "all are down", and how long "up" has to last since.
    told: Option<(Instant, Span)>,
    /// Whether it has been up since: what is said again because nobody heard it is no other failure.
    was_up: bool,
}

impl Sight {
    /// How long "up" has to last before it is told, at first.
    pub const FIRST: Span = Span::millis(5_000);
    /// The same at most: it doubles with each time that it did not last.
    pub const LONGEST: Span = Span::millis(300_000);

    /// Takes what is seen at `now`, where the cluster knows that all are down (`told`) or not. What the cluster is to be
    /// told, if it is another thing.
    pub fn look(&mut self, now: Instant, seen: Seen, told: bool) -> Option<Seen> {
        match seen {
            Seen::Up => {
                self.up_since = self.up_since.or(Some(now));
                self.was_up = true;
            }
            Seen::Unknown | Seen::Down => self.up_since = None,
        }
        match seen {
            Seen::Down if !told => {
                let again = self.told.filter(|_| !self.was_up).map(|(_, last)| last);
                let patience = again.unwrap_or_else(|| self.patience_after(now));
                self.told = Some((now, patience));
                self.was_up = false;
                Some(Seen::Down)
            }
            Seen::Up if told => {
                let patience = self.told.map_or(Self::FIRST, |(_, patience)| patience);
                let lasted = self.up_since.map_or(Span(0), |since| now.since(since));
                (lasted >= patience).then_some(Seen::Up)
            }
            Seen::Unknown | Seen::Up | Seen::Down => None,
        }
    }

    /// How long "up" has to last after all were found to be down at `now`: twice as long as the last time, unless that was
    /// long ago.
    fn patience_after(&self, now: Instant) -> Span {
        match self.told {
            Some((at, last)) if now.since(at) < Span(4 * Self::LONGEST.0) => {
                Span((2 * last.0).min(Self::LONGEST.0))
            }
            Some(_) | None => Self::FIRST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told, and when in seconds, while what is seen changes each `period` seconds.
    fn told_within(seconds: u64, period: u64) -> alloc::vec::Vec<(u64, Seen)> {
        let (mut sight, mut known, mut all) = (Sight::default(), false, alloc::vec::Vec::new());
        for s in 0..seconds {
            let seen = if (s / period).is_multiple_of(2) {
                Seen::Down
            } else {
                Seen::Up
            };
            let now = Instant(s * 1_000_000_000);
            if let Some(news) = sight.look(now, seen, known) {
                known = news == Seen::Down;
                all.push((s, news));
            }
        }
        all
    }

    #[test]
    fn bad_news_is_told_at_once_and_good_news_when_it_has_lasted() {
        assert_eq!(told_within(20, 10), [(0, Seen::Down), (15, Seen::Up)]);
    }

    #[test]
    fn who_goes_up_and_down_is_believed_less_each_time() {
        let told = told_within(3600, 20);
        // It has to last 5 s, then 10, then 20: longer than it does.
        let down = |s| (s, Seen::Down);
        let up = |s| (s, Seen::Up);
        assert_eq!(told, [down(0), up(25), down(40), up(70), down(80)]);
    }

    #[test]
    fn nothing_is_told_of_what_nobody_knows_nor_twice() {
        let mut sight = Sight::default();
        let at = |s: u64| Instant(s * 1_000_000_000);
        assert_eq!(sight.look(at(0), Seen::Unknown, true), None);
        assert_eq!(sight.look(at(60), Seen::Unknown, true), None);
        // A node that has been restarted does not know since when: it begins to count.
        assert_eq!(sight.look(at(61), Seen::Up, true), None);
        assert_eq!(sight.look(at(66), Seen::Up, true), Some(Seen::Up));
        assert_eq!(sight.look(at(67), Seen::Up, false), None);
        assert_eq!(sight.look(at(68), Seen::Down, false), Some(Seen::Down));
        assert_eq!(sight.look(at(69), Seen::Down, true), None);
    }

    #[test]
    fn what_is_said_again_because_nobody_heard_it_is_no_other_failure() {
        let (mut sight, mut now) = (Sight::default(), Instant(0));
        for _ in 0..10 {
            assert_eq!(sight.look(now, Seen::Down, false), Some(Seen::Down));
            now = now.after(Span::millis(5_000));
        }
        assert_eq!(sight.look(now, Seen::Up, true), None);
        now = now.after(Sight::FIRST);
        assert_eq!(sight.look(now, Seen::Up, true), Some(Seen::Up));
    }
}
