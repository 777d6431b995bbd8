//! What is derived from the state to answer quickly: free addresses, used counts, who holds what. Rebuilt when
//! a state is decoded, so it can never disagree with what was agreed on.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::block::{Family, number};
use crate::id::NodeId;
use crate::name::Name;
use crate::node::Node;
use crate::pool::Pool;
use crate::range_set::RangeSet;
use crate::vip::Allocation;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// Free numbers of each pool and family.
    free: BTreeMap<(Name, Family), RangeSet>,
    /// Allocations of each pool and family.
    used: BTreeMap<(Name, Family), u64>,
    /// The addresses each node holds.
    held: BTreeMap<NodeId, BTreeSet<IpAddr>>,
    /// Addresses that nobody holds.
    pub(super) homeless: BTreeSet<IpAddr>,
    /// Addresses that are the nodes' own.
    pub(super) hosts: BTreeMap<IpAddr, NodeId>,
    /// Node numbers by name.
    pub(super) names: BTreeMap<Name, NodeId>,
}

impl Index {
    pub(super) fn held_by(&self, node: NodeId) -> impl Iterator<Item = IpAddr> {
        self.held.get(&node).into_iter().flatten().copied()
    }

    pub(super) fn load(&self, node: NodeId) -> usize {
        self.held.get(&node).map_or(0, BTreeSet::len)
    }

    pub(super) fn used(&self, pool: &Name, family: Family) -> u128 {
        self.used
            .get(&(pool.clone(), family))
            .copied()
            .map_or(0, u128::from)
    }

    pub(super) fn available(&self, pool: &Name, family: Family) -> Option<u128> {
        self.free
            .get(&(pool.clone(), family))
            .map_or(Some(0), RangeSet::len)
    }

    /// The lowest free address that is no host's own.
    pub(super) fn first_free(&self, pool: &Name, family: Family) -> Option<IpAddr> {
        let free = self.free.get(&(pool.clone(), family))?;
        let mut n = free.first()?;
        while self.hosts.contains_key(&family.address(n)) {
            n = free.first_from(n.checked_add(1)?)?;
        }
        Some(family.address(n))
    }

    /// Notes the addresses that the nodes themselves have: where peers reach them, and on their interfaces.
    pub(super) fn set_hosts(&mut self, nodes: &BTreeMap<NodeId, Node>) {
        let own = |node: &Node| {
            let interfaces = node
                .interfaces
                .iter()
                .flat_map(|interface| interface.prefixes.iter());
            let mut own: Vec<IpAddr> = interfaces.map(|prefix| prefix.address).collect();
            own.push(node.peer.ip());
            own
        };
        let all = nodes
            .values()
            .flat_map(|node| own(node).into_iter().map(|ip| (ip, node.id)));
        self.hosts = all.collect();
    }

    /// Computes the free addresses of a pool anew.
    pub(super) fn set_pool(&mut self, pool: &Pool, allocations: &BTreeMap<IpAddr, Allocation>) {
        self.forget_pool(&pool.name);
        for block in &pool.spec.blocks {
            let (first, last) = block.usable(pool.spec.allow_first_last);
            let free = self
                .free
                .entry((pool.name.clone(), block.family()))
                .or_default();
            free.insert_run(first, last);
            for (address, _) in allocations.range(block.start()..=block.stop()) {
                free.remove(number(*address));
            }
        }
    }

    pub(super) fn forget_pool(&mut self, pool: &Name) {
        for family in Family::ALL {
            self.free.remove(&(pool.clone(), family));
        }
    }

    pub(super) fn allocated(&mut self, address: IpAddr, pool: &Name) {
        let key = (pool.clone(), Family::of(address));
        if let Some(free) = self.free.get_mut(&key) {
            free.remove(number(address));
        }
        *self.used.entry(key).or_default() += 1;
        self.homeless.insert(address);
    }

    /// `offered`: whether the pool still hands the address out.
    pub(super) fn freed(&mut self, address: IpAddr, pool: &Name, offered: bool) {
        let key = (pool.clone(), Family::of(address));
        if offered {
            self.free
                .entry(key.clone())
                .or_default()
                .insert_run(number(address), number(address));
        }
        match self.used.get_mut(&key) {
            Some(1) | None => {
                self.used.remove(&key);
            }
            Some(n) => *n -= 1,
        }
        self.homeless.remove(&address);
    }

    pub(super) fn moved(&mut self, address: IpAddr, from: Option<NodeId>, to: Option<NodeId>) {
        match from {
            Some(node) => {
                if let Some(held) = self.held.get_mut(&node) {
                    held.remove(&address);
                    if held.is_empty() {
                        self.held.remove(&node);
                    }
                }
            }
            None => {
                self.homeless.remove(&address);
            }
        }
        match to {
            Some(node) => {
                self.held.entry(node).or_default().insert(address);
            }
            None => {
                self.homeless.insert(address);
            }
        }
    }
}
