//! What must hold after every entry. Tests and the simulator check it at each step.

use alloc::format;
use alloc::string::String;

use super::State;

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
        if self.index != self.derive() {
            return Err("the index disagrees with the state".into());
        }
        Ok(())
    }
}
