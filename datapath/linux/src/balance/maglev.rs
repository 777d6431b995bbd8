//! Look-up tables by Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
//! NSDI 2016, section 3.4), with weights.
//!
//! Each backend has its own order of all slots; they take turns, and each takes the first slot of its order that is
//! free. So the shares are even, and without one backend most slots are taken by the same ones as before. A backend of
//! half the weight takes every second turn. Whoever computes a table of the same backends gets the same table: every
//! node sends a client to the same backend, without their telling each other.

use std::net::IpAddr;

use vipd_datapath_common::{AddressKey, balance::SLOTS};

/// A backend in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member {
    pub(crate) address: IpAddr,
    /// 0 is one like any other.
    pub(crate) port: u16,
    /// Its share in relation to the others; with 0 it has none.
    pub(crate) weight: u32,
    /// What its slots hold.
    pub(crate) number: u32,
}

/// The table of these members, in whatever order they are given; all 0 if none has a weight. Each that has one gets a
/// slot at least, as long as there are enough.
pub(crate) fn fill(members: &[Member]) -> Vec<u32> {
    let mut members: Vec<Member> = members.iter().copied().filter(|m| m.weight > 0).collect();
    members.sort_unstable();
    let mut slots = vec![0; SLOTS];
    let Some(heaviest) = members.iter().map(|m| u64::from(m.weight)).max() else {
        return slots;
    };
    let mut taken = [false; SLOTS];
    let mut turns: Vec<Turn> = members.iter().map(|m| Turn::new(m, heaviest)).collect();
    let mut left = SLOTS;
    loop {
        for (turn, member) in turns.iter_mut().zip(&members) {
            turn.credit += u64::from(member.weight);
            if turn.credit < heaviest {
                continue;
            }
            turn.credit -= heaviest;
            let slot = turn.next_free(&taken);
            taken[slot] = true;
            slots[slot] = member.number;
            left -= 1;
            if left == 0 {
                return slots;
            }
        }
    }
}

/// Where a backend is in its own order of the slots.
struct Turn {
    slot: usize,
    skip: usize,
    /// It takes a slot when this is that of the heaviest.
    credit: u64,
}

impl Turn {
    fn new(member: &Member, heaviest: u64) -> Self {
        let hash = hash(member);
        let modulus = SLOTS as u64;
        Self {
            slot: ((hash >> 32) % modulus) as usize,
            // Never 0, and the number of slots is prime: so it comes to each of them.
            skip: ((hash & 0xffff_ffff) % (modulus - 1) + 1) as usize,
            // So that everyone takes one in the first round.
            credit: heaviest - u64::from(member.weight),
        }
    }

    fn next_free(&mut self, taken: &[bool; SLOTS]) -> usize {
        loop {
            let slot = self.slot;
            self.slot = (slot + self.skip) % SLOTS;
            if !taken[slot] {
                return slot;
            }
        }
    }
}

/// Spelled out here because all nodes must agree on it, whatever their version: FNV-1a, then the finalizer of
/// splitmix64, since FNV alone leaves addresses that differ by one close together.
fn hash(member: &Member) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let octets = AddressKey::from(member.address).octets;
    let bytes = octets.into_iter().chain(member.port.to_be_bytes());
    let mut hash = bytes.fold(OFFSET, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
#[path = "maglev_tests.rs"]
mod tests;
