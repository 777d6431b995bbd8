//! What clients send to an address while it moves: its former holder hands that on to the next one.
//!
//! The next holder may speak for a while after each such packet, before it is the holder. So these packets come at every
//! time of a move, and some are under way for nearly as long as the protocol allows.

use std::net::IpAddr;
use std::sync::Arc;

use crate::dice::Dice;
use crate::host::{host_with, mac_of};
use crate::net::HostId;
use crate::world::World;

const MS: u64 = 1_000_000;
/// So many packets come after each step of a move.
const PACKETS: usize = 4;
/// Most come at once, the others at any time until the former holder hands on no more. Nanoseconds.
const SOON: u64 = 3 * MS;
const LATER: u64 = 3_100 * MS;
/// One way across the switch, and the longest that a frame may be under way: `vipd_core::steward` assumes two seconds.
const FLIGHT: (u64, u64) = (40_000, 250_000);
const LONGEST: u64 = 1_990 * MS;

/// Clients go on sending to `address`, by way of `former`, which has just begun to hand on.
pub(crate) fn go_on(world: &Arc<World>, former: HostId, address: IpAddr) {
    for _ in 0..PACKETS {
        let (after, flight) = world.frames(times);
        let there = world.clone();
        let comes = move || hand_on(&there, former, address, flight);
        world.net.after(after, Box::new(comes));
    }
}

/// When a packet comes, and how long it is under way to the next host.
fn times(dice: &mut Dice) -> (u64, u64) {
    let after = if dice.one_in(3) { LATER } else { SOON };
    let flight = if dice.one_in(4) {
        dice.below(LONGEST)
    } else {
        dice.between(FLIGHT.0, FLIGHT.1)
    };
    (dice.below(after), flight)
}

/// A packet comes to the former holder.
fn hand_on(world: &Arc<World>, former: HostId, address: IpAddr, flight: u64) {
    let host = world.host(former);
    let Some(to) = host.kernel.hands_on(address).filter(|_| host.is_powered()) else {
        return;
    };
    let by = mac_of(former, to);
    let there = world.clone();
    let arrives = move || {
        let next = there.host(host_with(to));
        if next.is_powered() {
            next.kernel.is_handed(address, by);
        }
    };
    world.net.after(flight, Box::new(arrives));
}
