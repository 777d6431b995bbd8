//! The check of a whole log at start. Finds; never mends.

use super::disk::Recovered;
use super::witness::Tail;
use crate::types::term_of;

/// What is wrong with a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It contradicts itself.
    Damaged(String),
    /// It is behind what the witness saw acknowledged.
    Behind(String),
}

/// Checks that indexes are dense, terms never fall, nothing purged is left, and nothing that the witness saw
/// is missing.
pub(super) fn verify(log: &Recovered, witness: &Tail) -> Result<(), Fault> {
    dense(log).map_err(Fault::Damaged)?;
    not_behind(log, witness).map_err(Fault::Behind)
}

fn dense(log: &Recovered) -> Result<(), String> {
    let (mut next, mut term) = match &log.purged {
        Some(purged) => (purged.index + 1, term_of(purged)),
        None => (0, 0),
    };
    for (index, entry) in &log.entries {
        if entry.log_id.index != *index {
            return Err(format!(
                "the entry filed under {index} says it is {}",
                entry.log_id.index
            ));
        }
        if *index != next {
            return Err(format!("entry {next} is missing: {index} comes next"));
        }
        let own = term_of(&entry.log_id);
        if own < term {
            return Err(format!("entry {index} has term {own} after term {term}"));
        }
        (next, term) = (index + 1, own);
    }
    Ok(())
}

fn not_behind(log: &Recovered, tail: &Tail) -> Result<(), String> {
    // That very entry, not the later of two ids: a snapshot of term 5 takes the place of a tail of term 6 that was never
    // committed, and a tail of term 6 is no proof of an entry of term 7 that came in its place.
    if let Some(seen) = &tail.last
        && !log.reaches(seen)
    {
        return Err(format!(
            "it ends at {}, the witness saw {}",
            show(log.last()),
            show(tail.last)
        ));
    }
    if log.purged < tail.purged {
        return Err(format!(
            "it is purged to {}, the witness saw {}",
            show(log.purged),
            show(tail.purged)
        ));
    }
    if let Some(seen) = &tail.vote
        && !log.vote.as_ref().is_some_and(|vote| vote >= seen)
    {
        return Err(format!(
            "its vote is older than {seen}, which the witness saw"
        ));
    }
    let fenced = log.fences.values().map(|epoch| epoch.0).max().unwrap_or(0);
    if fenced < tail.fenced {
        return Err(format!(
            "its newest fence is {fenced}, the witness saw {}",
            tail.fenced
        ));
    }
    Ok(())
}

pub(super) fn show(id: Option<crate::types::LogId>) -> String {
    id.map_or_else(
        || "nothing".into(),
        |id| format!("entry {} of term {}", id.index, term_of(&id)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Entry, Vote, log_id};
    use openraft::EntryPayload;
    use vipd_core::id::{Epoch, NodeId};

    fn log(ids: &[(u64, u64)]) -> Recovered {
        let entries = ids
            .iter()
            .map(|&(term, index)| {
                (
                    index,
                    Entry {
                        log_id: log_id(term, index),
                        payload: EntryPayload::Blank,
                    },
                )
            })
            .collect();
        Recovered {
            entries,
            ..Recovered::default()
        }
    }

    fn tail(term: u64, index: u64) -> Tail {
        Tail {
            last: Some(log_id(term, index)),
            ..Tail::default()
        }
    }

    #[test]
    fn a_hole_is_damage() {
        let fault = verify(&log(&[(1, 0), (1, 2)]), &Tail::default()).unwrap_err();
        assert_eq!(
            fault,
            Fault::Damaged("entry 1 is missing: 2 comes next".into())
        );
    }

    #[test]
    fn a_falling_term_is_damage() {
        assert!(matches!(
            verify(&log(&[(2, 0), (1, 1)]), &Tail::default()),
            Err(Fault::Damaged(_))
        ));
    }

    #[test]
    fn a_log_shorter_than_the_witness_saw_has_lost_data() {
        assert_eq!(verify(&log(&[(1, 0), (1, 1)]), &tail(1, 1)), Ok(()));
        assert!(matches!(
            verify(&log(&[(1, 0)]), &tail(1, 1)),
            Err(Fault::Behind(_))
        ));
        assert!(matches!(
            verify(&log(&[]), &tail(1, 1)),
            Err(Fault::Behind(_))
        ));
    }

    #[test]
    fn a_log_of_the_same_length_without_the_entry_that_the_witness_saw_has_lost_data() {
        let other = log(&[(1, 0), (1, 1), (1, 2)]);
        assert!(matches!(verify(&other, &tail(2, 1)), Err(Fault::Behind(_))));
        let later = log(&[(1, 0), (3, 1), (3, 2)]);
        assert!(matches!(verify(&later, &tail(2, 1)), Err(Fault::Behind(_))));
    }

    #[test]
    fn what_a_purge_covers_is_not_lost_whatever_its_term_was() {
        let purged = Recovered {
            purged: Some(log_id(5, 100)),
            ..Recovered::default()
        };
        for seen in [tail(6, 95), tail(4, 100), tail(5, 100)] {
            assert_eq!(verify(&purged, &seen), Ok(()));
        }
        assert!(matches!(
            verify(&purged, &tail(5, 101)),
            Err(Fault::Behind(_))
        ));
    }

    #[test]
    fn an_older_vote_or_fence_than_the_witness_saw_is_lost_data() {
        let voted = Tail {
            vote: Some(Vote::new(4, 2)),
            ..Tail::default()
        };
        assert!(matches!(verify(&log(&[]), &voted), Err(Fault::Behind(_))));
        let mut newer = log(&[]);
        newer.vote = Some(Vote::new_committed(4, 2));
        assert_eq!(verify(&newer, &voted), Ok(()));
        let fenced = Tail {
            fenced: 9,
            ..Tail::default()
        };
        assert!(matches!(verify(&log(&[]), &fenced), Err(Fault::Behind(_))));
        newer.fences.insert(NodeId(3), Epoch(9));
        assert_eq!(verify(&newer, &fenced), Ok(()));
    }
}
