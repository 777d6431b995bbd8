//! Which slot of a table a new flow falls into.

use super::{FlowKey, SLOTS};
use crate::AddressKey;

/// Any number, but for ever the same: with another one, a node that takes over would send
/// connections elsewhere than the node before it.
const SEED: u64 = 0x7669_7064_5f6c_6221;
/// The multipliers of SplitMix64 (Steele, Lea, Flood 2014).
const M1: u64 = 0xbf58_476d_1ce4_e5b9;
const M2: u64 = 0x94d0_49bb_1331_11eb;

/// The slot of a flow by the packet of its client. The same on every node, whatever its byte
/// order; changing it breaks connections when nodes of two versions share a cluster.
#[inline(always)]
#[must_use]
pub fn slot(client: &FlowKey) -> u32 {
    // A share of the slots instead of a remainder: faster.
    (((hash(client) >> 32) * SLOTS as u64) >> 32) as u32
}

/// The hash of a flow by the packet of its client. As much as [`slot`], it is for ever the same.
#[inline(always)]
pub(super) fn hash(client: &FlowKey) -> u64 {
    let [s0, s1] = client.source_port;
    let [d0, d1] = client.destination_port;
    let ports = u64::from_be_bytes([0, 0, 0, client.protocol, s0, s1, d0, d1]);
    // Written out: as a loop it would be one of a shape that older kernels (6.1) refuse.
    let ([a, b], [c, d]) = (words(&client.source), words(&client.destination));
    mix(mix(mix(mix(mix(SEED ^ a) ^ b) ^ c) ^ d) ^ ports)
}

/// The slot of all flows of a client to one port of a service: [`super::service_flags::BY_CLIENT`].
#[inline(always)]
#[must_use]
pub fn slot_of_client(client: &FlowKey) -> u32 {
    slot(&FlowKey {
        source_port: [0; 2],
        ..*client
    })
}

/// One round of SplitMix64's finalizer.
#[inline(always)]
pub(super) const fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(M1);
    hash = (hash ^ (hash >> 27)).wrapping_mul(M2);
    hash ^ (hash >> 31)
}

#[inline(always)]
const fn words(address: &AddressKey) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address.octets;
    [
        u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        u64::from_be_bytes([i, j, k, l, m, n, o, p]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(client: [u8; 4], port: u16) -> FlowKey {
        FlowKey {
            source: AddressKey::v4(client),
            destination: AddressKey::v4([10, 0, 0, 7]),
            source_port: port.to_be_bytes(),
            destination_port: 80u16.to_be_bytes(),
            protocol: super::super::protocol::TCP,
            reserved: [0; 3],
        }
    }

    #[test]
    fn slots_never_change_between_versions() {
        let found = [
            slot(&key([192, 0, 2, 1], 40_000)),
            slot(&key([192, 0, 2, 1], 40_001)),
            slot(&key([192, 0, 2, 2], 40_000)),
        ];
        assert_eq!(found, [4302, 4204, 2651]);
    }

    #[test]
    fn a_client_that_counts_its_ports_up_fills_all_slots_evenly() {
        let mut counts = [0u32; SLOTS];
        for port in 0..=u16::MAX {
            for last in 0..8 {
                counts[slot(&key([192, 0, 2, last], port)) as usize] += 1;
            }
        }
        // 64 each on average; a fair throw of 8,171 dice strays no further than 6 deviations.
        let (least, most) = (counts.iter().min(), counts.iter().max());
        assert!(least > Some(&16) && most < Some(&112), "{least:?} {most:?}");
    }

    #[test]
    fn the_slot_of_a_client_is_the_same_for_all_its_ports() {
        let slots = |last| (0..100).map(move |port| slot_of_client(&key([192, 0, 2, last], port)));
        let first = slot_of_client(&key([192, 0, 2, 1], 0));
        assert!(slots(1).all(|slot| slot == first));
        assert!(slots(2).all(|slot| slot != first));
    }

    #[test]
    fn each_part_of_a_packet_moves_it_to_another_slot() {
        let base = key([192, 0, 2, 1], 40_000);
        let mut others = [base; 5];
        others[0].source = AddressKey::v4([192, 0, 2, 9]);
        others[1].destination = AddressKey::v4([10, 0, 0, 8]);
        others[2].source_port = [1, 1];
        others[3].destination_port = [1, 1];
        others[4].protocol = super::super::protocol::UDP;
        assert!(others.iter().all(|other| slot(other) != slot(&base)));
    }
}
