//! The lease protocol under a model checker: every way in which a small cluster can fail within a bounded time, tried
//! one after the other on the daemon's own [`vipd_core::lease`] and [`vipd_core::state`]. The README says what is
//! modelled, what is not, and what was found.
//!
//! ```text
//!   Scene: a cluster, what may go wrong, how much of it ── explore::search ──> Found
//!     World: one moment ── Step: a tick, a fault, a repair ──> the next World
//!       Node: Holder + Voter + Takeover (unchanged) in a shell that follows the daemon's rules
//!       judge: true time, all kernels
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod clock;
pub mod cluster;
pub mod explore;
pub mod fault;
pub mod history;
pub mod log;
pub mod mutant;
pub mod node;
pub mod scene;
pub mod scenes;
pub mod table;
pub mod world;
