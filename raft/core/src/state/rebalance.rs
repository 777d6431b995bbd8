//! Rebalance: as few moves as bring every node within one address of its share.
//!
//! A node's share is the addresses of its *zone* by weight. A zone is the nodes between which addresses can be
//! passed at all: two subnets without a common node don't balance each other. Each move goes from a node that is
//! above its share to one that is below, and only while some node is a whole address off. Where every address can
//! go everywhere and is alone, that is the least movement there is; groups and restrictions make it a good one.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry as Slot;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::unit::{Given, Unit, UnitKey};
use super::{Entry, State, done};
use crate::command::Outcome;
use crate::event::{Cause, What};
use crate::id::NodeId;
use crate::name::Name;
use crate::node::{Node, Weight};

/// Addresses of one unit on one node: they move together.
struct Part {
    addresses: Vec<IpAddr>,
    apart: Vec<Name>,
}

/// What can go to the same places, by size.
type Stock = BTreeMap<usize, Vec<Part>>;

/// A node while the moves are worked out. Positions in the list of nodes stand for nodes.
struct Site<'a> {
    node: &'a Node,
    weight: i64,
    load: i64,
    zone: usize,
    /// How far it is above its share; and what one address is in that measure.
    above: i64,
    one: i64,
    /// Its parts that may move, by where they may.
    stocks: BTreeMap<Vec<usize>, Stock>,
}

struct Sites<'a> {
    state: &'a State,
    sites: Vec<Site<'a>>,
    /// Positions, from the emptiest to the fullest.
    order: Vec<usize>,
    /// How many addresses of VIPs that want to be apart are where.
    apart: BTreeMap<(Name, usize), usize>,
}

impl State {
    pub(super) fn rebalance(&mut self, entry: Entry) -> Outcome {
        let moves = self.rebalanced();
        let count = u32::try_from(moves.len()).unwrap_or(u32::MAX);
        self.note(entry, What::Rebalance { moves: count });
        for (address, to) in moves {
            self.hand_over(entry, address, to, Cause::Rebalanced);
        }
        done(entry)
    }

    fn rebalanced(&self) -> Vec<(IpAddr, NodeId)> {
        let mut sites = Sites::new(self);
        let mut moves = BTreeMap::new();
        while let Some((part, to)) = sites.step() {
            for address in part {
                moves.insert(address, to);
            }
        }
        moves.into_iter().collect()
    }
}

impl<'a> Sites<'a> {
    fn new(state: &'a State) -> Self {
        let nodes = state.nodes.values();
        let sites = nodes.filter(|node| node.can_hold_any().is_ok());
        let sites = sites.map(|node| Site {
            node,
            weight: i64::from(node.weight.get()),
            load: 0,
            zone: 0,
            above: 0,
            one: 0,
            stocks: BTreeMap::new(),
        });
        let mut new = Self {
            state,
            sites: sites.collect(),
            order: Vec::new(),
            apart: BTreeMap::new(),
        };
        new.order = (0..new.sites.len()).collect();
        new.take_stock();
        new.find_zones();
        new.weigh();
        new
    }

    /// Counts everything where it is going to be. What is on its way, or waits for a holder, does not move.
    fn take_stock(&mut self) {
        let state = self.state;
        let mut keys: Vec<UnitKey> = state
            .vips
            .keys()
            .filter_map(|vip| state.unit_key(vip))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        for unit in keys.into_iter().map(|key| state.unit(key)) {
            let mut parts: BTreeMap<usize, (Vec<Given<'_>>, bool)> = BTreeMap::new();
            for given in &unit.given {
                let site = given.of.destination().and_then(|node| self.position(node));
                let Some(site) = site else { continue };
                let (part, moving) = parts.entry(site).or_default();
                part.push(*given);
                *moving |= given.of.vacating.is_some();
            }
            for (site, (part, moving)) in parts {
                self.sites[site].load += part.len() as i64;
                for key in &unit.apart {
                    *self.apart.entry((key.clone(), site)).or_default() += part.len();
                }
                let partial = unit.strict() && part.len() < unit.given.len();
                if !moving && !partial {
                    self.put(site, &unit, &part);
                }
            }
        }
    }

    fn put(&mut self, site: usize, unit: &Unit<'_>, all: &[Given<'_>]) {
        let blind = self.state.blindness(unit);
        let able = |node: &Node| {
            let mut all = all.iter();
            node.weight > Weight::ZERO
                && !blind.contains_key(&node.id)
                && all.all(|given| self.state.interface_of(node, *given).is_some())
        };
        let able: Vec<usize> = (0..self.sites.len())
            .filter(|i| able(self.sites[*i].node))
            .collect();
        let part = Part {
            addresses: all.iter().map(|given| given.address).collect(),
            apart: unit.apart.iter().cloned().collect(),
        };
        self.add(site, able, part);
    }

    fn add(&mut self, site: usize, able: Vec<usize>, part: Part) {
        let stock = self.sites[site].stocks.entry(able).or_default();
        stock.entry(part.addresses.len()).or_default().push(part);
    }

