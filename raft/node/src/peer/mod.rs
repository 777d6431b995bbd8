//! The network between nodes: one TCP listener, TLS 1.3, certificates by the cluster's own CA.
//!
//! ```text
//!  dialer                                   listener
//!    TLS, both certificates  ─────────────>  chain checked against the cluster's CA
//!    checks: the name is the node I dialled
//!    Hello {cluster, from, to, lane} ──────> the certificate is `from`'s, `to` is me, `from` was not removed
//!    <────────────────────────── Welcome     (or why not)
//!    [id] request ─────────────────────────>  any number at once
//!    <──────────────────────── [id] reply    in any order
//! ```
//! A lane is a connection of its own, so that a heartbeat never waits behind a snapshot. Whoever shows no
//! certificate may only ask to join. Beats do not pass here: they are datagrams.

mod admission;
mod conn;
mod directory;
mod frame;
mod hello;
mod link;
mod listener;
mod message;
mod message_wire;
mod network;
mod tls;

pub(crate) use admission::{JoinAnswer, JoinAsk};
pub(crate) use directory::Directory;
pub(crate) use frame::{LARGE, read_frame, write_frame};
pub(crate) use hello::{Hello, Lane, PROTOCOL, Refused, get_welcome};
pub(crate) use link::CallError;
pub(crate) use listener::{Feeder, Listener, Service};
pub(crate) use message::{Request, Response};
pub(crate) use network::Network;
pub(crate) use tls::{Tls, joiner_config, open_stream};

#[cfg(test)]
mod tests;
