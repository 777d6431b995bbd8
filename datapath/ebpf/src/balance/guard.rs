//! The bound on new flows: a flood from random sources shall leave room for others.

use super::maps;

const SECOND_NS: u64 = 1_000_000_000;

/// Whether one more flow may be recorded on this CPU; it counts as recorded then.
#[inline(always)]
pub fn admits(now: u64) -> bool {
    let most = maps::balance().map_or(0, |balance| balance.new_flows);
    let Some(guard) = maps::guard() else {
        return true;
    };
    if now.wrapping_sub(guard.since) >= SECOND_NS {
        guard.since = now;
        guard.flows = 0;
    }
    if most != 0 && guard.flows >= u64::from(most) {
        return false;
    }
    guard.flows += 1;
    true
}

/// One more flow that the daemon is not told of.
#[inline(always)]
pub fn lost() {
    if let Some(guard) = maps::guard() {
        guard.lost = guard.lost.wrapping_add(1);
    }
}