    fn position(&self, node: NodeId) -> Option<usize> {
        self.sites
            .binary_search_by_key(&node, |site| site.node.id)
            .ok()
    }

    /// Nodes that some part may pass between are of one zone; a zone is called by its lowest position.
    fn find_zones(&mut self) {
        let mut zones: Vec<usize> = (0..self.sites.len()).collect();
        for site in 0..self.sites.len() {
            for able in self.sites[site].stocks.keys() {
                let together = || able.iter().copied().chain([site]);
                let joined: Vec<usize> = together().map(|i| zones[i]).collect();
                let Some(lowest) = joined.iter().min().copied() else {
                    continue;
                };
                for zone in &mut zones {
                    if joined.contains(zone) {
                        *zone = lowest;
                    }
                }
            }
        }
        for (site, zone) in self.sites.iter_mut().zip(zones) {
            site.zone = zone;
        }
    }

    /// How far above its share each node is, times the weight of its zone: whole numbers.
    fn weigh(&mut self) {
        let mut sums = vec![(0, 0); self.sites.len()];
        for site in &self.sites {
            let (weight, load) = &mut sums[site.zone];
            *weight += site.weight;
            *load += site.load;
        }
        for site in &mut self.sites {
            let (weight, load) = sums[site.zone];
            site.one = weight;
            site.above = site.load * weight - load * site.weight;
        }
    }

    /// The next move, carried out on the sites.
    fn step(&mut self) -> Option<(Vec<IpAddr>, NodeId)> {
        // Sorted before but for the last two.
        let mut order = core::mem::take(&mut self.order);
        order.sort_by_key(|i| (self.sites[*i].above, *i));
        let givers = order.iter().rev();
        let found = givers
            .take_while(|i| self.sites[**i].above > 0)
            .flat_map(|giver| order.iter().map(move |taker| (*giver, *taker)))
            .filter(|(giver, taker)| self.may_pass(*giver, *taker))
            .find_map(|(giver, taker)| {
                let (able, n, at) = self.choose(giver, taker)?;
                Some((giver, taker, able.clone(), n, at))
            });
        self.order = order;
        let (giver, taker, able, n, at) = found?;
        let part = self.take(giver, &able, n, at)?;
        let addresses = part.addresses.clone();
        self.pass(giver, taker, able, part);
        Some((addresses, self.sites[taker].node.id))
    }

    fn may_pass(&self, giver: usize, taker: usize) -> bool {
        let (giver, taker) = (&self.sites[giver], &self.sites[taker]);
        let off = giver.above >= giver.one || taker.above <= -giver.one;
        taker.above < 0 && giver.zone == taker.zone && off
    }

    /// The largest part that does not carry the two past each other; else the smallest that brings them nearer.
    fn choose(&self, giver: usize, taker: usize) -> Option<(&Vec<usize>, usize, usize)> {
        let one = self.sites[giver].one;
        let room = self.sites[giver].above - self.sites[taker].above;
        // The rank of a size; none for one that would not help.
        let rank = |n: usize| {
            let (size, n) = (n as i64 * one, n as i64);
            let fits = 2 * size <= room;
            (size < room).then_some((fits, if fits { n } else { -n }))
        };
        let (mut best, mut found) = (None, None);
        for (able, stock) in &self.sites[giver].stocks {
            if able.binary_search(&taker).is_err() {
                continue;
            }
            for (n, parts) in stock {
                let rank = rank(*n);
                if rank <= best {
                    continue;
                }
                let mut last = parts.iter();
                if let Some(at) = last.rposition(|part| !self.crowds(part, giver, taker)) {
                    (best, found) = (rank, Some((able, *n, at)));
                }
            }
        }
        found
    }

    fn pass(&mut self, giver: usize, taker: usize, able: Vec<usize>, part: Part) {
        let n = part.addresses.len();
        for key in &part.apart {
            let here = self.apart.entry((key.clone(), giver)).or_default();
            *here = here.saturating_sub(n);
            *self.apart.entry((key.clone(), taker)).or_default() += n;
        }
        let size = n as i64 * self.sites[giver].one;
        self.sites[giver].above -= size;
        self.sites[taker].above += size;
        self.add(taker, able, part);
    }

    fn take(&mut self, site: usize, able: &Vec<usize>, n: usize, at: usize) -> Option<Part> {
        let stock = self.sites[site].stocks.get_mut(able)?;
        let Slot::Occupied(mut parts) = stock.entry(n) else {
            return None;
        };
        let part = parts.get_mut().swap_remove(at);
        if parts.get().is_empty() {
            parts.remove();
        }
        Some(part)
    }

    /// Whether a part would have more neighbours that it wants to be apart from than it has.
    fn crowds(&self, part: &Part, giver: usize, taker: usize) -> bool {
        let at = |key: &Name, site| self.apart.get(&(key.clone(), site)).copied();
        part.apart.iter().any(|key| {
            let (here, there) = (at(key, giver), at(key, taker));
            there.unwrap_or(0) + part.addresses.len() > here.unwrap_or(0)
        })
    }
}
