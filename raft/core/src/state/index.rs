//! What is derived from the state to answer quickly: free addresses, used counts, who holds what. Rebuilt when
//! a state is decoded, so it can never disagree with what was agreed on.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;

use super::ipam::Stock;
use crate::by_address::ByAddress;
use crate::id::NodeId;
use crate::name::Name;
use crate::node::Node;
use crate::proof::Proof;
use crate::service::TrafficPolicy;
use crate::vip::{Allocation, Vip};

/// Where an address is, and where it will be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Whereabouts {
    holder: Option<NodeId>,
    destination: Option<NodeId>,
}

impl Whereabouts {
    pub(super) fn of(allocation: &Allocation) -> Self {
        Self {
            holder: allocation.holder,
            destination: allocation.destination(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// What is free.
    pub(super) stock: Stock,
    /// The addresses each node holds.
    held: BTreeMap<NodeId, ByAddress<()>>,
    /// How many addresses each node will hold once everything under way is done.
    load: BTreeMap<NodeId, u64>,
    /// The VIPs of each group.
    pub(super) groups: BTreeMap<Name, BTreeSet<Name>>,
    /// The VIPs with each key that keeps them apart.
    pub(super) apart: BTreeMap<Name, BTreeSet<Name>>,
    /// The VIPs that may be on nodes with a backend of their own only.
    pub(super) local: BTreeSet<Name>,
    /// Addresses that shall return to a home, by home.
    pub(super) away: BTreeMap<NodeId, BTreeSet<IpAddr>>,
    /// Addresses that are the nodes' own.
    pub(super) hosts: BTreeMap<IpAddr, NodeId>,
    /// Node numbers by name.
    pub(super) names: BTreeMap<Name, NodeId>,
    /// Addresses that somebody holds and of which it is not known that nobody outside has them.
    unproven: ByAddress<()>,
    /// What users' objects weigh, see [`super::size`].
    pub(super) weight: u64,
}

impl Index {
    pub(super) fn held_by(&self, node: NodeId) -> impl Iterator<Item = IpAddr> {
        let held = self.held.get(&node).into_iter();
        held.flat_map(ByAddress::keys)
    }

    /// The unproven addresses that a node holds.
    pub(super) fn unproven_of(&self, node: NodeId) -> impl Iterator<Item = IpAddr> {
        let held = self.held.get(&node).into_iter();
        held.flat_map(|held| {
            let fewer = held.len() < self.unproven.len();
            let (few, many) = match fewer {
                true => (held, &self.unproven),
                false => (&self.unproven, held),
            };
            few.keys().filter(|address| many.contains_key(address))
        })
    }

    pub(super) fn load(&self, node: NodeId) -> u64 {
        self.load.get(&node).copied().unwrap_or(0)
    }

    /// Notes the addresses that the nodes themselves have: where peers reach them, and on their interfaces. Returns
    /// what it was before.
    pub(super) fn set_hosts(&mut self, nodes: &BTreeMap<NodeId, Node>) -> BTreeMap<IpAddr, NodeId> {
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
        core::mem::replace(&mut self.hosts, all.collect())
    }

    /// Follows a change of an allocation.
    pub(super) fn changed(&mut self, address: IpAddr, before: Whereabouts, after: Whereabouts) {
        if before.holder != after.holder {
            self.hold(address, before.holder, after.holder);
        }
        let (from, to) = (before.destination, after.destination);
        if from == to {
            return;
        }
        if let Some(from) = from
            && let Some(load) = self.load.get_mut(&from)
        {
            *load -= 1;
            if *load == 0 {
                self.load.remove(&from);
            }
        }
        if let Some(to) = to {
            *self.load.entry(to).or_default() += 1;
        }
    }

    fn hold(&mut self, address: IpAddr, from: Option<NodeId>, to: Option<NodeId>) {
        if let Some(from) = from
            && let Some(held) = self.held.get_mut(&from)
        {
            held.remove(&address);
            if held.is_empty() {
                self.held.remove(&from);
            }
        }
        if let Some(to) = to {
            self.held.entry(to).or_default().insert(address, ());
        }
    }

    /// Follows a change of whether a holder may have to ask who has an address.
    pub(super) fn set_unproven(&mut self, address: IpAddr, was: bool, is: bool) {
        match (was, is) {
            (false, true) => drop(self.unproven.insert(address, ())),
            (true, false) => drop(self.unproven.remove(&address)),
            (false, false) | (true, true) => {}
        }
    }

    /// Follows a change of what an object weighs.
    pub(super) fn weigh(&mut self, from: Option<u64>, to: Option<u64>) {
        self.weight = self.weight - from.unwrap_or(0) + to.unwrap_or(0);
    }

    /// Files an address under the home that it shall return to.
    pub(super) fn set_away(&mut self, address: IpAddr, from: Option<NodeId>, to: Option<NodeId>) {
        file(&mut self.away, address, from, to);
    }

    /// Follows a change of a VIP.
    pub(super) fn put_vip(&mut self, old: Option<&Vip>, new: Option<&Vip>) {
        if let Some(name) = new.or(old).map(|vip| &vip.name) {
            let group = |vip: &Vip| vip.spec.group.clone();
            let apart = |vip: &Vip| vip.spec.apart.clone();
            refile(
                &mut self.groups,
                name,
                old.and_then(group),
                new.and_then(group),
            );
            refile(
                &mut self.apart,
                name,
                old.and_then(apart),
                new.and_then(apart),
            );
            if new.is_some_and(|vip| vip.spec.traffic == TrafficPolicy::Local) {
                self.local.insert(name.clone());
            } else {
                self.local.remove(name);
            }
        }
    }
}

/// Whether its holder may have to ask who has the address.
pub(super) fn unproven(of: &Allocation) -> bool {
    of.holder.is_some() && of.proof != Proof::Clear
}

/// The same for a VIP, most of which are filed nowhere.
fn refile(
    files: &mut BTreeMap<Name, BTreeSet<Name>>,
    vip: &Name,
    from: Option<Name>,
    to: Option<Name>,
) {
    if from != to {
        file(files, vip.clone(), from, to);
    }
}

/// Takes an item from where it is filed, and files it anew.
fn file<K: Ord, V: Ord>(
    files: &mut BTreeMap<K, BTreeSet<V>>,
    item: V,
    from: Option<K>,
    to: Option<K>,
) {
    if let Some(from) = from
        && let Some(filed) = files.get_mut(&from)
    {
        filed.remove(&item);
        if filed.is_empty() {
            files.remove(&from);
        }
    }
    if let Some(to) = to {
        files.entry(to).or_default().insert(item);
    }
}
