//! `cargo xtask bench`: how long clients are without an answer, and whether two hosts ever give one; for vipd and for
//! others, in the same lab and with the same instruments.

mod agents;
mod allocate;
mod balance;
mod failover;
mod fault;
mod idle;
mod many;
mod owners;
mod quiet;
mod relay;
mod report;
mod stats;
mod summary;
mod sweep;
mod system;
mod trial;
mod usage;
mod watch;

pub use agents::{Options as Agents, run as agents};
pub use allocate::{AllocateCluster, Apply, allocate_cluster, apply};
pub use balance::{Frames, Options as Balance, run as balance, send_frames};
pub use failover::{Options as Failover, run as failover};
pub use fault::Fault;
pub use idle::{Options as Idle, run as idle};
pub use quiet::{Options as Quiet, Trouble, run as quiet};
pub use relay::{Relay, Weather};
pub use system::{Contender, Profile};
pub use trial::Trial;
pub use watch::Seen;
