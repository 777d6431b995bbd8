//! Whole clusters of vipd in one thread, on virtual time, from a seed.
//!
//! ```text
//!   plan (seed) ──> world: hosts (clock, disk, kernel) ── net ── hosts
//!                     │       └── daemon: pulse, steward (vipd-core), openraft, replica (vipd-raft)
//!                     ├── clients     write all the while
//!                     ├── nemesis     breaks things, heals them
//!                     └── judge       sees true time, every gate, every applied entry
//! ```
//! What decides in the daemon decides here: [`vipd_core::lease::Pulse`], [`vipd_core::steward::Steward`],
//! [`vipd_core::state::State`], openraft with vipd's settings, vipd-raft's replica and codecs. What is simulated is
//! what they run on. See README.md beside this for what that leaves out.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod aims;
mod bell;
mod cli;
mod clients;
mod cluster;
mod crew;
mod daemon;
mod dice;
mod disk;
mod frames;
mod host;
mod judge;
mod kernel;
mod mutant;
mod nemesis;
mod net;
mod operator;
mod outsider;
mod panics;
mod plan;
mod raft;
mod recovery;
mod run;
mod runtime;
mod scale;
mod trace;
mod wishes;
mod world;

pub use aims::Aim;
pub use cli::main;
pub use mutant::Mutant;
pub use plan::Plan;
pub use run::{Report, run};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The simulation is one thread; a lock is poisoned only by a panic that is reported anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
