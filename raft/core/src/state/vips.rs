//! VIPs: made, replaced, deleted, moved; and the allocation of their addresses.

use alloc::collections::btree_map::Entry as Slot;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::size;
use super::unit::{UnitKey, Units};
use super::{Entry, State, Topic, done, expected, not_found, put};
use crate::command::{Applied, Expect, Outcome};
use crate::event::{Cause, What};
use crate::few::Few;
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
            && *old.spec == *spec
            && old.labels == *labels
        {
            return Ok(Applied::Done {
                revision: old.revision,
            });
        }
        size::check_labels("VIP", name, labels)?;
        let (shared, weight) = self.specs.admit(name, spec)?;
        self.check_backends(name, spec)?;
        let had = old.as_ref().map(|old| self.weight_of(old));
        let has = size::of_vip(name, labels, weight);
        // What it has now may have to cool down, and what it gets instead comes on top.
        let late = old
            .as_ref()
            .map_or(0, |old| size::of_late(old.addresses.len()));
        let mut vip = Vip {
            name: name.clone(),
            labels: labels.clone(),
            spec: shared,
            addresses: Few::default(),
            created: entry.at,
            generation: 1,
            revision: entry.revision,
            born: self.born(entry),
            unmet: Vec::new(),
            unsatisfied_since: None,
        };
        if let Some(old) = &old {
            vip.addresses.clone_from(&old.addresses);
            vip.unmet.clone_from(&old.unmet);
            vip.unsatisfied_since = old.unsatisfied_since;
            vip.created = old.created;
            vip.generation = old.generation + u64::from(*old.spec != *spec);
            vip.born = old.born;
        }
        self.has_room(had.unwrap_or(0), has + late)?;
        self.index.weigh(had, Some(has));
        match &old {
            Some(old) => self.forget_sight(old, Some(spec)),
            None => self.made(Topic::Vip, name),
        }
        let gift = self.judge_anew(entry, &mut vip);
        let vip = Arc::new(vip);
        self.vips.insert(name.clone(), Arc::clone(&vip));
        self.index.put_vip(old.as_deref(), Some(&vip));
        self.note(entry, What::VipPut { vip: name.clone() });
        // The group it leaves may now fit where it did not.
        let mut units: Units = old.iter().map(|old| UnitKey::of(old)).collect();
        self.give(entry, &vip, &gift, &mut units);
        if let Some(old) = &old {
            self.follow_spec(&vip, &old.addresses);
        }
        units.add(UnitKey::of(&vip));
        match units {
            // Mostly it is the only one.
            Units::One(UnitKey::Vip(_)) => self.settle_alone(entry, &vip),
            units => self.settle_units(entry, units),
        }
        // Others may share what it claims no more, or what it shares now.
        let old_key = old.as_ref().and_then(|old| old.spec.sharing_key.as_ref());
        let keys = old_key.into_iter().chain(&spec.sharing_key);
        self.index.stock.stir.keys.extend(keys.cloned());
        put(entry, old.is_none())
    }

    /// Has those addresses of a VIP that it had before follow what its spec says of them now.
    pub(super) fn follow_spec(&mut self, vip: &Vip, had: &[IpAddr]) {
        let (interface, key) = (&vip.spec.interface, vip.spec.sharing_key.as_ref());
        for address in vip.addresses.iter().filter(|address| had.contains(address)) {
            // Those who share agree on both.
            self.index.stock.set_key(*address, key);
            self.change(*address, |of| of.interface.clone_from(interface));
        }
    }

    pub(super) fn delete_vip(&mut self, entry: Entry, name: &Name, expect: Expect) -> Outcome {
        let Slot::Occupied(slot) = self.vips.entry(name.clone()) else {
            return Err(not_found("VIP", name));
        };
        expected(expect, name, "VIP", Some(slot.get().revision))?;
        let vip = slot.remove();
        self.index.weigh(Some(self.weight_of(&vip)), None);
        self.forget_sight(&vip, None);
        self.index.put_vip(Some(&vip), None);
        self.index.stock.set_waiting(&vip, false);
        self.note(entry, What::VipDeleted { vip: name.clone() });
        // The group it leaves may now fit where it did not.
        let group = vip.spec.group.clone().map(UnitKey::Group);
        let mut units: Units = group.into_iter().collect();
        for address in &vip.addresses {
            units.extend(self.leave(entry, *address, name));
        }
        self.settle_units(entry, units);
        done(entry)
    }

    fn weight_of(&self, vip: &Vip) -> u64 {
        size::of_vip(&vip.name, &vip.labels, self.specs.weight(&vip.spec))
    }

    /// Moves a VIP, and the group it is in, to a node that can hold all of it.
    pub(super) fn move_vip(&mut self, entry: Entry, name: &Name, to: &Name) -> Outcome {
        let key = self.unit_key(name).ok_or_else(|| not_found("VIP", name))?;
        let node = self.node_named(to).ok_or_else(|| not_found("node", to))?;
        let id = node.id;
        let unit = self.unit(key).given.into_iter();
        let mut addresses: Vec<IpAddr> = unit.map(|given| given.address).collect();
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
        self.sees_as_much(&addresses, id, to)?;
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
        let given = self.given(address);
        if given.is_some_and(|given| self.keeps(node.id, given)) {
            return Ok(());
        }
        node.can_hold_any()?;
        if !node.accepts() {
            return Err("its weight is 0".into());
        }
        let named = given.and_then(|given| given.of.interface.as_deref());
        let served = given.is_none_or(|given| self.has_backends(node, address, given.of));
        Err(match (node.interface_for(address, named), named) {
            (Some(_), _) if !served => {
                "its traffic policy is local, and none of its backends is there".into()
            }
            (Some(_), _) => format!("no policy that selects its VIP lets it announce {address}"),
            (None, Some(interface)) => format!("it has no interface {interface} that is up"),
            (None, None) => {
                format!("it has no interface up in a subnet that contains {address}")
            }
        })
    }
}
