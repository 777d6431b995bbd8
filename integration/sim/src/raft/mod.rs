//! openraft on virtual time: vipd's types, its settings and its replica; a log on a simulated disk.

mod log;
mod machine;
mod network;
mod types;

pub(crate) use log::LogStore;
pub(crate) use machine::{Machine, Shared};
pub(crate) use network::{Network, Request, Response};
pub(crate) use types::{Flushed, Metrics, Raft, Types};
