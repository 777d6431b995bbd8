//! The side of the leader: which leases a majority has certified to be over.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::id::{Epoch, NodeId};
use crate::node::Lease;
use crate::state::State;

/// Gathers certificates. Kept by every voter, used by the one that leads: a new leader has them all already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Takeover {
    /// By node: the newest epoch that each voter certifies.
    certificates: BTreeMap<NodeId, BTreeMap<NodeId, Epoch>>,
}

impl Takeover {
    /// Notes that `voter` certifies the end of `node`'s lease `epoch`; whether that is news.
    pub fn on_certificate(&mut self, voter: NodeId, node: NodeId, epoch: Epoch) -> bool {
        let newest = self
            .certificates
            .entry(node)
            .or_default()
            .entry(voter)
            .or_default();
        let news = epoch > *newest;
        *newest = epoch.max(*newest);
        news
    }

    /// The leases to withdraw now: running by the log, and certified by a majority of **every** voter set that
    /// the node may still be counting support by.
    #[must_use]
    pub fn due(&self, state: &State) -> Vec<(NodeId, Epoch)> {
        self.certificates
            .iter()
            .filter_map(|(id, by)| {
                let node = state.node(*id).filter(|node| node.lease == Lease::Up)?;
                let certified = |voter| by.get(&voter).is_some_and(|epoch| *epoch >= node.epoch);
                let mut sets = state.voters_known_to(node).peekable();
                sets.peek()?;
                sets.all(|sets| sets.majority(certified))
                    .then_some((node.id, node.epoch))
            })
            .collect()
    }

    /// Forgets certificates of leases that are over. One for a lease that this replica has not heard of yet stays: it
    /// is told only once.
    pub fn forget_settled(&mut self, state: &State) {
        self.certificates.retain(|id, by| match state.node(*id) {
            Some(node) => {
                by.retain(|_, epoch| node.lease == Lease::Up || *epoch > node.epoch);
                !by.is_empty()
            }
            None => id.0 > state.applied(),
        });
    }
}
