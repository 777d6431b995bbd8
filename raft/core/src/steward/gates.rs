//! What a node answers for and beats for, computed from the cluster's state and nothing else.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use core::net::IpAddr;

use crate::id::{Epoch, NodeId};
use crate::lease::View;
use crate::node::{Lease, Mac, Node};
use crate::state::State;
use crate::time::Instant;
use crate::vip::Allocation;

use super::handing::Moves;

/// What a node does about one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stance {
    /// The interface that would carry it.
    pub interface: String,
    /// What it does about packets and questions.
    pub duty: Duty,
    /// The fencing token.
    pub epoch: Epoch,
}

impl Stance {
    /// Whether the node answers for the address, as long as its lease holds.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.duty == Duty::Open
    }
}

/// What a node does about packets to an address, and questions for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It answers and serves, as long as its lease holds.
    Open,
    /// It is silent.
    Shut,
    /// It is silent, and hands packets on to the next holder.
    Hand {
        /// The next holder's interface.
        to: Mac,
        /// How long at most, by the local clock.
        until: Instant,
        /// It is the holder still: within its own lease only.
        leased: bool,
    },
    /// It is the next holder: it serves what the silent holder hands to it, and answers no question.
    Take {
        /// The holder's interface.
        from: Mac,
    },
}

/// Of every address of the cluster that the node could announce.
pub type Gates = BTreeMap<IpAddr, Stance>;

/// What the beats need to know. Before this node has caught up it may not announce: it might be counting support by
/// voters that are no longer the voters, or hold what it has given away.
pub(super) fn view(state: &State, me: NodeId, caught_up: bool) -> View {
    let nodes = state.nodes().values();
    let running = nodes.filter(|node| node.lease == Lease::Up);
    let voters = state.voters();
    View {
        epoch: state
            .node(me)
            .filter(|node| caught_up && node.lease == Lease::Up)
            .map(|node| node.epoch),
        votes: state.counts(me),
        membership: voters.map_or(0, |(index, _)| index),
        voters: voters.map(|(_, voters)| voters.clone()),
        leases: running.map(|node| (node.id, node.epoch)).collect(),
    }
}

/// A stance on every address of the cluster that this node could announce, so that nothing here, not even a connection
/// left over from when it was the holder, speaks as an address of another. Open only while this node holds it, is not
/// asked to give it back, and is `supported`: a node that has just regained support so announces again.
pub(super) fn gates(state: &State, me: NodeId, supported: bool, moves: &Moves) -> Gates {
    let Some(node) = state.node(me) else {
        return Gates::new();
    };
    let may = supported && node.lease == Lease::Up;
    let stances = state.allocations().iter().filter_map(|(address, of)| {
        let stance = stance(state, node, address, of, may, moves)?;
        Some((address, stance))
    });
    stances.collect()
}

/// The stance of `node` on one address; `may` if it may answer for any.
pub(super) fn stance(
    state: &State,
    node: &Node,
    address: IpAddr,
    of: &Allocation,
    may: bool,
    moves: &Moves,
) -> Option<Stance> {
    let holds = of.holder == Some(node.id);
    // Never the host's own address, which it had first: its peers would lose it. But what it holds stays managed: a kernel
    // that cannot tell who added an address (before Linux 5.18) may show it as the host's own.
    if !holds && node.owns(address) {
        return None;
    }
    let allowed = state.interface_for(node, address);
    let interface = allowed.or_else(|| node.interface_for(address, of.interface.as_deref()))?;
    // One that somebody outside may have is asked for first, see `asking`.
    let may = may && allowed.is_some() && of.proof.lets_announce();
    let opens = may && moves.lets_open(&address);
    let duty = match of.vacating {
        _ if !holds => moves.elsewhere(state, node.id, address, may),
        None if opens => Duty::Open,
        None => Duty::Shut,
        Some(_) => moves.leaving(state, address, may),
    };
    Some(Stance {
        interface: interface.to_owned(),
        duty,
        epoch: of.epoch,
    })
}

/// The interface on which `node` would carry the address. Where policies forbid it, it is shut there all the same.
pub(super) fn carrier<'a>(state: &State, node: &'a Node, address: IpAddr) -> Option<&'a str> {
    let named = state.allocations().get(&address)?.interface.as_deref();
    let allowed = state.interface_for(node, address);
    allowed.or_else(|| node.interface_for(address, named))
}

/// Whether this node still holds `address` under `epoch`.
pub(super) fn held_under(state: &State, me: NodeId, address: IpAddr, epoch: Epoch) -> bool {
    let allocation = state.allocations().get(&address);
    allocation.is_some_and(|allocation| allocation.holder == Some(me) && allocation.epoch == epoch)
}

/// The addresses that this node is asked to give back.
pub(super) fn vacating(state: &State, me: NodeId) -> impl Iterator<Item = (IpAddr, Epoch)> {
    let held = state.held_by(me);
    held.filter(|(_, allocation)| allocation.vacating.is_some())
        .map(|(address, allocation)| (address, allocation.epoch))
}
