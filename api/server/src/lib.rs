//! vipd's REST API: `/v1` over a unix socket and over TLS, `/metrics`, `/healthz` and `/readyz`.
//!
//! ```text
//!  connection ──> serve ──> access ──> routes ──> write ──> Control::propose ──> the log
//!  (time-outs,   (origin,   (strict,             └─ dry run: a clone of the State
//!   limits)       token)     convert) ─────────────> Control::read ──> State
//! ```
//!
//! The daemon implements [`Control`]; nothing here knows Raft, sockets of peers or the datapath. Deliberately
//! absent: decisions. What may be written is judged by `vipd_core::state::State::apply`, in one place, and a
//! dry run asks that same place.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod access;
mod audit;
mod balancing;
mod clock;
mod continued;
mod control;
mod convert;
mod erased;
mod kind;
mod limits;
#[cfg(feature = "memory")]
pub mod memory;
mod merge;
mod metrics;
mod objects;
mod once;
mod openapi;
mod outlook;
mod params;
mod plan;
mod problem;
mod room;
mod routes;
mod secret;
mod select;
mod serve;
mod strict;
mod watch;
mod write;

pub use access::Origin;
pub use balancing::{Balancing, ConnectionsOf, PacketOf, ServiceAt};
pub use control::{Control, ControlError, JoinTicket, LocalAddress, LocalBackend, LocalStatus};
pub use openapi::document as openapi_document;
pub use routes::Api;
pub use secret::{hash_token, new_token};
pub use serve::{ListenError, bind_tcp, bind_unix, tls_config};
