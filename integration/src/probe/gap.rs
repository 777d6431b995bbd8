//! The longest time that a client waited in vain, from what it asked and what it was told. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::udp::Reply;
use crate::Stamp;

/// A time in which the client asked and nobody replied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first question after the last reply: while the client does not ask (its own machine may
    /// be busy), nobody owes it a reply.
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

/// The longest gap between `from` and `to`, both lists oldest first. Without any reply it is the
/// time since the first question.
pub fn longest_gap(asked: &[Stamp], replies: &[Reply], from: Stamp, to: Stamp) -> Gap {
    let gaps = gaps(asked, replies, from, to).into_iter();
    gaps.max_by_key(Gap::length).unwrap_or(Gap {
        from,
        to,
        before: None,
        after: None,
    })
}

/// The time before each reply between `from` and `to`, and after the last one; both lists oldest first.
pub fn gaps(asked: &[Stamp], replies: &[Reply], from: Stamp, to: Stamp) -> Vec<Gap> {
    let inside = replies.iter().filter(|r| r.at >= from && r.at <= to);
    let mut times: Vec<(Stamp, Option<&Arc<str>>)> =
        inside.map(|r| (r.at, Some(&r.host))).collect();
    times.insert(0, (from, None));
    times.push((to, None));
    let gap = |pair: &[(Stamp, Option<&Arc<str>>)]| {
        let ((last, before), (next, after)) = (pair[0], pair[1]);
        let first_question = asked.get(asked.partition_point(|&at| at < last));
        Gap {
            from: first_question.map_or(next, |&at| at.min(next)),
            to: next,
            before: before.cloned(),
            after: after.cloned(),
        }
    };
    times.windows(2).map(gap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(asked: &[u64], replied: &[(u64, &str)], from: u64, to: u64) -> Gap {
        let asked: Vec<Stamp> = asked.iter().copied().map(Stamp).collect();
        let reply = |&(at, host): &(u64, &str)| Reply {
            number: 0,
            at: Stamp(at),
            host: host.into(),
        };
        let replies: Vec<Reply> = replied.iter().map(reply).collect();
        longest_gap(&asked, &replies, Stamp(from), Stamp(to))
    }

    #[test]
    fn the_outage_is_the_longest_time_of_asking_in_vain() {
        let asked: Vec<u64> = (0..60).collect();
        let replied = [(10, "n1"), (11, "n1"), (12, "n1"), (40, "n2"), (41, "n2")];
        let gap = gap(&asked, &replied, 10, 41);
        let ends = (gap.before.as_deref(), gap.after.as_deref());
        assert_eq!(
            (gap.length().as_nanos(), ends),
            (28, (Some("n1"), Some("n2")))
        );
    }

    #[test]
    fn silence_at_either_end_of_the_window_counts() {
        let asked: Vec<u64> = (0..100).collect();
        let length =
            |replied: &[(u64, &str)], from, to| gap(&asked, replied, from, to).length().as_nanos();
        assert_eq!(length(&[(10, "n1"), (11, "n1")], 0, 11), 10);
        assert_eq!(length(&[(10, "n1"), (11, "n1")], 10, 90), 79);
        assert_eq!(length(&[], 5, 50), 45);
    }

    #[test]
    fn a_client_that_does_not_ask_is_not_kept_waiting() {
        // It slept from 12 to 50, and was answered at once when it asked again.
        let gap = gap(
            &[10, 11, 50, 51],
            &[(11, "n1"), (12, "n1"), (52, "n1")],
            10,
            52,
        );
        assert_eq!(gap.length().as_nanos(), 2);
    }
}
