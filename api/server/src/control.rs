//! What the API needs of the daemon.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use vipd_core::asker::Who;
use vipd_core::command::{Command, Outcome};
use vipd_core::id::NodeId;
use vipd_core::lease::Timing;
use vipd_core::name::Name;
use vipd_core::node::Role;
use vipd_core::service::Endpoint;
use vipd_core::state::State;
use vipd_core::time::Millis;

use crate::balancing::Balancing;

/// The node behind the API. One real implementation is the daemon's; the tests have one in memory.
pub trait Control: Send + Sync + 'static {
    /// Has the cluster apply `command`, which `who` asked this node for, wherever the leader is, and says what came of it.
    ///
    /// An error means that nobody knows yet whether it will be applied, unless the error says otherwise.
    fn propose(
        &self,
        who: Who,
        command: Command,
    ) -> impl Future<Output = Result<Outcome, ControlError>> + Send;

    /// Why this node would not even propose `command`, if so: it is asked before a dry run, which proposes nothing.
    fn refuses(&self, command: &Command) -> Option<ControlError>;

    /// Waits until this node has applied everything that was committed anywhere when it was called.
    fn linearize(&self) -> impl Future<Output = Result<(), ControlError>> + Send;

    /// Looks at this node's state. Keep it short: it may hold a lock that applying waits for.
    fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R;

    /// The index that this node has applied, as it grows.
    fn applied(&self) -> watch::Receiver<u64>;

    /// This node's number.
    fn node(&self) -> NodeId;

    /// What only this node knows. Working it out copies what the datapath says of all addresses.
    fn local(&self) -> LocalStatus;

    /// A look at what this node's kernel balances.
    fn balancing(&self) -> Arc<dyn Balancing>;

    /// Takes a node's vote, if it has one, and then forgets the node, for `who` asked for it.
    fn remove_member(
        &self,
        who: Who,
        node: NodeId,
    ) -> impl Future<Output = Result<(), ControlError>> + Send;

    /// Writes a snapshot now; the index it reaches up to.
    fn snapshot(&self) -> impl Future<Output = Result<u64, ControlError>> + Send;

    /// Makes a join token valid, for `who` asked for it.
    fn join_token(
        &self,
        who: Who,
        role: Role,
        ttl: Duration,
        uses: u32,
    ) -> impl Future<Output = Result<JoinTicket, ControlError>> + Send;
}

/// A token for joining, as it is shown once. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinTicket {
    /// The token.
    pub token: String,
    /// The command to run on the node that shall join.
    pub command: String,
    /// Until when it is good.
    pub expires: Millis,
}

impl fmt::Debug for JoinTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinTicket")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// What only this node knows, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalStatus {
    /// Its number.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The version of vipd it runs.
    pub version: String,
    /// The leader it knows.
    pub leader: Option<NodeId>,
    /// Its Raft term.
    pub term: u64,
    /// The log index that it knows to be committed.
    pub committed: u64,
    /// Whether a majority of the voters is reached, as far as it knows.
    pub quorum_ok: bool,
    /// The lengths of its lease.
    pub timing: Timing,
    /// Time left on its own lease; `None` when it has none.
    pub lease_remaining: Option<Duration>,
    /// What its datapath does for each address on it.
    pub addresses: BTreeMap<IpAddr, LocalAddress>,
    /// How the backends are that it looks after, by VIP.
    pub backends: BTreeMap<Name, BTreeMap<Endpoint, LocalBackend>>,
    /// By which bounds it balances connections.
    pub bounds: Option<vipd_api_types::BalanceBounds>,
    /// On which of its interfaces XDP sends packets of open connections on, by name.
    pub xdp: BTreeMap<String, vipd_api_types::XdpUse>,
    /// How often it asks the backends of VIPs that want to be asked about more often than it can.
    pub slowed: BTreeMap<Name, Millis>,
    /// How long ago it heard a beat of each other node.
    pub last_seen: BTreeMap<NodeId, Duration>,
    /// The worst lateness of its beat thread lately.
    pub beat_lateness: Option<Duration>,
    /// Whether it announces without a majority, as its configuration asks.
    pub frozen: bool,
    /// Why its beats are too late for its lease, if they are.
    pub beats_late: Option<String>,
    /// What is wrong with its datapath, if anything.
    pub datapath_fault: Option<String>,
    /// How often it noticed what is wrong on its host, by kind: `conflict`, `programs_lost`, `clock_jumped`.
    pub noticed: BTreeMap<&'static str, u64>,
    /// Datagrams of its beat thread: `sent`, `received`, `rejected`.
    pub beats: BTreeMap<&'static str, u64>,
    /// Whether its beat thread runs in the real-time class.
    pub beats_realtime: bool,
}

/// What this node's datapath does for one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalAddress {
    /// The interface it is on.
    pub interface: String,
    /// Whether the gate is open and the lease runs: who asks is answered.
    pub answering: bool,
    /// Which other host claims it too, if one does: its MAC, where and when it was heard.
    pub claimed_by: Option<String>,
    /// Counters of the kernel side by name, for example `arp_answered`.
    pub counters: BTreeMap<&'static str, u64>,
}

/// How one backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalBackend {
    /// Whether it gets new connections.
    pub healthy: bool,
    /// Since when that is so.
    pub since: Millis,
    /// What it last answered, or did not.
    pub reason: String,
}

/// Why the daemon could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No majority of the voters is reached. Nothing was changed.
    #[error("no leader is known: a majority of the voters is out of reach")]
    NoLeader,
    /// Not decided in time.
    #[error("no decision within {0:?}: whether it will be carried out is not known yet")]
    TimedOut(Duration),
    /// The daemon is shutting down. Nothing was changed.
    #[error("this node is shutting down")]
    Stopping,
    /// The cluster's state forbids it. Nothing was changed.
    #[error(transparent)]
    Rejected(#[from] vipd_core::rejection::Rejection),
    /// This node forbids it as things are. Nothing was changed.
    #[error("{what}")]
    Refused {
        /// What is refused for what, and why.
        what: String,
        /// What to do about it.
        next: String,
    },
    /// It is larger than an entry of the log may be. Nothing was changed.
    #[error("it takes {size} bytes in the log, more than {limit}")]
    TooLarge {
        /// Its size, in bytes.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// Anything else, with the next step.
    #[error("{what}")]
    Failed {
        /// What failed on what.
        what: String,
        /// What to do about it.
        next: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_ticket_shows_no_secret() {
        let ticket = JoinTicket {
            token: "vipd1-c2VjcmV0".to_owned(),
            command: "vipd join 192.0.2.1:7400 vipd1-c2VjcmV0".to_owned(),
            expires: Millis(1),
        };
        for shown in [format!("{ticket:?}"), format!("{ticket:#?}")] {
            assert!(!shown.contains("c2VjcmV0"), "{shown}");
        }
    }
}
