//! Giving and taking: carries out what was granted, and looks again at those who wait.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::Bound;

use super::ask::{Ask, Grant};
use super::stock::{Stir, Taken};
use crate::event::{Cause, What};
use crate::id::{Epoch, Revision};
use crate::name::Name;
use crate::pool::Pool;
use crate::state::unit::UnitKey;
use crate::state::{Entry, State, Topic};
use crate::vip::Allocation;

impl State {
    /// Gives the VIP what it can have now. `anew` after its own spec has changed: what it has is judged again.
    /// Returns the units that this may have unsettled.
    pub(in crate::state) fn satisfy(
        &mut self,
        entry: Entry,
        name: &Name,
        anew: bool,
    ) -> BTreeSet<UnitKey> {
        let Some(vip) = self.vips.get(name) else {
            return BTreeSet::new();
        };
        let grant = self.grant(Ask::of(vip, anew));
        self.give(entry, name, grant)
    }

    /// Gives those who wait what has become free, the oldest first.
    pub(in crate::state) fn satisfy_waiting(&mut self, entry: Entry) {
        // Once more when somebody who waited gave something back for what he got.
        loop {
            let mut stir = core::mem::take(&mut self.index.stock.stir);
            if stir.is_empty() {
                return;
            }
            let mut units = BTreeSet::new();
            let mut after = None;
            while !stir.is_empty()
                && let Some(next) = self.next_waiting(after.as_ref(), &stir)
            {
                units.extend(self.satisfy(entry, &next.1, false));
                // Who comes later has nothing to hope of what is taken again.
                let taken = |address: &IpAddr| self.allocations.contains_key(address);
                stir.freed.retain(|address| !taken(address));
                after = Some(next);
            }
            self.settle_units(entry, units);
        }
    }

