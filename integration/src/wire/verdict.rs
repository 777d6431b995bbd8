//! The verdict over what the tap heard. Pure: answers in, verdict out.
//!
//! Rule: addresses are held one reign after the other. Once the next holder has spoken, the one
//! before it must be silent, until it is elected again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::frame::How;
use crate::Stamp;
use crate::lab::Mac;

/// One claim to an address, heard on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When the frame entered the switch.
    pub at: Stamp,
    /// The address.
    pub address: IpAddr,
    /// Who claims to have it.
    pub mac: Mac,
    /// In what way.
    pub how: How,
    /// The port it came in by.
    pub port: Arc<str>,
}

/// What is to be said about one address over a stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The longest time in which two answered: from the first word of the rightful holder to the
    /// last word of another. Zero with strays present means the very same instant.
    pub overlap: Duration,
    /// Answers of somebody who was not, or no longer, the holder.
    pub strays: Vec<Answer>,
    /// How often the address went from one to another.
    pub handovers: usize,
}

impl Verdict {
    /// Never two at once.
    pub fn is_clean(&self) -> bool {
        self.strays.is_empty()
    }
}

/// One election, as the daemons tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Election {
    /// Who was elected.
    pub mac: Mac,
    /// It cannot have been earlier; an answer before that is not of this reign.
    pub not_before: Stamp,
}

/// Judges the answers for *one* address, oldest first, against the order in which hosts were elected.
///
/// `elected` is the whole sequence of holders, e.g. n1, n2, n1 when it came back. An empty one means:
/// nobody may come back, each host has at most one reign, in the order of first words.
pub fn judge(answers: &[Answer], elected: &[Election]) -> Verdict {
    let order = if elected.is_empty() {
        first_words(answers)
    } else {
        elected.to_vec()
    };
    let mut verdict = Verdict::default();
    // Index of the present reign and its first word.
    let mut reign: Option<(usize, Stamp)> = None;
    for answer in answers {
        if reign.is_some_and(|(index, _)| order[index].mac == answer.mac) {
            continue;
        }
        let next = reign.map_or(0, |(index, _)| index + 1);
        let its =
            |election: &Election| election.mac == answer.mac && election.not_before <= answer.at;
        if let Some(ahead) = order[next..].iter().position(its) {
            verdict.handovers += usize::from(reign.is_some());
            reign = Some((next + ahead, answer.at));
        } else {
            let since = reign.map_or(answer.at, |(_, since)| since);
            verdict.overlap = verdict.overlap.max(answer.at.since(since));
            verdict.strays.push(answer.clone());
        }
    }
    verdict
}

fn first_words(answers: &[Answer]) -> Vec<Election> {
    let mut order: Vec<Election> = Vec::new();
    for answer in answers {
        if order.iter().all(|election| election.mac != answer.mac) {
            order.push(Election {
                mac: answer.mac,
                not_before: answer.at,
            });
        }
    }
    order
}

/// A stretch of answers by one host, uninterrupted by another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reign {
    /// Who.
    pub mac: Mac,
    /// Its first word.
    pub from: Stamp,
    /// Its last word.
    pub to: Stamp,
    /// How many claims.
    pub claims: usize,
    /// How many of them were replies to somebody who asked.
    pub replies: usize,
}

/// The answers for *one* address, folded into reigns.
pub fn reigns(answers: &[Answer]) -> Vec<Reign> {
    let mut reigns: Vec<Reign> = Vec::new();
    for answer in answers {
        let replies = usize::from(answer.how.is_reply());
        match reigns.last_mut() {
            Some(last) if last.mac == answer.mac => {
                last.to = answer.at;
                last.claims += 1;
                last.replies += replies;
            }
            _ => reigns.push(Reign {
                mac: answer.mac,
                from: answer.at,
                to: answer.at,
                claims: 1,
                replies,
            }),
        }
    }
    reigns
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);
    const C: Mac = Mac([2, 0, 0, 0, 0, 0xc]);

    fn heard(words: &[(Mac, u64)]) -> Vec<Answer> {
        let answer = |&(mac, at)| Answer {
            at: Stamp(at),
            address: IpAddr::from([10, 77, 0, 100]),
            mac,
            how: How::ArpReply,
            port: "n1".into(),
        };
        words.iter().map(answer).collect()
    }

    #[test]
    fn two_that_answer_at_once_are_always_caught() {
        // what was heard, who was elected, overlap in ns, strays, handovers
        type Case<'a> = (
            &'a str,
            &'a [(Mac, u64)],
            &'a [(Mac, u64)],
            u64,
            usize,
            usize,
        );
        #[rustfmt::skip]
        let cases: &[Case<'_>] = &[
            ("nobody spoke", &[], &[], 0, 0, 0),
            ("one holder", &[(A, 1), (A, 9)], &[], 0, 0, 0),
            ("a clean handover", &[(A, 1), (A, 5), (B, 6), (B, 9)], &[], 0, 0, 1),
            ("the old one once more", &[(A, 1), (B, 6), (A, 8), (B, 9)], &[], 2, 1, 1),
            ("the old one in the same instant", &[(A, 1), (B, 6), (A, 6)], &[], 0, 1, 1),
            ("both all the time", &[(A, 1), (B, 2), (A, 3), (B, 4), (A, 99)], &[], 97, 2, 1),
            ("re-elected", &[(A, 1), (B, 2), (A, 3)], &[(A, 0), (B, 2), (A, 3)], 0, 0, 2),
            ("too early, though elected later", &[(A, 1), (B, 5), (A, 6), (B, 7), (A, 30)], &[(A, 0), (B, 5), (A, 20)], 1, 1, 2),
            ("re-elected, the other lingers", &[(A, 1), (B, 2), (A, 3), (B, 7)], &[(A, 0), (B, 0), (A, 0)], 4, 1, 2),
            ("a holder that never spoke", &[(A, 1), (C, 4)], &[(A, 0), (B, 2), (C, 3)], 0, 0, 1),
            ("a stranger", &[(A, 1), (C, 4), (A, 5)], &[(A, 0)], 3, 1, 0),
            ("a stranger before anybody", &[(C, 1), (A, 5)], &[(A, 0)], 0, 1, 0),
            ("three, the first lingers", &[(A, 1), (B, 4), (C, 6), (A, 7)], &[], 1, 1, 2),
        ];
        for &(name, words, elected, overlap, strays, handovers) in cases {
            let elected: Vec<_> = elected
                .iter()
                .map(|&(mac, at)| Election {
                    mac,
                    not_before: Stamp(at),
                })
                .collect();
            let verdict = judge(&heard(words), &elected);
            assert_eq!(
                verdict.overlap,
                Duration::from_nanos(overlap),
                "{name}: {verdict:?}"
            );
            assert_eq!(verdict.strays.len(), strays, "{name}: {verdict:?}");
            assert_eq!(verdict.handovers, handovers, "{name}: {verdict:?}");
            assert_eq!(verdict.is_clean(), strays == 0, "{name}");
        }
    }

    #[test]
    fn reigns_are_the_uninterrupted_stretches() {
        let folded = reigns(&heard(&[(A, 1), (A, 4), (B, 6), (A, 8)]));
        let shape: Vec<_> = folded
            .iter()
            .map(|r| (r.mac, r.from.0, r.to.0, r.claims))
            .collect();
        assert_eq!(shape, [(A, 1, 4, 2), (B, 6, 6, 1), (A, 8, 8, 1)]);
    }
}
