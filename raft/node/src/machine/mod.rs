//! The state machine: [`vipd_core::state::State`] in memory, rebuilt at start from the last snapshot and the
//! log. Snapshots are plain files.

mod recent;
mod replica;
mod snapshot_file;
mod state_machine;

pub(crate) use replica::Shared;
pub use replica::{Replica, SharedState};
pub(crate) use snapshot_file::SnapshotDir;
pub(crate) use state_machine::StateMachine;
