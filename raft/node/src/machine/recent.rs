//! The outcomes of the last requests, so that a proposer that lost its answer may ask again.

use std::collections::{HashMap, VecDeque};

use vipd_core::codec::{DecodeError, Reader, Wire, Writer};
use vipd_core::command::Outcome;
use vipd_core::time::{Millis, Span};

/// How long a repeated request is recognised. A proposer gives up after half of it.
const KEEP: Span = Span::millis(10_000);
/// So many are, however old they are: the times are those of the proposers' clocks.
const LEAST: usize = 1024;
/// So many at most: more than a cluster commits in [`KEEP`].
const MOST: usize = 65_536;

/// The last requests with their outcomes, in log order. Part of the replicated state: every replica drops
/// the same one at the same entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    order: VecDeque<(u128, Millis)>,
    outcomes: HashMap<u128, Outcome>,
}

impl Recent {
    pub(super) fn get(&self, id: u128) -> Option<&Outcome> {
        self.outcomes.get(&id)
    }

    /// Takes the outcome of a request that was made `at`.
    pub(super) fn insert(&mut self, id: u128, at: Millis, outcome: Outcome) {
        if self.outcomes.insert(id, outcome).is_none() {
            self.order.push_back((id, at));
        }
        let over = |n: usize, since: Millis| {
            n > MOST || n > LEAST && at.0.saturating_sub(since.0) > KEEP.as_millis()
        };
        while let Some((oldest, since)) = self.order.front().copied()
            && over(self.order.len(), since)
        {
            self.order.pop_front();
            self.outcomes.remove(&oldest);
        }
    }
}

impl Wire for Recent {
    fn encode(&self, out: &mut Writer) {
        out.count(self.order.len());
        for (id, at) in &self.order {
            id.encode(out);
            at.encode(out);
            self.outcomes[id].encode(out);
        }
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut recent = Self::default();
        for _ in 0..input.count()? {
            let (id, at) = (u128::decode(input)?, Millis::decode(input)?);
            recent.insert(id, at, Outcome::decode(input)?);
        }
        Ok(recent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vipd_core::command::Applied;
    use vipd_core::id::Revision;

    fn with(requests: u64, apart: u64) -> Recent {
        let mut recent = Recent::default();
        for n in 0..requests {
            let revision = Revision(n);
            recent.insert(n.into(), Millis(n * apart), Ok(Applied::Done { revision }));
        }
        recent
    }

    #[test]
    fn a_request_is_known_for_ten_seconds_however_many_come_after_it() {
        let recent = with(20_000, 1);
        assert!(recent.get(9_999).is_some() && recent.get(9_998).is_none());
        let copy = Recent::from_bytes(&recent.to_bytes()).unwrap();
        assert_eq!(copy.to_bytes(), recent.to_bytes());
        let revision = Revision(9_999);
        assert_eq!(copy.get(9_999), Some(&Ok(Applied::Done { revision })));
    }

    #[test]
    fn they_are_neither_fewer_nor_more_than_the_bounds_whatever_the_clocks_say() {
        let slow = with(5_000, 60_000);
        assert_eq!((slow.order.len(), slow.outcomes.len()), (LEAST, LEAST));
        let at_once = with(MOST as u64 + 10, 0);
        assert_eq!((at_once.order.len(), at_once.outcomes.len()), (MOST, MOST));
    }
}
