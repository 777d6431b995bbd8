//! Units: what is placed as one. A group of VIPs, or a VIP that is in none.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::State;
use crate::block::Family;
use crate::id::NodeId;
use crate::name::Name;
use crate::node::Node;
use crate::policy::Policy;
use crate::time::Millis;
use crate::vip::{Allocation, Failback, Vip};

/// Which unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum UnitKey {
    /// The VIPs of this group: on one node that can hold all their addresses, or not at all.
    Group(Name),
    /// One VIP: on one node if one can hold all its addresses, else each address for itself.
    Vip(Name),
}

/// A unit and the addresses that belong to it now.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) key: UnitKey,
    pub(super) addresses: Vec<IpAddr>,
    /// Keys of VIPs that it should be kept apart from.
    pub(super) apart: BTreeSet<Name>,
}

impl UnitKey {
    /// The unit of this VIP.
    pub(super) fn of(vip: &Vip) -> Self {
        match &vip.spec.group {
            Some(group) => Self::Group(group.clone()),
            None => Self::Vip(vip.name.clone()),
        }
    }
}

impl Unit {
    /// All or nothing.
    pub(super) fn strict(&self) -> bool {
        matches!(self.key, UnitKey::Group(_))
    }
}

impl State {
    /// The unit of a VIP that exists.
    pub(super) fn unit_key(&self, vip: &Name) -> Option<UnitKey> {
        self.vips.get(vip).map(|vip| UnitKey::of(vip))
    }

    /// The unit as it is now.
    pub(super) fn unit(&self, key: UnitKey) -> Unit {
        let (mut addresses, mut apart) = (Vec::new(), BTreeSet::new());
        for vip in self.vips_of(&key) {
            // One that several share belongs to the unit of one of them.
            let own = |address: &&IpAddr| {
                let allocation = self.allocations.get(*address);
                allocation.is_some_and(|allocation| allocation.vip == vip.name)
            };
            addresses.extend(vip.addresses.iter().filter(own));
            apart.extend(vip.spec.apart.clone());
        }
        Unit {
            key,
            addresses,
            apart,
        }
    }

    pub(super) fn vips_of<'a>(&'a self, key: &'a UnitKey) -> impl Iterator<Item = &'a Vip> {
        let (group, single) = match key {
            UnitKey::Group(group) => (self.index.groups.get(group), None),
            UnitKey::Vip(name) => (None, Some(name)),
        };
        let names = group.into_iter().flatten().chain(single);
        names.filter_map(|name| self.vips.get(name).map(|vip| &**vip))
    }

    /// How long the unit's home must have been steady before it returns: what the most reluctant VIP says.
    pub(super) fn failback_of(&self, key: &UnitKey) -> Option<Millis> {
        let addresses = self.unit(key.clone()).addresses.into_iter();
        let of = addresses.filter_map(|address| self.allocations.get(&address));
        let vips = of.flat_map(|of| of.vips());
        let vips = vips.filter_map(|name| self.vips.get(name));
        let most_reluctant = vips.map(|vip| vip.spec.failback).max()?;
        match most_reluctant {
            Failback::After { delay } => Some(delay),
            Failback::Never => None,
        }
    }

    /// The interface on which `node` would announce `address`: one that can, and that policies (those of the VIP's traffic,
    /// too) allow. `None` for an
    /// address that is not allocated.
    #[must_use]
    pub fn interface_for<'a>(&self, node: &'a Node, address: IpAddr) -> Option<&'a str> {
        self.interface_of(node, address, self.allocations.get(&address)?)
    }

    /// The same for those who have the allocation at hand.
    pub(super) fn interface_of<'a>(
        &self,
        node: &'a Node,
        address: IpAddr,
        allocation: &Allocation,
    ) -> Option<&'a str> {
        let named = allocation.interface.as_deref();
        if !self.has_backends(node, address, allocation) {
            return None;
        }
        if self.policies.is_empty() {
            return node.interface_for(address, named);
        }
        // Each VIP that has it must be allowed there, by any policy that is about it.
        let vips = allocation.vips().filter_map(|vip| self.vips.get(vip));
        let about = vips.map(|vip| {
            let policies = self.policies.values();
            policies.filter(|policy| policy.selects(vip)).collect()
        });
        let about: Vec<Vec<_>> = about.filter(|about: &Vec<_>| !about.is_empty()).collect();
        node.interfaces_for(address, named).find(|interface| {
            let allows =
                |policies: &Vec<&Policy>| policies.iter().any(|p| p.allows(node, interface));
            about.iter().all(allows)
        })
    }

    /// Whether no VIP that has the allocation of `address` lacks a backend on this node that it needs there.
    #[must_use]
    pub fn has_backends(&self, node: &Node, address: IpAddr, allocation: &Allocation) -> bool {
        // Looked at for thousands of addresses at a time, and seldom used.
        let mut local = allocation.vips().filter(|vip| {
            let local = &self.index.local;
            !local.is_empty() && local.contains(*vip)
        });
        local.all(|vip| {
            let vip = self.vips.get(vip);
            vip.is_none_or(|vip| vip.spec.has_backend_for(node, Family::of(address)))
        })
    }

    /// Whether `node` may go on, or begin, to hold `address`.
    pub(super) fn keeps(&self, id: NodeId, address: IpAddr) -> bool {
        let holds = self
            .allocations
            .get(&address)
            .is_some_and(|allocation| allocation.holder == Some(id));
        self.nodes.get(&id).is_some_and(|node| {
            (node.accepts() || (holds && node.can_hold_any().is_ok()))
                && self.interface_for(node, address).is_some()
        })
    }
}
