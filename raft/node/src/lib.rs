//! vipd's consensus: openraft on a sled log, and the network between nodes.
//!
//! ```text
//!   daemon ──propose, linearizable, status──> node ──> openraft ──> store    the log, on sled
//!                                               │          ├──────> machine  vipd_core::state::State, snapshots
//!                                               │          └──────> peer     TLS between nodes
//!                                               ├── join, identity, token    who may take part
//!                                               └── agent                    followers without a vote
//! ```
//! The only crate that names openraft, sled or the peer transport. Beats, the datagrams of the lease protocol, live in
//! [`beat`]; they wait for nothing of Raft or TCP, and say of Raft only who leads. Deliberately absent: what a lease is for.
//!
//! A node's data directory, for its owner only:
//!
//! ```text
//!   identity      who it is: number, keys, certificate; on a voter the CA's key too
//!   ca.pem        the cluster's CA certificate, for people and clients
//!   lock          held while it runs, with the pid
//!   bootstrap     what the first start of a new cluster proposes; gone afterwards
//!   log/          the Raft log, sled          log.witness   how far that log had promised to be
//!   snapshots/    the last snapshot
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod agent;
pub mod beat;
mod cadence;
mod identity;
mod join;
mod machine;
mod node;
mod peer;
mod raft_wire;
mod store;
#[cfg(test)]
mod testing;
mod token;
mod types;

pub use identity::now as wall_clock;
pub use identity::{
    IdentityError, Init, InitError, Initialized, init, is_node, joined_name, peer_address,
};
pub use join::{Join, JoinError, join};
pub use machine::SharedState;
pub use node::{
    OpenError, ProposeError, RECORDS_MAX, RaftNode, ReadError, RemovalError, Settings,
    SettingsError, Status, TellError, TokenRequestError, Told, TransferError,
};
pub use store::StoreError;
pub use token::{Token, TokenError};

/// What the simulator (`integration/sim`) runs unchanged on its own runtime, disk and network: the replica, the types
/// and codecs of the log, the rules of membership. Not for others; nothing here is promised to stay.
pub mod parts {
    pub use crate::agent::Pace;
    pub use crate::beat::{Word, Words};
    pub use crate::machine::Replica;
    pub use crate::node::members::{CHANGE, Step, TICK, View, next_step, no_change};
    pub use crate::store::{decode_record, encode_record, following};
    pub use crate::types::{
        Entry, EntryPayload, LogId, Member, Membership, Reply, Request, Snapshot, SnapshotMeta,
        StoredMembership, Types, Vote, log_id, term_of, voter_sets,
    };
}
