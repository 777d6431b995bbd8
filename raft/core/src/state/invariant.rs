//! What must hold after every entry. Tests and the simulator check it at each step.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;

use super::State;
use super::unit::UnitKey;
use crate::name::Name;
use crate::node::Node;

impl State {
    /// The first broken invariant, in words.
    ///
    /// # Errors
    /// What is broken.
    pub fn check(&self) -> Result<(), String> {
        for (name, vip) in &self.vips {
            for address in &vip.addresses {
                match self.allocations.get(address) {
                    Some(allocation) if allocation.vip == *name && !allocation.freeing => {}
                    Some(_) | None => {
                        return Err(format!("VIP {name} lists {address}, which is not its own"));
                    }
                }
            }
        }
        for (address, allocation) in &self.allocations {
            let wanted = self
                .vips
                .get(&allocation.vip)
                .is_some_and(|vip| vip.addresses.contains(address));
            if wanted == allocation.freeing {
                return Err(format!(
                    "{address}: wanted by its VIP {wanted}, freeing {}",
                    allocation.freeing
                ));
            }
            if !self
                .pools
                .get(&allocation.pool)
                .is_some_and(|pool| pool.spec.contains(*address))
            {
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
        for group in self.index.groups.keys() {
            self.check_group(group)?;
        }
        if self.index != self.derive() {
            return Err("the index disagrees with the state".into());
        }
        Ok(())
    }

    /// A group on which nothing is under way is together, if some node can hold all of it.
    fn check_group(&self, group: &Name) -> Result<(), String> {
        let unit = self.unit(UnitKey::Group(group.clone()));
        let members = unit.addresses.iter();
        let members = members.filter_map(|address| self.allocations.get(address));
        let holders: BTreeSet<_> = members.clone().map(|of| of.holder).collect();
        if holders.len() < 2 || members.clone().any(|of| of.vacating.is_some()) {
            return Ok(());
        }
        let able =
            |node: &&Node| node.accepts() && unit.addresses.iter().all(|a| self.keeps(node.id, *a));
        match self.nodes.values().find(able) {
            None => Ok(()),
            Some(node) => Err(format!(
                "group {group} is on {holders:?}, and node {} could hold all of it",
                node.name
            )),
        }
    }
}
