//! Places: the nodes that may be given addresses, and how full each is while a placement is being worked out.
//!
//! A unit goes to the node that is the least loaded after taking it, in proportion to its weight; among equals
//! to the lowest number. VIPs that want to be apart come first: a node without such a neighbour wins over any
//! load; and before all that, one that has been up for a while wins over one that has just come. Working it out changes
//! nothing, so that the same code says what *would* happen.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::net::IpAddr;

use super::State;
use super::failback::SUPPORTED;
use super::unit::Unit;
use crate::id::NodeId;
use crate::name::Name;
use crate::node::Node;
use crate::time::Millis;

/// Where addresses may go.
pub(super) struct Places<'a> {
    state: &'a State,
    places: Vec<Place<'a>>,
    /// How many addresses of VIPs with a key are where; filled in when a key is first asked for.
    apart: BTreeMap<Name, BTreeMap<NodeId, u64>>,
}

struct Place<'a> {
    node: &'a Node,
    load: u64,
    /// It came up, or its interface did, only just now: a majority may not support it yet, and until it does, nobody
    /// would answer.
    fresh: bool,
}

impl<'a> Places<'a> {
    /// The nodes that accept addresses, except `without`. With a time, those that came up just before it are the last
    /// choice.
    pub(super) fn new(state: &'a State, without: Option<NodeId>, at: Option<Millis>) -> Self {
        let nodes = state.nodes.values();
        let places = nodes
            .filter(|node| node.accepts() && Some(node.id) != without)
            .map(|node| Place {
                node,
                load: state.index.load(node.id),
                fresh: at.is_some_and(|at| at.0 < node.steady_since.0.saturating_add(SUPPORTED.0)),
            })
            .collect();
        Self {
            state,
            places,
            apart: BTreeMap::new(),
        }
    }

    /// Where the addresses `part` of `unit` go, each with its node: to where the rest of the unit is, else to the
    /// best node for all of them, else (unless it is a group) each to its own best.
    pub(super) fn place(&mut self, unit: &Unit, part: &[IpAddr]) -> Vec<(IpAddr, Option<NodeId>)> {
        let rest = self.rest(unit, part);
        let whole: &[IpAddr] = if unit.strict() { &unit.addresses } else { part };
        let together = rest
            .filter(|node| self.can_take(*node, whole))
            .or_else(|| self.best(unit, whole, part.len()));
        if together.is_some() || unit.strict() {
            for address in part {
                self.moves(unit, *address, together);
            }
            return part.iter().map(|address| (*address, together)).collect();
        }
        part.iter()
            .map(|address| {
                let alone = [*address];
                let to = rest
                    .filter(|node| self.can_take(*node, &alone))
                    .or_else(|| self.best(unit, &alone, 1));
                self.moves(unit, *address, to);
                (*address, to)
            })
            .collect()
    }

    /// Where most of the unit is that stays.
    fn rest(&self, unit: &Unit, part: &[IpAddr]) -> Option<NodeId> {
        if part.len() == unit.addresses.len() {
            return None;
        }
        let part: BTreeSet<&IpAddr> = part.iter().collect();
        let stay = unit
            .addresses
            .iter()
            .filter(|address| !part.contains(address));
        most_frequent(stay.filter_map(|address| {
            let to = self.state.allocations.get(address)?.destination()?;
            self.state.keeps(to, *address).then_some(to)
        }))
    }

    /// Whether this node accepts all of these.
    fn can_take(&self, node: NodeId, addresses: &[IpAddr]) -> bool {
        let place = self.places.iter().find(|place| place.node.id == node);
        place.is_some_and(|place| self.can_hold_all(place.node, addresses))
    }

    fn can_hold_all(&self, node: &Node, addresses: &[IpAddr]) -> bool {
        let mut addresses = addresses.iter();
        addresses.all(|address| self.state.interface_for(node, *address).is_some())
    }

    /// The best node for all of `addresses`, of which `new` are not there yet.
    fn best(&mut self, unit: &Unit, addresses: &[IpAddr], new: usize) -> Option<NodeId> {
        for key in &unit.apart {
            self.look_apart(key);
        }
        let new = new as u64;
        let mut best: Option<((bool, u64), &Place<'_>)> = None;
        for place in &self.places {
            let rank = (place.fresh, self.crowd(unit, place.node.id));
            let better = best.is_none_or(|(least, found)| {
                let by_rank = rank.cmp(&least);
                by_rank.then_with(|| fuller(place, found, new)) == Ordering::Less
            });
            // The costly question last: of few nodes, and never of the fuller ones.
            if better && self.can_hold_all(place.node, addresses) {
                best = Some((rank, place));
            }
        }
        best.map(|(_, place)| place.node.id)
    }

    /// How many addresses this unit should be kept apart from are on `node`.
    fn crowd(&self, unit: &Unit, node: NodeId) -> u64 {
        let there = unit.apart.iter().filter_map(|key| self.apart.get(key));
        there.filter_map(|counts| counts.get(&node)).sum()
    }

    fn look_apart(&mut self, key: &Name) {
        if self.apart.contains_key(key) {
            return;
        }
        let mut counts = BTreeMap::new();
        let vips = self.state.index.apart.get(key).into_iter().flatten();
        let addresses = vips
            .filter_map(|vip| self.state.vips.get(vip))
            .flat_map(|vip| &vip.addresses);
        for address in addresses {
            let allocation = self.state.allocations.get(address);
            if let Some(node) = allocation.and_then(|allocation| allocation.destination()) {
                *counts.entry(node).or_default() += 1;
            }
        }
        self.apart.insert(key.clone(), counts);
    }

    /// Counts `address` at `to` from now on.
    fn moves(&mut self, unit: &Unit, address: IpAddr, to: Option<NodeId>) {
        let allocation = self.state.allocations.get(&address);
        let from = allocation.and_then(|allocation| allocation.destination());
        for (node, comes) in [(from, false), (to, true)] {
            let Some(node) = node else { continue };
            let change = |n: u64| if comes { n + 1 } else { n.saturating_sub(1) };
            if let Ok(i) = self.places.binary_search_by_key(&node, |p| p.node.id) {
                self.places[i].load = change(self.places[i].load);
            }
            for key in &unit.apart {
                if let Some(counts) = self.apart.get_mut(key) {
                    let n = counts.entry(node).or_default();
                    *n = change(*n);
                }
            }
        }
    }
}

/// Compares how full two places would be with `new` more addresses, in proportion to their weights.
fn fuller(a: &Place<'_>, b: &Place<'_>, new: u64) -> Ordering {
    let weight = |place: &Place<'_>| u64::from(place.node.weight.get());
    ((a.load + new) * weight(b)).cmp(&((b.load + new) * weight(a)))
}

/// The node that comes most often, the lowest number among equals.
pub(super) fn most_frequent(nodes: impl Iterator<Item = NodeId>) -> Option<NodeId> {
    let mut counts: Vec<(NodeId, usize)> = vec![];
    for node in nodes {
        match counts.iter_mut().find(|(id, _)| *id == node) {
            Some((_, n)) => *n += 1,
            None => counts.push((node, 1)),
        }
    }
    let best = counts
        .into_iter()
        .min_by_key(|(id, n)| (core::cmp::Reverse(*n), *id));
    best.map(|(id, _)| id)
}
