//! What this node should be doing, computed from the cluster's state and nothing else. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use vipd_core::id::{Epoch, NodeId};
use vipd_core::node::{Interface, Lease, Prefix};
use vipd_core::state::State;
use vipd_datapath::{Gate, Wanted, WantedAddress};
use vipd_raft::beat::{Peer, View};

/// When each member was last heard.
pub(super) type Heard = BTreeMap<NodeId, Arc<AtomicU64>>;

/// What the beat thread needs to know. Before this node has caught up it may not announce: it might be
/// counting support by voters that are no longer the voters, or hold what it has given away.
pub(super) fn view(state: &State, me: NodeId, caught_up: bool, heard: &mut Heard) -> View {
    heard.retain(|id, _| state.node(*id).is_some());
    let peers = state.nodes().values().map(|node| {
        let heard = heard.entry(node.id).or_default().clone();
        (
            node.id,
            Peer {
                address: node.peer,
                key: node.beat_key,
                heard,
            },
        )
    });
    let running = state
        .nodes()
        .values()
        .filter(|node| node.lease == Lease::Up);
    let membership = state.voters().map_or(0, |(index, _)| index);
    let voters = state.voters().map(|(_, voters)| voters.clone());
    View {
        epoch: state
            .node(me)
            .filter(|node| caught_up && node.lease == Lease::Up)
            .map(|node| node.epoch),
        votes: voters
            .as_ref()
            .is_some_and(|voters| voters.voters().contains(&me)),
        membership,
        voters,
        peers: peers.collect(),
        leases: running.map(|node| (node.id, node.epoch)).collect(),
    }
}

/// What the datapath shall have: an entry for every address of the cluster that this node could announce, so that
/// nothing here, not even a connection left over from when it was the holder, speaks as an address of another.
/// Open only while this node holds it, is not asked to give it back, and is `supported`: a node that has just
/// regained support so announces again.
pub(super) fn wanted(
    state: &State,
    me: NodeId,
    supported: bool,
    interfaces: &BTreeSet<String>,
) -> Wanted {
    let addresses = state.node(me).map(|node| {
        let may = supported && node.lease == Lease::Up;
        let entries = state
            .allocations()
            .iter()
            .filter_map(move |(address, allocation)| {
                // Never the host's own address, which it had first: its peers would lose it.
                if node.owns(*address) {
                    return None;
                }
                let interface = node.interface_for(*address, allocation.interface.as_deref())?;
                let mine = allocation.holder == Some(me) && allocation.vacating.is_none();
                let gate = if may && mine { Gate::Open } else { Gate::Shut };
                let (interface, epoch) = (interface.to_owned(), allocation.epoch.0);
                Some((
                    *address,
                    WantedAddress {
                        interface,
                        gate,
                        epoch,
                    },
                ))
            });
        entries.collect()
    });
    Wanted {
        addresses: addresses.unwrap_or_default(),
        interfaces: interfaces.clone(),
    }
}

/// Whether this node still holds `address` under `epoch`.
pub(super) fn held_under(state: &State, me: NodeId, address: IpAddr, epoch: Epoch) -> bool {
    let allocation = state.allocations().get(&address);
    allocation.is_some_and(|allocation| allocation.holder == Some(me) && allocation.epoch == epoch)
}

/// The addresses that this node is asked to give back.
pub(super) fn vacating(state: &State, me: NodeId) -> Vec<(IpAddr, Epoch)> {
    let held = state.held_by(me);
    held.filter(|(_, allocation)| allocation.vacating.is_some())
        .map(|(ip, allocation)| (ip, allocation.epoch))
        .collect()
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
