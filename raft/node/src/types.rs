//! The types that openraft is told to use, and short names for what it makes of them.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use vipd_core::codec::{DecodeError, Reader, Wire, Writer};
use vipd_core::command::Outcome;
use vipd_core::command::Proposal;
use vipd_core::id::NodeId;

openraft::declare_raft_types!(
    /// The openraft configuration of vipd: standard Raft leader ids, one leader a term.
    pub Types:
        D = Request,
        R = Reply,
        NodeId = u64,
        Node = Member,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = openraft::impls::TokioRuntime,
);

/// Where an entry is in the log.
pub type LogId = openraft::type_config::alias::LogIdOf<Types>;
/// What a voter has voted.
pub type Vote = openraft::type_config::alias::VoteOf<Types>;
/// An entry of the log.
pub type Entry = openraft::type_config::alias::EntryOf<Types>;
/// What an entry holds.
pub type EntryPayload = openraft::type_config::alias::PayloadOf<Types>;
/// Members and voter sets.
pub type Membership = openraft::Membership<u64, Member>;
/// The same with the entry that made it.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
/// What a snapshot says of itself.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;
/// A snapshot.
pub type Snapshot = openraft::type_config::alias::SnapshotOf<Types, bytes::Bytes>;
pub(crate) type Metrics = openraft::RaftMetrics<Types>;

/// What a Raft member's record carries: where its peers reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// That address.
    pub peer: SocketAddr,
}

impl Default for Member {
    fn default() -> Self {
        Self {
            peer: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        }
    }
}

/// One proposal in the log, with the random number that lets a proposer ask again after a lost answer:
/// the replicas remember the outcomes of the last requests and never apply one twice. Every member sees the numbers, so
/// one that an outcome is worth something by is made of what may only be had with it (`JoinAsk::number`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The random number.
    pub id: u128,
    /// What is proposed.
    pub proposal: Proposal,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {:032x} at {}", self.id, self.proposal.at)
    }
}

impl Wire for Request {
    fn encode(&self, out: &mut Writer) {
        self.id.encode(out);
        self.proposal.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: u128::decode(input)?,
            proposal: Proposal::decode(input)?,
        })
    }
}

/// What applying an entry answered: nothing for blank and membership entries.
#[derive(Clone, Debug)]
pub struct Reply(pub Option<Outcome>);

/// A log id from its parts.
#[must_use]
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

/// The term of a log id.
#[must_use]
pub fn term_of(id: &LogId) -> u64 {
    **id.committed_leader_id()
}

/// The ids of a membership entry's voter sets: one set, or two while the change is under way.
#[must_use]
pub fn voter_sets(membership: &Membership) -> Vec<std::collections::BTreeSet<NodeId>> {
    membership
        .get_joint_config()
        .iter()
        .map(|set| set.iter().copied().map(NodeId).collect())
        .collect()
}
