//! Somebody else claims an address that is open here: report it, at a bounded rate.

use vipd_datapath_common::{AddressKey, Conflict, Counter};

use crate::{fence, maps};

/// Reports a claim of `mac` on the address, if that is open on this node with another MAC.
#[inline(never)]
pub fn check(key: &AddressKey, mac: &[u8; 6], ifindex: u32) {
    match maps::address(key) {
        Some(address) if address.mac != *mac && fence::is_open(key, address) => {}
        Some(_) | None => return,
    }
    let Some(counters) = maps::counters(key) else {
        return;
    };
    let count = &mut counters.counts[Counter::Conflict as usize];
    *count = count.wrapping_add(1);
    let time_ns = fence::now();
    if time_ns.wrapping_sub(counters.conflict_ns) < Conflict::EVERY_NS {
        return;
    }
    counters.conflict_ns = time_ns;
    maps::report(&Conflict {
        time_ns,
        address: *key,
        ifindex,
        mac: *mac,
        reserved: [0; 6],
    });
}
