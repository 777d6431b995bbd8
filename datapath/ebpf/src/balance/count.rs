//! The counters of services and backends.

use core::arch::asm;

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

/// A socket of this host that was given a backend. Programs at interfaces may interrupt this one and count in the same place,
/// so it is done in one instruction.
#[inline(always)]
pub fn connected(service: u32, backend: u32) {
    if let Some(tally) = maps::shared_tally(&TallyKey { service, backend }) {
        // SAFETY: the counter of a live element, aligned, that is only ever added to.
        unsafe { add_one(&raw mut (*tally).flows) };
    }
}

/// A socket of this host that was given none.
#[inline(always)]
pub fn refused(service: u32, backend: u32, reason: Reason) {
    if let Some(tally) = maps::shared_tally(&TallyKey { service, backend }) {
        // SAFETY: as above.
        unsafe { add_one((&raw mut (*tally).drops).cast::<u64>().add(reason as usize)) };
    }
}

/// # Safety
/// A counter that lives as long as the program runs, aligned.
#[inline(always)]
unsafe fn add_one(counter: *mut u64) {
    // The library has no such function for a target without compare-and-swap.
    // SAFETY: the caller's promise.
    unsafe {
        asm!("lock *(u64 *)({counter} + 0) += {one}", counter = in(reg) counter, one = in(reg) 1u64, options(nostack));
    }
}
