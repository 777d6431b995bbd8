//! What the cluster has on record of this node, and what it should be told.

use super::{About, Facts};
use crate::command::Command;
use crate::id::{Epoch, NodeId};
use crate::node::Lease;
use crate::state::State;

/// This node, as the cluster knows it.
pub(super) struct Own {
    node: NodeId,
    lease: Lease,
    epoch: Epoch,
    /// An earlier life of it was shutting down, and its lease has outlived that.
    retiring: bool,
    /// Its interfaces or its membership have changed since it reported.
    pub(super) outdated: bool,
    /// The membership entry that it may be told to count by.
    membership: u64,
    holds: bool,
    /// Addresses are on their way to it, which it has to give on.
    expects: bool,
}

impl Own {
    /// While its kernel still has a deadline that voters granted to an earlier life (`inherits`), reckoned by an older
    /// membership, it does not tell that it counts by a newer one. It tells as soon as it may: until then nobody can take
    /// over from a node whose older membership has voters that are gone.
    pub(super) fn of(state: &State, me: NodeId, facts: &Facts<'_>, inherits: bool) -> Option<Self> {
        let node = state.node(me)?;
        let counted = if inherits { 0 } else { facts.counted };
        let membership = node.membership.max(counted);
        Some(Self {
            node: me,
            lease: node.lease,
            epoch: node.epoch,
            retiring: node.retiring,
            outdated: node.interfaces != facts.interfaces || node.membership < membership,
            membership,
            holds: state.held_by(me).next().is_some(),
            expects: state.expects(me),
        })
    }

    /// Also when it holds what nobody else can take, though the cluster knows that it retires.
    pub(super) fn has_nothing_to_give(&self, state: &State, retired: bool) -> bool {
        let taken = || state.loss(self.node).values().any(Option::is_some);
        self.lease != Lease::Up || (!self.expects && (!self.holds || (retired && !taken())))
    }

    pub(super) fn needs_a_lease(&self, fenced: Option<Epoch>) -> bool {
        self.lease != Lease::Up || self.retiring || fenced == Some(self.epoch)
    }

    pub(super) fn retire(&self) -> Command {
        Command::NodeRetire {
            node: self.node,
            epoch: self.epoch,
        }
    }

    pub(super) fn up(&self, about: &About, facts: &Facts<'_>) -> Command {
        Command::NodeUp {
            node: self.node,
            version: about.version.clone(),
            interfaces: facts.interfaces.to_vec(),
            labels: about.labels.clone(),
        }
    }

    pub(super) fn report(&self, facts: &Facts<'_>) -> Command {
        Command::NodeReport {
            node: self.node,
            interfaces: facts.interfaces.to_vec(),
            membership: self.membership,
        }
    }
}
