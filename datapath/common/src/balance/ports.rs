//! Which source ports a nat flow may have towards its backend.

use super::FlowKey;
use super::hash::{hash, mix};

/// The first one that another client's flow may get. Below it are ports that servers listen at; a client keeps one of these
/// if it has it itself.
const FIRST: u16 = 1024;
/// How many there are from there on.
const COUNT: u64 = u16::MAX as u64 - FIRST as u64 + 1;
/// Of SplitMix64: from one of its numbers to the next.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Ports instead of the client's own, where that is taken: in an order that depends on all of the client's packet, so that
/// clients who share a port, and parts of their addresses, do not share the others.
///
/// Each flow has the same order on every node, and each time: one whose own half was forgotten finds the port again
/// under which its backend knows it.
#[derive(Clone, Copy, Debug)]
pub struct SourcePorts {
    hash: u64,
}

impl SourcePorts {
    /// How many are tried. Where a part p of all ports is taken, a new flow gets none with probability p to this power, and
    /// less if its own is free: 0.0004 with 50,000 flows to one port of a backend, a tenth with 60,000.
    pub const OTHERS: u32 = 31;

    /// Those of the flow that a client's packet begins.
    #[inline(always)]
    #[must_use]
    pub fn of(client: &FlowKey) -> Self {
        Self { hash: hash(client) }
    }

    /// One of them, in network order. `number`: less than [`Self::OTHERS`].
    #[inline(always)]
    #[must_use]
    pub const fn other(&self, number: u32) -> [u8; 2] {
        let dice = mix(self.hash.wrapping_add((number as u64).wrapping_mul(STEP)));
        // A share instead of a remainder: faster.
        let port = ((dice >> 32) * COUNT) >> 32;
        (FIRST + port as u16).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::HashSet;
    use std::vec::Vec;

    use super::*;
    use crate::AddressKey;

    fn key(client: AddressKey, port: u16) -> FlowKey {
        FlowKey {
            source: client,
            destination: AddressKey::v4([10, 0, 0, 7]),
            source_port: port.to_be_bytes(),
            destination_port: 80u16.to_be_bytes(),
            protocol: super::super::protocol::TCP,
            reserved: [0; 3],
        }
    }

    /// Gives ports to flows one after the other, and returns how many get none.
    fn refused(flows: impl Iterator<Item = FlowKey>) -> usize {
        let mut taken = HashSet::new();
        let has_none = |flow: &FlowKey| {
            let ports = SourcePorts::of(flow);
            let others = (0..SourcePorts::OTHERS).map(|number| ports.other(number));
            let mut all = [flow.source_port].into_iter().chain(others);
            !all.any(|port| taken.insert(port))
        };
        flows.filter(has_none).count()
    }

    /// The flows of so many clients, each with an ephemeral port of Linux.
    fn many(count: u32) -> impl Iterator<Item = FlowKey> {
        let client = |number: u32| {
            let port = 32_768 + (mix(number.into()) % 28_232) as u16;
            key(AddressKey::v4(number.to_be_bytes()), port)
        };
        (0x0a00_0000..).take(count as usize).map(client)
    }

    #[test]
    fn nearly_all_ports_of_a_backend_can_be_used_before_new_flows_get_none() {
        for (flows, most) in [(40_000, 0), (50_000, 10), (55_000, 60), (60_000, 400)] {
            let refused = refused(many(flows));
            assert!(refused <= most, "{refused} of {flows}");
        }
        // There are no more than this.
        assert!(refused(many(70_000)) >= 70_000 - COUNT as usize);
    }

    #[test]
    fn clients_with_one_source_port_get_ports_however_alike_their_addresses_are() {
        const CLIENTS: u16 = 20_000;
        for port in [123, 5060, 40_000] {
            let v4 = (0..CLIENTS).map(|number| {
                let [a, b] = number.to_be_bytes();
                key(AddressKey::v4([a, b, 0, 1]), port)
            });
            let v6 = (0..CLIENTS).map(|number| {
                let mut client = AddressKey { octets: [0; 16] };
                client.octets[0] = 0xfd;
                client.octets[15] = 1;
                client.octets[6..8].copy_from_slice(&number.to_be_bytes());
                key(client, port)
            });
            assert_eq!((refused(v4), refused(v6)), (0, 0), "{port}");
        }
    }

    #[test]
    fn a_flow_has_the_same_ports_each_time_and_none_that_servers_listen_at() {
        let ports = SourcePorts::of(&key(AddressKey::v4([192, 0, 2, 1]), 123));
        let again = SourcePorts::of(&key(AddressKey::v4([192, 0, 2, 1]), 123));
        let other = |number| u16::from_be_bytes(ports.other(number));
        assert!((0..SourcePorts::OTHERS).all(|number| ports.other(number) == again.other(number)));
        assert!((0..SourcePorts::OTHERS).all(|number| other(number) >= FIRST));
        let all: HashSet<u16> = (0..1_000_000).map(other).collect();
        assert_eq!(all.len(), COUNT as usize, "any of them, in the end");
        let sorted: Vec<u16> = [all.iter().min(), all.iter().max()]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        assert_eq!(sorted, [FIRST, u16::MAX]);
    }
}
