//! VIPs: made, replaced, deleted, moved; and the allocation of their addresses.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::unit::UnitKey;
use super::{Entry, State, Topic, done, expected, not_found, put};
use crate::command::{Applied, Expect, Outcome};
use crate::event::{Cause, What};
use crate::name::{Labels, Name};
use crate::node::Node;
use crate::rejection::Rejection;
use crate::vip::{Vip, VipSpec};

impl State {
    pub(super) fn put_vip(
        &mut self,
        entry: Entry,
        name: &Name,
        labels: &Labels,
        spec: &VipSpec,
        expect: Expect,
    ) -> Outcome {
        let old = self.vips.get(name).cloned();
        expected(expect, name, "VIP", old.as_ref().map(|vip| vip.revision))?;
        if let Some(old) = &old
            && old.spec == *spec
            && old.labels == *labels
        {
            return Ok(Applied::Done {
                revision: old.revision,
            });
        }
        Self::check_request(name, spec)?;
        let new = old.is_none();
        let (created, born, generation) = match &old {
            Some(old) => {
                let changed = u64::from(old.spec != *spec);
                (old.created, old.born, old.generation + changed)
            }
            None => (entry.at, self.born(entry), 1),
        };
        let (addresses, unmet) = old.as_ref().map_or_else(Default::default, |old| {
            (old.addresses.clone(), old.unmet.clone())
        });
        let vip = Vip {
            name: name.clone(),
            labels: labels.clone(),
            spec: spec.clone(),
            addresses,
            created,
            generation,
            revision: entry.revision,
            born,
            unmet,
        };
        let left = self.unit_key(name);
        self.index.put_vip(old.as_ref(), Some(&vip));
        self.vips.insert(name.clone(), vip);
        if new {
            self.made(Topic::Vip, name);
        }
        self.note(entry, What::VipPut { vip: name.clone() });
        // The group it leaves may now fit where it did not.
        let mut units: BTreeSet<UnitKey> = left.into_iter().collect();
        units.extend(self.satisfy(entry, name, true));
        self.follow_spec(name);
        units.extend(self.unit_key(name));
        self.settle_units(entry, units);
        // Others may share what it claims no more, or what it shares now.
        let keys = [
            old.and_then(|old| old.spec.sharing_key),
            spec.sharing_key.clone(),
        ];
        self.index
            .stock
            .stir
            .keys
            .extend(keys.into_iter().flatten());
        put(entry, new)
    }

    /// Has the addresses of a VIP follow what its spec says of them.
    pub(super) fn follow_spec(&mut self, name: &Name) {
        let Some(vip) = self.vips.get(name) else {
            return;
        };
        let (interface, key) = (vip.spec.interface.clone(), vip.spec.sharing_key.clone());
        for address in vip.addresses.clone() {
            // Those who share agree on both.
            self.index.stock.set_key(address, key.as_ref());
            self.change(address, |of| of.interface.clone_from(&interface));
        }
    }

    pub(super) fn delete_vip(&mut self, entry: Entry, name: &Name, expect: Expect) -> Outcome {
        let vip = self.vips.get(name).ok_or_else(|| not_found("VIP", name))?;
        expected(expect, name, "VIP", Some(vip.revision))?;
        let addresses = vip.addresses.clone();
        let left = self.unit_key(name);
        self.index.put_vip(Some(vip), None);
        self.index.stock.set_waiting(vip, false);
        self.vips.remove(name);
        self.note(entry, What::VipDeleted { vip: name.clone() });
        let mut units: BTreeSet<UnitKey> = left.into_iter().collect();
        for address in addresses {
            units.extend(self.leave(entry, address, name));
        }
        self.settle_units(entry, units);
        done(entry)
    }

    /// Moves a VIP, and the group it is in, to a node that can hold all of it.
    pub(super) fn move_vip(&mut self, entry: Entry, name: &Name, to: &Name) -> Outcome {
        let key = self.unit_key(name).ok_or_else(|| not_found("VIP", name))?;
        let node = self.node_named(to).ok_or_else(|| not_found("node", to))?;
        let id = node.id;
        let mut addresses = self.unit(key).addresses;
        // Those that it shares but has not had longest belong to other units, and move all the same.
        let own = self
            .vips
            .get(name)
            .into_iter()
            .flat_map(|vip| &vip.addresses);
        let foreign: Vec<IpAddr> = own
            .filter(|own| !addresses.contains(own))
            .copied()
            .collect();
        addresses.extend(foreign);
        for address in &addresses {
            if let Err(why) = self.can_hold(node, *address) {
                return Err(Rejection::CannotHold {
                    node: to.clone(),
                    why,
                });
            }
        }
        self.nothing_goes_elsewhere(&addresses, id)?;
        self.note(
            entry,
            What::VipMoved {
                vip: name.clone(),
                to: to.clone(),
            },
        );
        for address in addresses {
            self.hand_over(entry, address, id, Cause::Moved);
        }
        done(entry)
    }

    /// Why `node` cannot hold `address`, if it cannot.
    fn can_hold(&self, node: &Node, address: IpAddr) -> Result<(), String> {
        if self.keeps(node.id, address) {
            return Ok(());
        }
        node.can_hold_any()?;
        if !node.accepts() {
            return Err("its weight is 0".into());
        }
        let named = self
            .allocations
            .get(&address)
            .and_then(|allocation| allocation.interface.as_deref());
        Err(match (node.interface_for(address, named), named) {
            (Some(_), _) => format!("no policy that selects its VIP lets it announce {address}"),
            (None, Some(interface)) => format!("it has no interface {interface} that is up"),
            (None, None) => {
                format!("it has no interface up in a subnet that contains {address}")
            }
        })
    }
}
