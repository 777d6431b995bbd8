//! How long two hosts owned one address, and how often it changed hands, from the wire alone. Pure.
//!
//! The judge of the tests ([`crate::wire::judge`]) knows who was elected. Here systems are compared that elect nobody,
//! so the same rule must serve all: a host that speaks for an address, another one that does, and the first one again
//! *soon after*, is two owners. The observer asks each 5 ms, so two that both answer alternate within that time.

use std::time::Duration;

use crate::lab::Mac;
use crate::wire::{Answer, How, Reign, reigns};

/// Nobody gives an address away and rightfully has it again within this time, whatever is done to it.
pub(crate) const SOON: Duration = Duration::from_millis(50);

/// For how long in all two hosts spoke for the address of these answers, which are oldest first: one did, another one,
/// and within `soon` the first one again.
pub(crate) fn overlap(answers: &[Answer], soon: Duration) -> Duration {
    let reigns = reigns(answers);
    let mut total = Duration::ZERO;
    let mut counted_to = crate::Stamp::default();
    for three in reigns.windows(3) {
        let [first, second, third] = three else {
            continue;
        };
        if third.mac != first.mac || third.from.since(first.to) > soon {
            continue;
        }
        // From the other's first word to the last of the two that is known to be followed by the other again.
        let from = second.from.max(counted_to);
        total += third.from.since(from);
        counted_to = third.from.max(counted_to);
    }
    total
}

/// Who announced the address unasked, one after the other: each change is a takeover.
///
/// A host whose announcement is one of a burst that a takeover by another interrupted counts again: that is what the
/// wire saw, and what neighbours believed.
pub(crate) fn takeovers(answers: &[Answer], holder: Mac) -> usize {
    let unasked = |answer: &&Answer| match answer.how {
        How::Gratuitous | How::Unsolicited => true,
        How::ArpReply | How::ArpRequest | How::Advertisement | How::Packet => false,
    };
    let announced: Vec<Answer> = answers.iter().filter(unasked).cloned().collect();
    let mut last = holder;
    let mut changes = 0;
    for Reign { mac, .. } in reigns(&announced) {
        changes += usize::from(mac != last);
        last = mac;
    }
    changes
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::Stamp;

    const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);

    fn heard(words: &[(Mac, u64)], how: How) -> Vec<Answer> {
        let answer = |&(mac, ms): &(Mac, u64)| Answer {
            at: Stamp(ms * 1_000_000),
            address: IpAddr::from([10, 77, 0, 100]),
            mac,
            how,
            port: "n1".into(),
        };
        words.iter().map(answer).collect()
    }

    fn overlap_ms(words: &[(Mac, u64)]) -> u128 {
        overlap(&heard(words, How::ArpReply), SOON).as_millis()
    }

    #[test]
    fn one_after_the_other_is_no_overlap() {
        assert_eq!(overlap_ms(&[]), 0);
        assert_eq!(overlap_ms(&[(A, 0), (A, 5), (B, 6), (B, 11)]), 0);
        // Given away, and rightfully back a second later.
        assert_eq!(overlap_ms(&[(A, 0), (B, 5), (B, 1000), (A, 1001)]), 0);
    }

    #[test]
    fn a_last_word_of_the_old_holder_counts_from_the_first_of_the_new() {
        assert_eq!(overlap_ms(&[(A, 0), (B, 5), (A, 8), (B, 10), (B, 15)]), 5);
    }

    #[test]
    fn two_that_answer_all_the_time_overlap_all_the_time() {
        let words: Vec<(Mac, u64)> = (0..400)
            .flat_map(|k| [(A, k * 5), (B, k * 5 + 1)])
            .collect();
        assert_eq!(overlap_ms(&words), 399 * 5);
    }

    #[test]
    fn two_stretches_of_overlap_add_up() {
        let words = [(A, 0), (B, 1), (A, 5), (A, 500), (B, 501), (A, 505)];
        assert_eq!(overlap_ms(&words), 8);
    }

    #[test]
    fn a_takeover_is_a_change_of_who_announces() {
        let bursts = heard(&[(B, 1), (B, 50), (A, 60), (B, 70)], How::Gratuitous);
        assert_eq!(takeovers(&bursts, A), 3);
        assert_eq!(takeovers(&bursts, B), 2);
        // Answering when asked is no takeover.
        assert_eq!(takeovers(&heard(&[(B, 1)], How::ArpReply), A), 0);
        assert_eq!(takeovers(&heard(&[(A, 1)], How::Gratuitous), A), 0);
    }
}
