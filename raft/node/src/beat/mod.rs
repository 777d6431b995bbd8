//! Beats: the lease protocol of [`vipd_core::lease`], driven by one thread of its own.
//!
//! ```text
//!                      View (voters, keys, leases)           Event
//!   daemon's loop ───────────────────────────────> thread ───────────> daemon's loop
//!   fence writer  ───────── fence on disk ───────> │    │ ───────────> fence writer
//!                                      UDP beats <─┘    └─> Gate::set_deadline
//! ```
//! The thread shares no lock with anybody, touches no disk and runs in the real-time class where it may, so
//! that neither a busy runtime nor a slow disk ever costs a lease. What it is told arrives in a channel; what
//! it says leaves by one.

mod clock;
mod handle;
mod link;
mod stats;
mod thread;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use vipd_core::id::{Epoch, NodeId};
use vipd_core::node::VoterSets;

pub use clock::now;
pub use handle::{BeatError, BeatSettings, Beats, OnDisk, start};
pub use stats::BeatStats;

/// Where the node's deadline is written: the kernel, in the daemon.
pub trait Gate: Send {
    /// The node may announce until `boottime_ns` (`CLOCK_BOOTTIME`). Must neither block nor allocate.
    fn set_deadline(&mut self, boottime_ns: u64);
}

/// What the thread needs to know of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// This node's running lease. `None` while it has none, or has not yet caught up with its own log.
    pub epoch: Option<Epoch>,
    /// The membership entry that names them, told back in [`BeatStats::membership`] once support counts by it.
    pub membership: u64,
    /// The voters by which support counts.
    pub voters: Option<VoterSets>,
    /// Whether this node votes.
    pub votes: bool,
    /// The members.
    pub peers: BTreeMap<NodeId, Peer>,
    /// The leases that are running by the log.
    pub leases: Vec<(NodeId, Epoch)>,
}

/// A member, as the thread sees it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where its beats go.
    pub address: SocketAddr,
    /// The public half of its beat key.
    pub key: [u8; 32],
    /// When it was last heard (`CLOCK_BOOTTIME` nanoseconds), for the daemon to read; 0 if never.
    pub heard: Arc<AtomicU64>,
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        (self.address, self.key) == (other.address, other.key)
    }
}

impl Eq for Peer {}

/// What the thread has found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This voter has stopped supporting a lease; its fence is on the way to the disk.
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
}
