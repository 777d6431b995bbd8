//! The vipd daemon as a library: a node can be embedded in another program.
//!
//! ```text
//!   vipd_core    what the cluster knows and how it changes, pure
//!   vipd_raft    the log, the peers, the beats          vipd_datapath   the kernel
//!   vipd_api     the REST API                           this crate      joins them: config, one loop
//! ```
//! [`config::Config`] is read and checked, [`Node::build`] opens everything, [`Node::run`] runs it.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod log;
mod node;

use std::net::SocketAddr;

pub use node::{Ended, Handle, Node, RELOAD};

/// The command that makes another host a node of this cluster.
#[must_use]
pub fn join_command(member: SocketAddr, token: &vipd_raft::Token) -> String {
    format!("vipd join {member} {token}")
}
