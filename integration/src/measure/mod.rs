//! `cargo xtask bench`: how long clients are without an answer, and whether two hosts ever give one; for vipd and for
//! others, in the same lab and with the same instruments.

mod failover;
mod fault;
mod many;
mod owners;
mod report;
mod stats;
mod summary;
mod sweep;
mod system;
mod trial;
mod watch;

pub use failover::{Options as Failover, run as failover};
pub use fault::Fault;
pub use system::{Contender, Profile};
pub use trial::Trial;
pub use watch::Seen;