    /// The next one in the queue whom the stir concerns.
    fn next_waiting(
        &self,
        after: Option<&(Revision, Name)>,
        stir: &Stir,
    ) -> Option<(Revision, Name)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut queue = self.index.stock.waiting.range((from, Bound::Unbounded));
        let concerned = |(_, name): &&(Revision, Name)| {
            let vip = self.vips.get(name);
            vip.is_some_and(|vip| stir.concerns(vip))
        };
        queue.find(concerned).cloned()
    }

    fn give(&mut self, entry: Entry, name: &Name, grant: Grant) -> BTreeSet<UnitKey> {
        let mut units = BTreeSet::new();
        let Some(vip) = self.vips.get_mut(name) else {
            return units;
        };
        let unchanged = vip.unmet == grant.unmet;
        let new: Vec<IpAddr> = grant
            .addresses
            .iter()
            .map(|(address, _)| *address)
            .collect();
        if unchanged && vip.addresses == new {
            return units;
        }
        let old = core::mem::replace(&mut vip.addresses, new);
        vip.unmet.clone_from(&grant.unmet);
        self.index.stock.set_waiting(vip, true);
        self.changed(Topic::Vip, name);
        if !unchanged {
            self.note(
                entry,
                match grant.unmet.first() {
                    Some(unmet) => What::Unmet {
                        vip: name.clone(),
                        why: unmet.why.clone(),
                    },
                    None => What::Satisfied { vip: name.clone() },
                },
            );
        }
        let kept = |address: &IpAddr| grant.addresses.iter().any(|(kept, _)| kept == address);
        for address in old.iter().filter(|address| !kept(address)) {
            units.extend(self.leave(entry, *address, name));
        }
        for (address, pool) in &grant.addresses {
            if !old.contains(address) {
                self.allocate(entry, *address, pool, name);
                units.extend(self.unit_of(*address));
            }
        }
        units
    }

    /// Gives `address` to a VIP: anew, again, or along with those that have it.
    pub(in crate::state) fn allocate(
        &mut self,
        entry: Entry,
        address: IpAddr,
        pool: &Name,
        vip: &Name,
    ) {
        let spec = self.vips.get(vip).map(|vip| &vip.spec);
        let (interface, key) = spec.map_or((None, None), |spec| {
            (spec.interface.clone(), spec.sharing_key.clone())
        });
        let Some(allocation) = self.allocations.get(&address) else {
            self.warm(address);
            self.index.stock.take(address);
            self.index.stock.count(address, pool);
            let allocation = Allocation {
                vip: vip.clone(),
                pool: pool.clone(),
                since: entry.at,
                interface,
                holder: None,
                epoch: Epoch(entry.revision.0),
                held_since: entry.at,
                vacating: None,
                next: None,
                freeing: false,
                home: None,
                sharers: Vec::new(),
            };
            self.allocations.insert(address, allocation);
            self.journal.at(address);
            self.changed(Topic::Pool, pool);
            self.changed_pools(address);
            self.index.stock.set_key(address, key.as_ref());
            // Others that wait may share it.
            self.index.stock.stir.keys.extend(key);
            let vip = vip.clone();
            return self.note(entry, What::Allocated { address, vip });
        };
        if allocation.freeing {
            self.rehome(address, pool);
            let bound = self.is_bound(&address);
            self.change(address, |allocation| {
                allocation.interface = interface;
                if !bound {
                    allocation.take_back(entry.revision, entry.at);
                }
                allocation.freeing = false;
            });
            self.index.stock.set_late(address, vip, false);
            return self.index.stock.set_key(address, key.as_ref());
        }
        self.change(address, |allocation| allocation.sharers.push(vip.clone()));
        let vip = vip.clone();
        self.note(entry, What::Shared { address, vip });
    }

    /// Has an allocation belong to another pool.
    pub(in crate::state) fn rehome(&mut self, address: IpAddr, pool: &Name) {
        if let Some(allocation) = self.allocations.get_mut(&address) {
            let old = core::mem::replace(&mut allocation.pool, pool.clone());
            self.index.stock.discount(address, &old);
            self.index.stock.count(address, pool);
            self.changed(Topic::Pool, &old);
            self.changed_at(address);
        }
    }

    /// Takes `address` from a VIP: from it alone if others share it, else at once if nobody holds it, else as soon as
    /// its holder has let go, or the one that it is on its way to.
    pub(in crate::state) fn leave(
        &mut self,
        entry: Entry,
        address: IpAddr,
        vip: &Name,
    ) -> Option<UnitKey> {
        let allocation = self.allocations.get(&address)?;
        if !allocation.sharers.is_empty() {
            self.change(address, |allocation| {
                if allocation.vip == *vip {
                    allocation.vip = allocation.sharers.remove(0);
                } else {
                    allocation.sharers.retain(|sharer| sharer != vip);
                }
            });
            let key = self.index.stock.key(address).cloned();
            self.index.stock.stir.keys.extend(key);
            let vip = vip.clone();
            self.note(entry, What::Unshared { address, vip });
            return self.unit_of(address);
        }
        let (held, bound) = (allocation.holder.is_some(), self.is_bound(&address));
        self.index.stock.set_key(address, None);
        self.index.stock.set_late(address, vip, true);
        self.change(address, |allocation| {
            allocation.freeing = true;
            if !bound {
                allocation.retarget(None, entry.revision);
                allocation.vacating = Some(Cause::Freed).filter(|_| held);
            }
        });
        if !held {
            self.drop_allocation(entry, address);
        }
        None
    }

    /// Takes an address from a VIP that would have kept it.
    pub(in crate::state) fn lose(
        &mut self,
        entry: Entry,
        address: IpAddr,
        name: &Name,
    ) -> Option<UnitKey> {
        if let Some(vip) = self.vips.get_mut(name) {
            vip.addresses.retain(|has| *has != address);
            self.changed(Topic::Vip, name);
        }
        self.leave(entry, address, name)
    }

    pub(in crate::state) fn drop_allocation(&mut self, entry: Entry, address: IpAddr) {
        self.change(address, |allocation| {
            allocation.holder = None;
            allocation.vacating = None;
        });
        let Some(Allocation { pool, vip, .. }) = self.allocations.remove(&address) else {
            return;
        };
        self.index.stock.set_late(address, &vip, false);
        self.index.stock.discount(address, &pool);
        self.journal.at(address);
        self.changed(Topic::Pool, &pool);
        if !self.cool(entry, address, &pool, &vip) {
            self.restock(address);
        }
        self.note(entry, What::Freed { address, vip });
    }

    /// Whoever offers the address may hand it out again, unless somebody has it.
    pub(super) fn restock(&mut self, address: IpAddr) {
        let taken = self.allocations.contains_key(&address)
            || self.cooling.contains_key(&address)
            || self.index.hosts.contains_key(&address);
        if !taken {
            self.index.stock.put_back(address, &self.pools);
        }
        self.changed_pools(address);
    }

    /// Works out anew what a pool could hand out.
    pub(in crate::state) fn refill(&mut self, pool: &Pool) {
        let taken = Taken {
            allocations: &self.allocations,
            cooling: &self.cooling,
            hosts: &self.index.hosts,
        };
        self.index.stock.refill(pool, &taken);
    }

    /// Follows a change of the addresses that hosts have themselves: no VIP is given those.
    pub(in crate::state) fn follow_hosts(&mut self) {
        let old = self.index.set_hosts(&self.nodes);
        if old.keys().eq(self.index.hosts.keys()) {
            return;
        }
        let new: Vec<IpAddr> = self.index.hosts.keys().copied().collect();
        for address in new.iter().filter(|address| !old.contains_key(*address)) {
            self.index.stock.take(*address);
            self.changed_pools(*address);
        }
        for address in old.into_keys() {
            self.restock(address);
        }
    }

    /// The unit that an address belongs to: that of the VIP that has had it longest.
    fn unit_of(&self, address: IpAddr) -> Option<UnitKey> {
        self.unit_key(&self.allocations.get(&address)?.vip)
    }
}
