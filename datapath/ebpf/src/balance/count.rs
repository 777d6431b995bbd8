//! The counters of services and backends.

use vipd_datapath_common::balance::{Direction, Reason, TallyKey};

use super::maps;

/// Packets of a flow that went on.
#[inline(always)]
pub fn passed(service: u32, backend: u32, direction: Direction, packets: u64, bytes: u64) {
    if let Some(tally) = maps::tally(&TallyKey { service, backend }) {
        let index = direction as usize;
        tally.packets[index] = tally.packets[index].wrapping_add(packets);
        tally.bytes[index] = tally.bytes[index].wrapping_add(bytes);
    }
}

/// A flow that began.
#[inline(always)]
pub fn began(service: u32, backend: u32) {
    if let Some(tally) = maps::tally(&TallyKey { service, backend }) {
        tally.flows = tally.flows.wrapping_add(1);
    }
}

/// A packet that did not go to a backend.
#[inline(never)]
pub fn dropped(service: u32, backend: u32, reason: Reason) {
    if let Some(tally) = maps::tally(&TallyKey { service, backend }) {
        let count = &mut tally.drops[reason as usize];
        *count = count.wrapping_add(1);
    }
}
