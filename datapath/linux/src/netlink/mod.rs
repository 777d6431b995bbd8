//! Interfaces, addresses and local routes over rtnetlink. Wrapped here, because those crates break each minor.
//!
//! - [`Dump`] reads everything, at a cost that grows with the number of addresses.
//! - [`Mirror`] keeps what was read in line with what the kernel tells since, so that an audit costs nothing
//!   while nothing changes.
//! - [`Batch`] changes many things with one system call.
//! - [`Routes`] tells where packets for an address would go.

mod batch;
mod dump;
mod message;
mod mirror;
mod routes;

pub(crate) use batch::{Batch, Change};
pub(crate) use dump::links;
pub(crate) use message::is_ours;
pub(crate) use mirror::{Mirror, News};
pub(crate) use routes::Routes;
