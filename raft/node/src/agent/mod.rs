//! Agents: nodes that hold VIPs without being Raft members, so that hundreds of them cost the voters little.
//!
//! ```text
//!   agent                          any voter
//!    Follow {last entry applied, pace} ──>
//!    <── Alive, at once; Snapshot, or nothing, if the log reaches back so far
//!    <── Entries, as they are applied there; Alive with who leads, at the pace asked for
//! ```
//! An agent keeps the state in memory only. When its stream breaks it goes to another voter and goes on from the
//! last entry it applied.

mod feed;
mod follow;
mod message;
mod pace;

pub(crate) use feed::feed;
pub(crate) use follow::follow;
pub use pace::Pace;
