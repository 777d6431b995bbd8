//! The lease protocol: at any instant at most one node answers for an address.
//!
//! ```text
//!  node n                              each voter v                            leader
//!  Holder::beat ──── beat(n, e) ────> Voter::on_beat
//!                                       promise until now + P
//!  Holder::on_ack <── supported ─────
//!  may announce until (send time of     the promise ran out: Voter::tick
//!  the majority's beats) + L            fence (n, e), durably
//!                                       certificate(n, e) ─────────────────> Takeover::on_certificate
//!                                                                             majority of every voter set n
//!                                                                             may count by: NodeDown(n, e)
//! ```
//!
//! Why it holds: if n announces at τ, a majority received beats that n sent after τ − L, so each of those
//! promised until later than τ (P is L plus what clocks may drift apart). A majority that certifies shares a
//! voter with it, and that voter certified only after its promise had run out. The next holder opens only
//! after it applied the entry that followed. See `shared/design/leases.md` and Cockroach's store liveness.
//!
//! Everything here is pure: time is an argument, effects are return values. The same code runs in the daemon's
//! beat thread and in the tests' simulated clusters.

mod beat;
mod holder;
mod pulse;
mod takeover;
#[cfg(test)]
mod tests;
mod timing;
mod view;
mod voter;

pub use beat::{Ack, Beat, Datagram, Verdict};
pub use holder::Holder;
pub use pulse::Pulse;
pub use takeover::Takeover;
pub use timing::{InvalidTiming, Profile, Timing};
pub use view::{Effect, Event, OnQuorumLoss, View};
pub use voter::Voter;
