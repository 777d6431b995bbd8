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

mod arrival;
mod clock;
mod handle;
mod link;
mod stats;
mod thread;
mod word;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use vipd_core::id::NodeId;

pub use clock::now;
pub use handle::{BeatError, BeatSettings, Beats, OnDisk, start};
pub use stats::BeatStats;
pub use vipd_core::lease::Event;
pub use word::{Asking, Heard, Word, Words};

/// Where the node's deadline is written: the kernel, in the daemon.
pub trait Gate: Send {
    /// The node may announce until `boottime_ns` (`CLOCK_BOOTTIME`). Must neither block nor allocate.
    fn set_deadline(&mut self, boottime_ns: u64);
}

/// What the thread needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Of the cluster; its membership is told back in [`BeatStats::membership`] once support counts by it.
    pub cluster: vipd_core::lease::View,
    /// Of its members.
    pub peers: BTreeMap<NodeId, Peer>,
}

/// A member, as the thread sees it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where its beats go.
    pub address: SocketAddr,
    /// The public half of its beat key.
    pub key: [u8; 32],
    /// Where what it is heard to say is noted, for others to read: [`Words::of`].
    pub heard: Arc<Heard>,
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        (self.address, self.key) == (other.address, other.key)
    }
}

impl Eq for Peer {}
