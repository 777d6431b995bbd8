//! The outcomes of the last requests, so that a proposer that lost its answer may ask again.

use std::collections::{HashMap, VecDeque};

use vipd_core::codec::{DecodeError, Reader, Wire, Writer};
use vipd_core::command::Outcome;

/// How many requests back a repeated one is recognised. A proposer gives up after seconds, long before so
/// many others have passed it.
const KEEP: usize = 1024;

/// The last requests with their outcomes, in log order. Part of the replicated state: every replica drops
/// the same one at the same entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    order: VecDeque<u128>,
    outcomes: HashMap<u128, Outcome>,
}

impl Recent {
    pub(super) fn get(&self, id: u128) -> Option<&Outcome> {
        self.outcomes.get(&id)
    }

    pub(super) fn insert(&mut self, id: u128, outcome: Outcome) {
        if self.outcomes.insert(id, outcome).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > KEEP
            && let Some(oldest) = self.order.pop_front()
        {
            self.outcomes.remove(&oldest);
        }
    }
}

impl Wire for Recent {
    fn encode(&self, out: &mut Writer) {
        out.count(self.order.len());
        for id in &self.order {
            id.encode(out);
            self.outcomes[id].encode(out);
        }
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut recent = Self::default();
        for _ in 0..input.count()? {
            recent.insert(u128::decode(input)?, Outcome::decode(input)?);
        }
        Ok(recent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vipd_core::command::Applied;
    use vipd_core::id::Revision;

    #[test]
    fn the_window_is_bounded_and_survives_encoding() {
        let mut recent = Recent::default();
        for n in 0..KEEP as u128 + 10 {
            recent.insert(
                n,
                Ok(Applied::Done {
                    revision: Revision(n as u64),
                }),
            );
        }
        let copy = Recent::from_bytes(&recent.to_bytes()).unwrap();
        assert_eq!(copy.order.len(), KEEP);
        assert_eq!(copy.outcomes.len(), KEEP);
        assert!(copy.get(9).is_none());
        assert_eq!(
            copy.get(10),
            Some(&Ok(Applied::Done {
                revision: Revision(10)
            }))
        );
    }
}
