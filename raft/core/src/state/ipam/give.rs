//! Giving and taking: carries out what was granted, and looks again at those who wait.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::Bound;

use super::ask::{Ask, Grant};
use super::stock::{Stir, Taken};
use crate::event::{Cause, What};
use crate::few::Few;
use crate::id::{Epoch, Revision};
use crate::name::Name;
use crate::pool::Pool;
use crate::proof::Proof;
use crate::state::index::{Whereabouts, unproven};
use crate::state::unit::{UnitKey, Units};
use crate::state::{Entry, State, Topic};
use crate::time::Millis;
use crate::vip::{Allocation, Unmet, Vip};

/// What a VIP was given, as against what it had.
pub(in crate::state) struct Gift {
    had: Few<IpAddr>,
    grant: Grant,
    /// Whether what it waits for has changed.
    news: bool,
}

impl Gift {
    /// Writes what was granted into the VIP.
    fn to(vip: &mut Vip, grant: Grant, at: Millis) -> Self {
        let has = grant.addresses.iter().map(|(address, _)| *address);
        let had = core::mem::replace(&mut vip.addresses, has.collect());
        let news = vip.unmet != grant.unmet;
        if news {
            vip.unmet.clone_from(&grant.unmet);
        }
        let lacks = !vip.satisfied();
        vip.unsatisfied_since = lacks.then(|| vip.unsatisfied_since.unwrap_or(at));
        Self { had, grant, news }
    }
}

impl State {
    /// Writes into a VIP whose spec is new what it can have now: what it has is judged again. Whoever calls that puts
    /// the VIP into the state and then has [`State::give`] carry it out.
    pub(in crate::state) fn judge_anew(&self, entry: Entry, vip: &mut Vip) -> Gift {
        let grant = self.grant(Ask::of(vip, true));
        Gift::to(vip, grant, entry.at)
    }

    /// Gives the VIP what it lacks, as far as it can have that now. Adds the units that this may have unsettled.
    pub(in crate::state) fn satisfy(&mut self, entry: Entry, name: &Name, units: &mut Units) {
        self.satisfy_beyond(entry, name, None, units);
    }

    /// The same for a VIP that has `lost` an address of a pool to somebody outside.
    pub(super) fn satisfy_beyond(
        &mut self,
        entry: Entry,
        name: &Name,
        lost: Option<(IpAddr, &Name)>,
        units: &mut Units,
    ) {
        let Some(vip) = self.vips.get(name) else {
            return;
        };
        let grant = self.grant(Ask::of(vip, false).beyond(lost));
        let given = grant.addresses.iter().map(|(address, _)| address);
        let same = vip.unmet == grant.unmet && vip.addresses.iter().eq(given);
        // A restore may have changed its spec, by which the same is enough now, or no longer.
        if same && vip.satisfied() == vip.unsatisfied_since.is_none() {
            return;
        }
        if let Some(shared) = self.vips.get_mut(name) {
            let gift = Gift::to(Arc::make_mut(shared), grant, entry.at);
            let vip = Arc::clone(shared);
            self.changed_serving(name);
            self.give(entry, &vip, &gift, units);
        }
    }

