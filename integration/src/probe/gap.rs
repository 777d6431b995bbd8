//! The longest silence in a list of replies. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::udp::Reply;
use crate::Stamp;

/// A time without any reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last reply before it, or the begin of the window.
    pub from: Stamp,
    /// The first reply after it, or the end of the window.
    pub to: Stamp,
    /// Who replied last, if anybody.
    pub before: Option<Arc<str>>,
    /// Who replied next, if anybody.
    pub after: Option<Arc<str>>,
}

impl Gap {
    /// How long it lasted.
    pub fn length(&self) -> Duration {
        self.to.since(self.from)
    }
}

/// The longest gap between `from` and `to`. With no reply at all the window itself is the gap.
pub fn longest_gap(replies: &[Reply], from: Stamp, to: Stamp) -> Gap {
    let mut times: Vec<(Stamp, Option<&Arc<str>>)> = replies
        .iter()
        .filter(|r| r.at >= from && r.at <= to)
        .map(|r| (r.at, Some(&r.host)))
        .chain([(from, None), (to, None)])
        .collect();
    // Stable, and the ends come last in the list: an end never hides a reply of the same instant.
    times.sort_by_key(|&(at, _)| at);
    let gaps = times.windows(2).map(|pair| Gap {
        from: pair[0].0,
        to: pair[1].0,
        before: pair[0].1.cloned(),
        after: pair[1].1.cloned(),
    });
    gaps.max_by_key(Gap::length).unwrap_or(Gap {
        from,
        to,
        before: None,
        after: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(list: &[(u64, &str)]) -> Vec<Reply> {
        let reply = |&(at, host): &(u64, &str)| Reply {
            number: 0,
            at: Stamp(at),
            host: host.into(),
        };
        list.iter().map(reply).collect()
    }

    #[test]
    fn the_outage_is_the_longest_time_between_two_replies() {
        let all = replies(&[(10, "n1"), (11, "n1"), (12, "n1"), (40, "n2"), (41, "n2")]);
        let gap = longest_gap(&all, Stamp(10), Stamp(41));
        assert_eq!(
            (
                gap.length().as_nanos(),
                gap.before.as_deref(),
                gap.after.as_deref()
            ),
            (28, Some("n1"), Some("n2"))
        );
    }

    #[test]
    fn silence_at_either_end_of_the_window_counts() {
        let all = replies(&[(10, "n1"), (11, "n1")]);
        assert_eq!(
            longest_gap(&all, Stamp(0), Stamp(11)).length().as_nanos(),
            10
        );
        assert_eq!(
            longest_gap(&all, Stamp(10), Stamp(90)).length().as_nanos(),
            79
        );
        assert_eq!(
            longest_gap(&[], Stamp(5), Stamp(50)).length().as_nanos(),
            45
        );
    }
}
