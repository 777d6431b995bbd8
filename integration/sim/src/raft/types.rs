//! vipd's openraft types on the simulated runtime. Entries, votes and snapshots are the very types of vipd-raft.

use vipd_raft::parts::{Member, Reply, Request};

use super::Machine;
use crate::runtime::NodeRuntime;

openraft::declare_raft_types!(
    /// As `vipd_raft::parts::Types`, but for the runtime.
    pub(crate) Types:
        D = Request,
        R = Reply,
        NodeId = u64,
        Node = Member,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = NodeRuntime,
);

/// Raft.
pub(crate) type Raft = openraft::Raft<Types, Machine>;
/// What it tells of itself.
pub(crate) type Metrics = openraft::RaftMetrics<Types>;
/// Whom to tell that an append is durable.
pub(crate) type Flushed = openraft::storage::IOFlushed<Types>;
