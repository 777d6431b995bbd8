//! The Raft log of this node: in memory for reading, on a [`Disk`] for surviving.
//!
//! ```text
//!  openraft ──append──> cache (readable at once) ──job──> I/O thread ──group──> Disk::commit ──> IOFlushed
//!           <──read─── cache                                            sled flush, fdatasync, witness
//! ```
//!
//! Snapshots bound the log, so all of it fits in memory and no read ever touches the disk. Every write goes
//! through one thread in the order openraft gave it; what waits while a flush runs shares the next flush.
//! Deliberately absent: repair. A log that does not verify is not opened, and never truncated to make it fit. That a
//! snapshot took the place of all of it is no damage: [`SledDisk::go_on_from`].

mod cache;
mod disk;
mod error;
mod io_thread;
mod log_store;
#[cfg(test)]
mod memory;
mod record;
mod sled_disk;
mod verify;
mod witness;

pub(crate) use cache::SharedLog;
pub use cache::following;
pub(crate) use disk::Recovered;
pub use error::StoreError;
pub(crate) use io_thread::IoThread;
pub(crate) use log_store::LogStore;
#[cfg(test)]
pub(crate) use memory::MemoryDisk;
pub(crate) use record::MAX_COMMAND;
pub use record::{decode as decode_record, encode as encode_record};
pub(crate) use sled_disk::SledDisk;

#[cfg(test)]
mod tests;
