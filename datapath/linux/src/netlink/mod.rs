//! Interfaces, addresses and local routes over rtnetlink. Wrapped here, because those crates break each minor.
//!
//! - [`Dump`] reads everything, at a cost that grows with the number of addresses.
//! - [`Mirror`] keeps what was read in line with what the kernel tells since, so that an audit costs nothing
//!   while nothing changes.
//! - [`Batch`] changes many things with one system call.
//! - [`Routes`] tells where packets for an address would go.

use std::io;

use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::{
    MulticastGroup,
    sys::{Socket, protocols::NETLINK_ROUTE},
};

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

/// A socket that hears what these groups are told; it keeps so many bytes of what was not read yet.
fn listen(room: usize, groups: &[MulticastGroup]) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.set_non_blocking(true)?;
    setsockopt(&socket, sockopt::RcvBufForce, &room)?;
    for group in groups {
        socket.add_membership(*group as u32)?;
    }
    Ok(socket)
}
