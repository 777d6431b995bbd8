//! Between the words of the core and those of the two adapters. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use vipd_core::id::NodeId;
use vipd_core::node::{Interface, Mac, Prefix};
use vipd_core::state::State;
use vipd_core::steward::{Duty, Gates};
use vipd_datapath::{Gate, Services, Wanted, WantedAddress};
use vipd_raft::beat::{Peer, Words};

/// Where the members' beats go, and where to note that they were heard.
pub(super) fn peers(state: &State, words: &Words) -> BTreeMap<NodeId, Peer> {
    words.keep_only(|id| state.node(id).is_some());
    let peers = state.nodes().values().map(|node| {
        let peer = Peer {
            address: node.peer,
            key: node.beat_key,
            heard: words.of(node.id),
        };
        (node.id, peer)
    });
    peers.collect()
}

/// What the datapath shall have, with its programs on `interfaces`.
pub(super) fn wanted(
    gates: Gates,
    interfaces: &BTreeSet<String>,
    services: Arc<Services>,
) -> Wanted {
    let addresses = gates.into_iter().map(|(address, stance)| {
        let gate = match stance.duty {
            Duty::Open => Gate::Open,
            Duty::Shut => Gate::Shut,
            Duty::Hand { to, until, leased } => Gate::Hand {
                to: to.0,
                until_ns: until.0,
                leased,
            },
            Duty::Take { from } => Gate::Take { from: from.0 },
        };
        let wanted = WantedAddress {
            interface: stance.interface,
            gate,
            epoch: stance.epoch.0,
        };
        (address, wanted)
    });
    Wanted {
        addresses: addresses.collect(),
        interfaces: interfaces.clone(),
        services,
        leaving: false,
    }
}

/// What stays of it when the daemon ends: packets for what it just gave up still go to the new holders, until the time
/// that is in the kernel with each of these addresses.
pub(super) fn left_behind(last: Option<&Wanted>, interfaces: &BTreeSet<String>) -> Wanted {
    let addresses = last.into_iter().flat_map(|wanted| &wanted.addresses);
    let handed = addresses.filter(|(_, wanted)| match wanted.gate {
        Gate::Hand { leased, .. } => !leased,
        Gate::Open | Gate::Shut | Gate::Take { .. } => false,
    });
    Wanted {
        addresses: handed.map(|(a, wanted)| (*a, wanted.clone())).collect(),
        interfaces: interfaces.clone(),
        leaving: true,
        ..Wanted::default()
    }
}

/// The host's interfaces as the cluster shall know them: those that may announce, without link-local subnets,
/// in a fixed order.
pub(super) fn reported(
    found: &[vipd_datapath::Interface],
    announces_on: impl Fn(&str) -> bool,
) -> Vec<Interface> {
    let mut interfaces: Vec<Interface> = found
        .iter()
        .filter(|interface| announces_on(&interface.name))
        .map(|interface| {
            let subnets = interface
                .prefixes
                .iter()
                .filter(|(address, _)| !link_local(*address));
            let mut prefixes: Vec<Prefix> = subnets
                .map(|(address, len)| Prefix {
                    address: *address,
                    len: *len,
                })
                .collect();
            prefixes.sort_unstable();
            prefixes.dedup();
            Interface {
                name: interface.name.clone(),
                up: interface.up,
                prefixes,
                mac: Mac(interface.mac),
            }
        })
        .collect();
    interfaces.sort_unstable();
    interfaces
}

fn link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
