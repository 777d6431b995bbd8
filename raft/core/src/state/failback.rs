//! Failback: VIPs return to their homes, once these have been steady for as long as the VIP asks.
//!
//! Time is that of log entries: whoever leads asks [`State::failback_due`] and proposes
//! [`crate::command::Command::FailBack`] when it is over; the entry's own time decides again.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::unit::{Given, UnitKey};
use super::{Entry, State, done};
use crate::command::Outcome;
use crate::event::Cause;
use crate::id::NodeId;
use crate::time::Millis;

/// Whatever its VIPs say, a node is given back nothing in its first second: it has a lease by then, but not yet the
/// support of a majority for it, and until it has, nobody would answer.
pub(super) const SUPPORTED: Millis = Millis(1000);

/// Addresses that return together, where to, and when.
struct Return {
    addresses: Vec<IpAddr>,
    home: NodeId,
    due: Millis,
}

impl State {
    /// When the next VIP may return to its home, by the wall clock; `None` while none can. A time that is over asks
    /// for a [`crate::command::Command::FailBack`], which always moves something then.
    #[must_use]
    pub fn failback_due(&self) -> Option<Millis> {
        self.returns().into_iter().map(|back| back.due).min()
    }

    pub(super) fn fail_back(&mut self, entry: Entry) -> Outcome {
        self.return_home(entry);
        done(entry)
    }

    /// Sends home whatever is due.
    pub(super) fn return_home(&mut self, entry: Entry) {
        let due = self
            .returns()
            .into_iter()
            .filter(|back| back.due <= entry.at);
        for back in due.collect::<Vec<_>>() {
            for address in back.addresses {
                self.hand_over(entry, address, back.home, Cause::FailedBack);
            }
        }
    }

    /// All that is away from a home that could hold it now.
    fn returns(&self) -> Vec<Return> {
        let mut seen: BTreeSet<(NodeId, UnitKey)> = BTreeSet::new();
        let mut returns = Vec::new();
        for (home, addresses) in &self.index.away {
            let Some(node) = self.nodes.get(home).filter(|node| node.accepts()) else {
                continue;
            };
            for address in addresses {
                let allocation = self.allocations.get(address);
                let Some(key) = allocation.and_then(|of| self.unit_key(&of.vip)) else {
                    continue;
                };
                if !seen.insert((*home, key.clone())) {
                    continue;
                }
                let Some(delay) = self.failback_of(&key) else {
                    continue;
                };
                let part = self.part_at_home(key.clone(), *home);
                let sees = !self.blindness(&self.unit(key)).contains_key(home);
                if sees && part.iter().all(|given| self.can_return(*given, *home)) {
                    returns.push(Return {
                        addresses: part.iter().map(|given| given.address).collect(),
                        home: *home,
                        due: Millis(node.steady_since.0.saturating_add(delay.max(SUPPORTED).0)),
                    });
                }
            }
        }
        returns
    }

    /// What of a unit returns to `home` together: all of a group, the addresses of a VIP that belong there.
    fn part_at_home(&self, key: UnitKey, home: NodeId) -> Vec<Given<'_>> {
        let unit = self.unit(key);
        let strict = unit.strict();
        let all = unit.given.into_iter();
        all.filter(|given| strict || given.of.home == Some(home))
            .collect()
    }

    fn can_return(&self, given: Given<'_>, home: NodeId) -> bool {
        given.of.vacating.is_none() && given.of.home == Some(home) && self.keeps(home, given)
    }
}
