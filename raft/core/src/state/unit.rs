//! Units: what is placed as one. A group of VIPs, or a VIP that is in none.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::State;
use crate::block::Family;
use crate::few::Few;
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

/// Units that an entry may have unsettled: mostly the one that it is about.
pub(super) type Units = Few<UnitKey>;

/// An address and its allocation: looked up once, and then asked about many times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    pub(super) address: IpAddr,
    pub(super) of: &'a Allocation,
}

/// A unit and the addresses that belong to it now.
#[derive(Debug)]
pub(super) struct Unit<'a> {
    pub(super) key: UnitKey,
    pub(super) given: Few<Given<'a>>,
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

impl<'a> Unit<'a> {
    /// All or nothing.
    pub(super) fn strict(&self) -> bool {
        matches!(self.key, UnitKey::Group(_))
    }

    /// What is left of it without `part` of it.
    pub(super) fn without(&self, part: &[Given<'_>]) -> Few<Given<'a>> {
        if part.len() == self.given.len() {
            return Few::default();
        }
        let part: BTreeSet<IpAddr> = part.iter().map(|given| given.address).collect();
        let given = self.given.iter().copied();
        given
            .filter(|given| !part.contains(&given.address))
            .collect()
    }
}

impl State {
    /// The unit of a VIP that exists.
    pub(super) fn unit_key(&self, vip: &Name) -> Option<UnitKey> {
        self.vips.get(vip).map(|vip| UnitKey::of(vip))
    }

    /// The unit as it is now.
    pub(super) fn unit(&self, key: UnitKey) -> Unit<'_> {
        let (mut given, mut apart) = (Few::default(), BTreeSet::new());
        for vip in self.vips_of(&key) {
            given.extend(self.own(vip));
            apart.extend(vip.spec.apart.clone());
        }
        Unit { key, given, apart }
    }

    /// The unit of this VIP, which is in no group.
    pub(super) fn alone<'a>(&'a self, vip: &'a Vip) -> Unit<'a> {
        Unit {
            key: UnitKey::of(vip),
            given: self.own(vip).collect(),
            apart: vip.spec.apart.iter().cloned().collect(),
        }
    }

    /// Those of a VIP's addresses that are its own: one that several share belongs to the unit of one of them.
    fn own<'a>(&'a self, vip: &'a Vip) -> impl Iterator<Item = Given<'a>> {
        let all = vip.addresses.iter().filter_map(|at| self.given(*at));
        all.filter(|given| given.of.vip == vip.name)
    }

    /// An address with its allocation, if it has one.
    pub(super) fn given(&self, address: IpAddr) -> Option<Given<'_>> {
        let of = self.allocations.get(&address)?;
        Some(Given { address, of })
    }

    fn vips_of<'a: 'k, 'k>(
        &'a self,
        key: &'k UnitKey,
    ) -> impl Iterator<Item = &'a Vip> + use<'a, 'k> {
        let (group, single) = match key {
            UnitKey::Group(group) => (self.index.groups.get(group), None),
            UnitKey::Vip(name) => (None, Some(name)),
        };
        let names = group.into_iter().flatten().chain(single);
        names.filter_map(|name| self.vips.get(name).map(|vip| &**vip))
    }

    /// How long the unit's home must have been steady before it returns: what the most reluctant VIP says.
    pub(super) fn failback_of(&self, key: &UnitKey) -> Option<Millis> {
        let given = self.unit(key.clone()).given.into_iter();
        let vips = given.flat_map(|given| given.of.vips());
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
        self.interface_of(node, self.given(address)?)
    }

    /// The same for those who have the allocation at hand.
    pub(super) fn interface_of<'a>(&self, node: &'a Node, given: Given<'_>) -> Option<&'a str> {
        let (address, allocation) = (given.address, given.of);
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

    /// Whether a node may go on, or begin, to hold an address.
    pub(super) fn keeps(&self, id: NodeId, given: Given<'_>) -> bool {
        let holds = given.of.holder == Some(id);
        self.nodes.get(&id).is_some_and(|node| {
            (node.accepts() || (holds && node.can_hold_any().is_ok()))
                && self.interface_of(node, given).is_some()
        })
    }
}
