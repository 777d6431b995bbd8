//! Joining: a stranger with a token becomes a member.
//!
//! ```text
//!   joiner                                   any voter
//!    TLS; the chain must end in the CA that the token pins
//!    JoinAsk {secret, name, keys} ──────────>  Join command through the leader: token checked, number given
//!    <─ JoinAnswer {number, certificate, members; for a voter the CA's key} ─
//!    writes its identity; the next `vipd run` takes part
//! ```

mod admit;
mod ask;

pub(crate) use admit::admit;
pub use ask::{Join, JoinError, join};
