//! Announces addresses: gratuitous ARP in both forms, unsolicited neighbour advertisements.
//!
//! The first announcement leaves in the thread that opens the gate; a thread of its own repeats it
//! by the [`schedule`]. After [`Announcer::stop`] has returned not one more frame of that address
//! leaves, and if the daemon is frozen in between, the egress program stops what is stale.

mod conflicts;
mod schedule;
mod socket;
mod thread;

pub(crate) use schedule::Target;
pub(crate) use thread::Announcer;