    /// How many VIPs wait for an address that they need.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let queue = self.index.stock.waiting.iter();
        let vips = queue.filter_map(|(_, name)| self.vips.get(name));
        vips.filter(|vip| !vip.satisfied()).count()
    }

    /// Gives those who wait what has become free, the oldest first.
    pub(in crate::state) fn satisfy_waiting(&mut self, entry: Entry) {
        // Once more when somebody who waited gave something back for what he got.
        loop {
            if self.index.stock.waiting.is_empty() {
                return self.index.stock.stir.clear();
            }
            let mut stir = core::mem::take(&mut self.index.stock.stir);
            if stir.is_empty() {
                return;
            }
            let mut units = Units::default();
            let mut after = None;
            while !stir.is_empty()
                && let Some(next) = self.next_waiting(after.as_ref(), &stir)
            {
                self.satisfy(entry, &next.1, &mut units);
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

    /// Carries out what a VIP was given, whose change is noted already. Adds the units that this may have unsettled.
    pub(in crate::state) fn give(
        &mut self,
        entry: Entry,
        vip: &Vip,
        gift: &Gift,
        units: &mut Units,
    ) {
        if gift.news {
            self.index.stock.set_waiting(vip, true);
            let name = || vip.name.clone();
            self.note(
                entry,
                match vip.unmet.first() {
                    Some(Unmet { why, .. }) => What::Unmet {
                        vip: name(),
                        why: why.clone(),
                    },
                    None => What::Satisfied { vip: name() },
                },
            );
        }
        for address in &gift.had {
            if !vip.addresses.contains(address) {
                units.extend(self.leave(entry, *address, &vip.name));
            }
        }
        for (address, pool) in &gift.grant.addresses {
            if !gift.had.contains(address) {
                units.add(self.allocate(entry, *address, pool, vip));
            }
        }
    }

    /// Gives `address` to a VIP: anew, again, or along with those that have it. Returns the unit that the address
    /// belongs to: that of the VIP that has had it longest.
    pub(in crate::state) fn allocate(
        &mut self,
        entry: Entry,
        address: IpAddr,
        pool: &Name,
        vip: &Vip,
    ) -> UnitKey {
        // Only who may reclaim it is given an address that cools down, unless that was set aside.
        let rested = self.cooling.get(&address);
        let came_back = rested.is_some_and(|it| it.vip == vip.name && it.in_use.is_none());
        let fresh = || Arc::new(fresh(entry, pool, vip, came_back));
        if !self.allocations.insert_new(address, fresh) {
            return self.allocate_more(entry, address, pool, vip);
        }
        self.warm(address);
        self.index.stock.take(address);
        self.index.stock.count(address, pool);
        self.journal.at(address);
        self.changed_pools(address);
        let key = vip.spec.sharing_key.as_ref();
        self.index.stock.set_key(address, key);
        // Others that wait may share it.
        self.index.stock.stir.keys.extend(key.cloned());
        let name = vip.name.clone();
        self.note(entry, What::Allocated { address, vip: name });
        UnitKey::of(vip)
    }

    /// Gives an address to a VIP that is allocated: to the VIP itself, which gave it up and is not rid of it yet, or to others.
    fn allocate_more(&mut self, entry: Entry, address: IpAddr, pool: &Name, vip: &Vip) -> UnitKey {
        let Some(allocation) = self.allocations.get(&address) else {
            return UnitKey::of(vip);
        };
        if allocation.freeing {
            let bound = self.bound_for(allocation).is_some();
            self.rehome(address, pool);
            self.change(address, |allocation| {
                allocation.interface.clone_from(&vip.spec.interface);
                if !bound {
                    allocation.take_back(entry.revision, entry.at);
                }
                allocation.freeing = false;
            });
            let key = vip.spec.sharing_key.as_ref();
            self.index.stock.set_late(address, &vip.name, false);
            self.index.stock.set_aside(address, None);
            self.index.stock.set_key(address, key);
            return UnitKey::of(vip);
        }
        let unit = self.unit_key(&allocation.vip);
        let name = || vip.name.clone();
        self.change(address, |allocation| allocation.sharers.push(name()));
        self.note(
            entry,
            What::Shared {
                address,
                vip: name(),
            },
        );
        unit.unwrap_or_else(|| UnitKey::of(vip))
    }

    /// Has an allocation belong to another pool.
    pub(in crate::state) fn rehome(&mut self, address: IpAddr, pool: &Name) {
        let mut was = None;
        self.change(address, |of| {
            was = Some(core::mem::replace(&mut of.pool, pool.clone()));
        });
        if let Some(old) = was {
            self.index.stock.discount(address, &old);
            self.index.stock.count(address, pool);
            self.changed(Topic::Pool, &old);
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
        self.index.stock.set_key(address, None);
        if allocation.holder.is_none() {
            self.drop_allocation(entry, address);
            return None;
        }
        let bound = self.bound_for(allocation).is_some();
        let aside = allocation.kept_out_by().map(|_| &allocation.pool);
        self.index.stock.set_aside(address, aside);
        self.index.stock.set_late(address, vip, true);
        self.change(address, |allocation| {
            allocation.freeing = true;
            if !bound {
                allocation.retarget(None, entry.revision);
                allocation.vacating = Some(Cause::Freed);
            }
        });
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
            Arc::make_mut(vip).addresses.retain(|has| *has != address);
            self.changed_serving(name);
        }
        self.leave(entry, address, name)
    }

    /// Frees an address that nobody can be announcing any more.
    pub(in crate::state) fn drop_allocation(&mut self, entry: Entry, address: IpAddr) {
        let Some(of) = self.allocations.remove(&address) else {
            return;
        };
        let (was, gone) = (Whereabouts::of(&of), Whereabouts::default());
        self.index.changed(address, was, gone);
        self.index.set_away(address, of.home, None);
        if of.freeing {
            self.index.stock.set_late(address, &of.vip, false);
            self.index.stock.set_aside(address, None);
        }
        self.index.set_unproven(address, unproven(&of), false);
        self.index.stock.discount(address, &of.pool);
        self.journal.at(address);
        self.changed(Topic::Pool, &of.pool);
        if let Some(holder) = of.holder {
            self.changed_node(holder);
        }
        if !self.cool(entry, address, &of) {
            self.restock(address);
        }
        let vip = of.vip.clone();
        self.note(entry, What::Freed { address, vip });
    }

    /// Whoever offers the address may hand it out again, unless somebody has it.
    pub(super) fn restock(&mut self, address: IpAddr) {
        let taken = self.allocations.contains_key(&address)
            || self.cooling.contains_key(&address)
            || self.index.hosts.contains_key(&address);
        if !taken {
            self.index.stock.put_back(address);
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

/// An address of this VIP that nobody holds, and of which nobody has asked who else has it.
fn fresh(entry: Entry, pool: &Name, vip: &Vip, came_back: bool) -> Allocation {
    Allocation {
        vip: vip.name.clone(),
        pool: pool.clone(),
        since: entry.at,
        interface: vip.spec.interface.clone(),
        holder: None,
        epoch: Epoch(entry.revision.0),
        held_since: entry.at,
        vacating: None,
        next: None,
        freeing: false,
        home: None,
        sharers: Vec::new(),
        proof: Proof::Unproven,
        came_back,
    }
}
