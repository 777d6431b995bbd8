//! Places: the nodes that may be given addresses, and how full each is while a placement is being worked out.
//!
//! A unit goes to the node that is the least loaded after taking it, in proportion to its weight; among equals
//! to the lowest number. VIPs that want to be apart come first: a node without such a neighbour wins over any
//! load; before all that, one that has been up for a while wins over one that has just come; and first of all, one
//! that does not see all backends down wins over one that does (`sight.rs`). Working it out changes nothing, so that the same code says what *would* happen.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::State;
use super::failback::SUPPORTED;
use super::sight::Blindness;
use super::unit::{Given, Unit};
use crate::few::Few;
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
    pub(super) fn place<'g>(
        &mut self,
        unit: &Unit<'g>,
        part: &[Given<'g>],
    ) -> Few<(Given<'g>, Option<NodeId>)> {
        let blind = self.state.blindness(unit);
        let rest = self.rest(unit, part);
        let rest = rest.filter(|node| !blind.contains_key(node));
        let whole: &[Given<'_>] = if unit.strict() { &unit.given } else { part };
        let together = rest
            .filter(|node| self.can_take(*node, whole))
            .or_else(|| self.best(unit, &blind, whole, part.len()));
        if together.is_some() || unit.strict() || part.len() == 1 {
            for given in part {
                self.moves(unit, *given, together);
            }
            return part.iter().map(|given| (*given, together)).collect();
        }
        part.iter()
            .map(|given| {
                let alone = [*given];
                let to = rest
                    .filter(|node| self.can_take(*node, &alone))
                    .or_else(|| self.best(unit, &blind, &alone, 1));
                self.moves(unit, *given, to);
                (*given, to)
            })
            .collect()
    }

    /// Where most of the unit is that stays.
    fn rest(&self, unit: &Unit<'_>, part: &[Given<'_>]) -> Option<NodeId> {
        most_frequent(unit.without(part).into_iter().filter_map(|given| {
            let to = given.of.destination()?;
            self.state.keeps(to, given).then_some(to)
        }))
    }

    /// Whether this node accepts all of these.
    fn can_take(&self, node: NodeId, all: &[Given<'_>]) -> bool {
        let place = self.places.iter().find(|place| place.node.id == node);
        place.is_some_and(|place| self.can_hold_all(place.node, all))
    }

    fn can_hold_all(&self, node: &Node, all: &[Given<'_>]) -> bool {
        let mut all = all.iter();
        all.all(|given| self.state.interface_of(node, *given).is_some())
    }

    /// The best node for `all`, of which `new` are not there yet.
    fn best(
        &mut self,
        unit: &Unit<'_>,
        blind: &Blindness,
        all: &[Given<'_>],
        new: usize,
    ) -> Option<NodeId> {
        for key in &unit.apart {
            self.look_apart(key);
        }
        let new = new as u64;
        let mut best: Option<((usize, bool, u64), &Place<'_>)> = None;
        for place in &self.places {
            let id = place.node.id;
            let blind = blind.get(&id).copied().unwrap_or(0);
            let rank = (blind, place.fresh, self.crowd(unit, id));
            let better = best.is_none_or(|(least, found)| {
                let by_rank = rank.cmp(&least);
                by_rank.then_with(|| fuller(place, found, new)) == Ordering::Less
            });
            // The costly question last: of few nodes, and never of the fuller ones.
            if better && self.can_hold_all(place.node, all) {
                best = Some((rank, place));
            }
        }
        best.map(|(_, place)| place.node.id)
    }

    /// How many addresses this unit should be kept apart from are on `node`.
    fn crowd(&self, unit: &Unit<'_>, node: NodeId) -> u64 {
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

    /// Counts an address at `to` from now on.
    fn moves(&mut self, unit: &Unit<'_>, given: Given<'_>, to: Option<NodeId>) {
        for (node, comes) in [(given.of.destination(), false), (to, true)] {
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
