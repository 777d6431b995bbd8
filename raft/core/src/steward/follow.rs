//! Gates that follow the entries: of thousands of addresses only those are looked at that the newest entries have touched.
//!
//! It saves work and decides nothing: where anything else has changed that makes gates, all of them are made anew, and a
//! while after they have only followed, too ([`VERIFY`]), so that what was missed heals.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::gates::{Duty, Gates, Stance, stance};
use super::handing::Moves;
use crate::id::{NodeId, Revision};
use crate::node::Lease;
use crate::state::State;
use crate::time::{Instant, Span};
use crate::vip::Allocation;

/// How long gates may have followed before all are made anew.
const VERIFY: Span = Span::millis(1000);

/// What gates were made of, besides the allocations and the moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Basis {
    /// The last entry.
    applied: u64,
    around: Around,
    /// When all gates were made anew, and whether they have only followed since.
    whole: Instant,
    followed: bool,
}

/// What decides about many addresses at once: how many nodes and policies there are, and the newest entries that changed
/// one. Whatever is done to any of them changes one of these numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Around {
    supported: bool,
    nodes: (usize, Option<Revision>),
    policies: (usize, Option<Revision>),
}

impl Basis {
    /// Of gates that are made now.
    pub(super) fn of(state: &State, supported: bool, now: Instant) -> Self {
        let nodes = state.nodes().values().map(|node| node.revision);
        let policies = state.policies().values().map(|policy| policy.revision);
        Self {
            applied: state.applied(),
            around: Around {
                supported,
                nodes: (state.nodes().len(), nodes.max()),
                policies: (state.policies().len(), policies.max()),
            },
            whole: now,
            followed: false,
        }
    }

    /// Whether they have only followed since they were made.
    #[cfg(test)]
    pub(super) fn followed(&self) -> bool {
        self.followed
    }

    /// Whether gates that were made of `self` are those that would be made of `now`.
    pub(super) fn is_still(&self, now: &Self) -> bool {
        let verified = !self.followed || now.whole.since(self.whole) < VERIFY;
        verified && (self.applied, self.around) == (now.applied, now.around)
    }

    /// What has changed in `told`, which was made of `self`, by the entries up to `now`; `None` where all has to be made
    /// anew. Nothing moves away from this node, or to it, except by those entries.
    pub(super) fn changes(
        &mut self,
        now: &Self,
        state: &State,
        me: NodeId,
        moves: &Moves,
        told: &Gates,
    ) -> Option<Vec<(IpAddr, Option<Stance>)>> {
        let fresh = now.whole.since(self.whole) < VERIFY;
        if !fresh || self.around != now.around || self.applied > now.applied {
            return None;
        }
        let node = state.node(me)?;
        let may = now.around.supported && node.lease == Lease::Up;
        let touched = state.journal().addresses_since(self.applied)?;
        let touched: BTreeSet<IpAddr> = touched.collect();
        let mut changes = Vec::new();
        for address in touched {
            let (was, of) = (told.get(&address), state.allocations().get(&address));
            if moves.knows(&address)
                || was.is_some_and(in_a_move)
                || of.is_some_and(|of| concerns(of, me))
            {
                return None;
            }
            let is = of.and_then(|of| stance(state, node, address, of, may, moves));
            if was != is.as_ref() {
                changes.push((address, is));
            }
        }
        (self.applied, self.followed) = (now.applied, true);
        Some(changes)
    }
}

/// Whether the address is being handed on, or taken: time matters then.
fn in_a_move(stance: &Stance) -> bool {
    match stance.duty {
        Duty::Hand { .. } | Duty::Take { .. } => true,
        Duty::Open | Duty::Shut => false,
    }
}

/// Whether the address is to leave `me`, or to come to it.
fn concerns(of: &Allocation, me: NodeId) -> bool {
    of.vacating.is_some() && (of.holder == Some(me) || of.next == Some(me))
}
