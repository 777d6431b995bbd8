//! What must hold after every entry. Tests and the simulator check it at each step.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::State;
use super::unit::UnitKey;
use crate::name::Name;
use crate::node::Node;
use crate::sharing::compatible;
use crate::vip::Allocation;

impl State {
    /// The first broken invariant, in words.
    ///
    /// # Errors
    /// What is broken.
    pub fn check(&self) -> Result<(), String> {
        for (name, vip) in &self.vips {
            if vip.satisfied() != vip.unsatisfied_since.is_none() {
                let since = vip.unsatisfied_since;
                return Err(format!(
                    "VIP {name} lacks what it needs since {since:?}, but waits for {:?}",
                    vip.unmet
                ));
            }
            for address in &vip.addresses {
                match self.allocations.get(address) {
                    Some(allocation) if allocation.is_of(name) && !allocation.freeing => {}
                    Some(_) | None => {
                        return Err(format!("VIP {name} lists {address}, which is not its own"));
                    }
                }
            }
        }
        for (address, allocation) in self.allocations.iter() {
            for name in allocation.vips() {
                let vip = self.vips.get(name);
                let wanted = vip.is_some_and(|vip| vip.addresses.contains(&address));
                if wanted == allocation.freeing {
                    return Err(format!(
                        "{address}: wanted by VIP {name} {wanted}, freeing {}",
                        allocation.freeing
                    ));
                }
            }
            self.check_sharing(address, allocation)?;
            let pool = self.pools.get(&allocation.pool);
            if !allocation.freeing && !pool.is_some_and(|pool| pool.spec.contains(address)) {
                return Err(format!(
                    "{address} is in no block of its pool {}",
                    allocation.pool
                ));
            }
            if allocation.epoch.0 > self.applied {
                return Err(format!("{address} has an epoch from the future"));
            }
            match allocation.holder.map(|holder| self.nodes.get(&holder)) {
                Some(None) => {
                    return Err(format!("{address} is held by a node that is not a member"));
                }
                None if allocation.freeing => {
                    return Err(format!("{address} is freeing and nobody holds it"));
                }
                Some(Some(_)) | None => {}
            }
        }
        for (address, cooling) in &self.cooling {
            if self.allocations.contains_key(address) {
                return Err(format!(
                    "{address} of VIP {} cools down and is allocated",
                    cooling.vip
                ));
            }
        }
        self.check_sight()?;
        for group in self.index.groups.keys() {
            self.check_group(group)?;
        }
        if self.index != self.derive() {
            return Err("the index disagrees with the state".into());
        }
        Ok(())
    }

    /// Whoever shares an address may share it with all others.
    fn check_sharing(&self, address: IpAddr, allocation: &Allocation) -> Result<(), String> {
        let vips: Vec<_> = allocation
            .vips()
            .filter_map(|name| self.vips.get(name))
            .collect();
        for (i, vip) in vips.iter().enumerate() {
            for other in &vips[..i] {
                compatible(&vip.spec, &other.spec).map_err(|rule| {
                    format!(
                        "{address} is shared by {} and {}: {rule}",
                        vip.name, other.name
                    )
                })?;
            }
        }
        Ok(())
    }

    /// A group on which nothing is under way is together, if some node can hold all of it.
    fn check_group(&self, group: &Name) -> Result<(), String> {
        let unit = self.unit(UnitKey::Group(group.clone()));
        let members = unit.given.iter().map(|given| given.of);
        let holders: BTreeSet<_> = members.clone().map(|of| of.holder).collect();
        if holders.len() < 2 || members.clone().any(|of| of.vacating.is_some()) {
            return Ok(());
        }
        let able = |node: &&Node| {
            node.accepts() && unit.given.iter().all(|given| self.keeps(node.id, *given))
        };
        match self.nodes.values().find(able) {
            None => Ok(()),
            Some(node) => Err(format!(
                "group {group} is on {holders:?}, and node {} could hold all of it",
                node.name
            )),
        }
    }
}
