//! The bounds: on new flows, for a flood from random sources shall leave room for others; on ICMP errors; on how often
//! pieces of packets come round.

use vipd_datapath_common::balance::Guard;

use super::maps;

const SECOND_NS: u64 = 1_000_000_000;
/// ICMP errors of a kind that a CPU sends in a second, as many as Linux does.
const ERRORS: u16 = 1_000;
/// Rounds of pieces in a second: each takes about a microsecond, so they cost one CPU in twenty.
const ROUNDS: u16 = 50_000;

/// Whether one more flow may be recorded on this CPU; it counts as recorded then.
#[inline(always)]
pub fn admits(now: u64) -> bool {
    let most = maps::balance().map_or(0, |balance| balance.new_flows);
    let Some(guard) = of_this_second(now) else {
        return true;
    };
    if most != 0 && guard.flows >= u64::from(most) {
        return false;
    }
    guard.flows += 1;
    true
}

/// Whether one more ICMP error may be sent by this CPU; it counts as sent then. `kind`: a [`Complaint`].
///
/// [`Complaint`]: vipd_datapath_common::balance::Complaint
#[inline(always)]
pub fn may_complain(now: u64, kind: u32) -> bool {
    let account = of_this_second(now).and_then(|guard| guard.errors.get_mut(kind as usize));
    let Some(errors) = account.filter(|errors| **errors < ERRORS) else {
        return false;
    };
    *errors += 1;
    true
}

/// Whether a piece may come round once more on this CPU; it counts then.
#[inline(always)]
pub fn may_wait(now: u64) -> bool {
    let Some(guard) = of_this_second(now).filter(|guard| guard.rounds < ROUNDS) else {
        return false;
    };
    guard.rounds += 1;
    true
}

/// This CPU's account, a new one each second.
#[inline(always)]
fn of_this_second(now: u64) -> Option<&'static mut Guard> {
    let guard = maps::guard()?;
    if now.wrapping_sub(guard.since) >= SECOND_NS {
        guard.since = now;
        guard.flows = 0;
        guard.errors = [0; 3];
        guard.rounds = 0;
    }
    Some(guard)
}

/// One more flow that the daemon is not told of.
#[inline(always)]
pub fn lost() {
    if let Some(guard) = maps::guard() {
        guard.lost = guard.lost.wrapping_add(1);
    }
}
