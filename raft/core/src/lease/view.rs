//! What passes between the beat thread's logic ([`super::Pulse`]) and the rest of its node.

use alloc::vec::Vec;

use super::Datagram;
use crate::id::{Epoch, NodeId};
use crate::node::VoterSets;

/// What the beats need to know of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// This node's running lease. `None` while it has none, or has not yet caught up with its own log.
    pub epoch: Option<Epoch>,
    /// The membership entry that names the voters; see [`super::Pulse::membership`].
    pub membership: u64,
    /// The voters by which support counts.
    pub voters: Option<VoterSets>,
    /// Whether this node supports and certifies: it votes, or some running lease may still count by it.
    pub votes: bool,
    /// The leases that are running by the log.
    pub leases: Vec<(NodeId, Epoch)>,
}

/// What the beats have found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// This voter has stopped supporting a lease. Write the fence, then say so with
    /// [`super::Pulse::fence_on_disk`].
    Fencing {
        /// Whose.
        node: NodeId,
        /// Which.
        epoch: Epoch,
    },
    /// A voter (perhaps this one) certifies that a lease is over. Told once for each voter.
    Certified {
        /// By whom.
        voter: NodeId,
        /// Whose lease.
        node: NodeId,
        /// Which.
        epoch: Epoch,
    },
    /// A voter has fenced this node's own lease: it needs a new one.
    OwnLeaseFenced {
        /// Which.
        epoch: Epoch,
    },
    /// This node gained the right to announce (`true`), or lost it.
    Support {
        /// Which of the two.
        held: bool,
    },
    /// Without a majority this node goes on announcing, as [`OnQuorumLoss::Freeze`] asks (`true`); or support is back,
    /// or the right to announce is gone after all.
    Frozen {
        /// Which of the two.
        frozen: bool,
    },
    /// A member counts by a lease of another length than this node. Told once for each.
    OtherLease {
        /// Which.
        node: NodeId,
        /// Its length.
        lease: crate::time::Span,
    },
}

/// What a holder does when no majority supports it any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnQuorumLoss {
    /// It goes silent when its lease ends. There are never two holders.
    #[default]
    Stop,
    /// It goes on announcing for as long as its daemon runs and no majority of voters is known to have fenced it. When the
    /// majority is alive on the other side of a partition, **two nodes announce** until the partition heals.
    Freeze,
}

/// What the beats want done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this; that it gets lost is nothing special.
    Send {
        /// To whom, never this node itself.
        to: NodeId,
        /// What.
        datagram: Datagram,
    },
    /// Tell the rest of the node.
    Tell(Event),
}
