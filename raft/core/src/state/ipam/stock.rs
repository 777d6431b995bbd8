//! The stock: what is free, by pool, and what else is derived from the state to allocate quickly. Nothing in here costs
//! memory for each address of a pool, and no search goes over addresses that are taken.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::clash::{Clash, clashes};
use super::cooling::Cooling;
use crate::block::{Family, number};
use crate::by_address::ByAddress;
use crate::id::Revision;
use crate::name::Name;
use crate::pool::Pool;
use crate::range_set::RangeSet;
use crate::time::Millis;
use crate::vip::{Allocation, Vip};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::state) struct Stock {
    /// Pools as they are tried: by priority, those with a selector first, by name.
    pub(super) order: BTreeSet<(i32, bool, Name)>,
    /// What each pool could hand out now: offered, not allocated, not cooling down, no host's own. By [`slot`].
    free: BTreeMap<Name, [RangeSet; 2]>,
    /// Allocations of each pool that has any. By [`slot`].
    used: BTreeMap<Name, [u64; 2]>,
    /// All blocks by their first address; of several with the same one, those of pools that come first by name last.
    blocks: Vec<Shelf>,
    /// Pools that hand out nothing, since they overlap others.
    pub(super) clashes: BTreeMap<Name, Clash>,
    /// The addresses of VIPs with each sharing key.
    pub(super) shared: BTreeMap<String, BTreeSet<IpAddr>>,
    /// The same the other way round.
    keys: BTreeMap<IpAddr, String>,
    /// VIPs that wait for something, the oldest first.
    pub(super) waiting: BTreeSet<(Revision, Name)>,
    /// Addresses that cool down, by when that ends.
    pub(super) ripe: BTreeSet<(Millis, IpAddr)>,
    /// Addresses that a VIP had and that nobody else has yet: their holders have not let go, or they cool down.
    pub(super) late: BTreeMap<Name, BTreeSet<IpAddr>>,
    /// How many those are.
    late_addresses: usize,
    /// Those of them that somebody outside has, with the pool that they came from: see [`super::aside`].
    aside: BTreeMap<IpAddr, Name>,
    /// What has changed that those who wait may profit from. Empty between entries.
    pub(in crate::state) stir: Stir,
}

/// A block of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shelf {
    pool: Name,
    /// Its first address.
    start: IpAddr,
    /// Its last address.
    stop: IpAddr,
    /// The first and the last address that the pool hands out.
    usable: (u128, u128),
}

/// Where what is of a family is in an array of two.
fn slot(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

/// What those who wait may profit from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::state) struct Stir {
    /// The pools have changed: everybody may.
    pub(super) pools: bool,
    /// These addresses have become free.
    pub(super) freed: Vec<IpAddr>,
    /// VIPs with these sharing keys have changed or are gone.
    pub(in crate::state) keys: BTreeSet<String>,
}

impl Stir {
    /// Forgets all, and keeps the memory for the next entry.
    pub(super) fn clear(&mut self) {
        self.pools = false;
        self.freed.clear();
        self.keys.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.pools && self.freed.is_empty() && self.keys.is_empty()
    }

    /// Whether this VIP may profit.
    pub(super) fn concerns(&self, vip: &Vip) -> bool {
        let wants = |address: &IpAddr| {
            let asked = &vip.spec.addresses;
            let family = || vip.spec.families.wanted().contains(&Family::of(*address));
            asked.contains(address) || (asked.is_empty() && family())
        };
        let key = vip.spec.sharing_key.as_ref();
        self.pools || key.is_some_and(|key| self.keys.contains(key)) || self.freed.iter().any(wants)
    }
}

impl Stock {
    /// Why a pool hands out nothing, if it overlaps another.
    pub(in crate::state) fn clash(&self, pool: &Name) -> Option<&Clash> {
        self.clashes.get(pool)
    }

    /// Allocations of a pool.
    pub(in crate::state) fn used(&self, pool: &Name, family: Family) -> u128 {
        let used = self.used.get(pool);
        used.map_or(0, |used| u128::from(used[slot(family)]))
    }

    /// How many addresses a pool could hand out now; `None` when more than `u128` counts.
    pub(in crate::state) fn available(&self, pool: &Name, family: Family) -> Option<u128> {
        let free = self.free.get(pool);
        free.map_or(Some(0), |free| free[slot(family)].len())
    }

    /// The lowest address that a pool could hand out.
    pub(super) fn first_free(&self, pool: &Name, family: Family) -> Option<IpAddr> {
        let free = &self.free.get(pool)?[slot(family)];
        Some(family.address(free.first()?))
    }

    /// The lowest one of them beyond `address`, of its family.
    pub(super) fn first_free_beyond(&self, pool: &Name, address: IpAddr) -> Option<IpAddr> {
        let family = Family::of(address);
        let free = &self.free.get(pool)?[slot(family)];
        Some(family.address(free.first_from(number(address).checked_add(1)?)?))
    }

    /// Whether some pool could hand this very address out.
    pub(super) fn is_free(&self, pool: &Name, address: IpAddr) -> bool {
        let free = self.free.get(pool);
        free.is_some_and(|free| free[slot(Family::of(address))].contains(number(address)))
    }

    /// The pools with a block that contains `address`; more than one only while pools clash.
    pub(in crate::state) fn pools_with(&self, address: IpAddr) -> impl Iterator<Item = &Name> {
        shelves_with(&self.blocks, &self.clashes, address).map(|shelf| &shelf.pool)
    }

    /// Follows a change of the pools.
    pub(in crate::state) fn set_pools(&mut self, pools: &BTreeMap<Name, Pool>) {
        self.clashes = clashes(pools);
        self.blocks.clear();
        self.order.clear();
        for pool in pools.values() {
            let general = pool.spec.selector.is_none();
            let place = (pool.spec.priority, general, pool.name.clone());
            self.order.insert(place);
            for block in &pool.spec.blocks {
                self.blocks.push(Shelf {
                    pool: pool.name.clone(),
                    start: block.start(),
                    stop: block.stop(),
                    usable: block.usable(pool.spec.allow_first_last),
                });
            }
        }
        // They are looked through backwards.
        self.blocks.reverse();
        self.blocks.sort_by_key(|shelf| shelf.start);
        self.free.retain(|pool, _| pools.contains_key(pool));
        self.stir.pools = true;
    }

    /// Works out anew what a pool could hand out.
    pub(in crate::state) fn refill(&mut self, pool: &Pool, taken: &Taken<'_>) {
        let free = self.free.entry(pool.name.clone()).or_default();
        *free = Default::default();
        for block in &pool.spec.blocks {
            let (first, last) = block.usable(pool.spec.allow_first_last);
            free[slot(block.family())].insert_missing(first, last);
        }
        for block in &pool.spec.blocks {
            for address in taken.within(block.start(), block.stop()) {
                free[slot(block.family())].remove(number(address));
            }
        }
    }

    /// Nobody is given the address any more.
    pub(in crate::state) fn take(&mut self, address: IpAddr) {
        for shelf in shelves_with(&self.blocks, &self.clashes, address) {
            if let Some(free) = self.free.get_mut(&shelf.pool) {
                free[slot(Family::of(address))].remove(number(address));
            }
        }
    }

    /// Whoever offers the address may hand it out again.
    pub(in crate::state) fn put_back(&mut self, address: IpAddr) {
        let n = number(address);
        let shelves = shelves_with(&self.blocks, &self.clashes, address);
        for shelf in shelves.filter(|shelf| (shelf.usable.0..=shelf.usable.1).contains(&n)) {
            if let Some(free) = self.free.get_mut(&shelf.pool) {
                free[slot(Family::of(address))].insert_missing(n, n);
            }
        }
        self.stir.freed.push(address);
    }

    /// Counts an allocation of a pool.
    pub(in crate::state) fn count(&mut self, address: IpAddr, pool: &Name) {
        let used = match self.used.get_mut(pool) {
            Some(used) => used,
            None => self.used.entry(pool.clone()).or_default(),
        };
        used[slot(Family::of(address))] += 1;
    }

    /// Counts it no more.
    pub(in crate::state) fn discount(&mut self, address: IpAddr, pool: &Name) {
        let Some(used) = self.used.get_mut(pool) else {
            return;
        };
        used[slot(Family::of(address))] -= 1;
        if *used == [0, 0] {
            self.used.remove(pool);
        }
    }

    /// Follows a change of a VIP's unmet wishes.
    pub(in crate::state) fn set_waiting(&mut self, vip: &Vip, exists: bool) {
        let place = (vip.born, vip.name.clone());
        if exists && !vip.unmet.is_empty() {
            self.waiting.insert(place);
        } else {
            self.waiting.remove(&place);
        }
    }

    /// Follows the begin or end of an address's cooling down.
    pub(in crate::state) fn set_cooling(&mut self, address: IpAddr, cooling: &Cooling, is: bool) {
        self.set_late(address, &cooling.vip, is);
        let aside = is && cooling.in_use.is_some();
        self.set_aside(address, aside.then_some(&cooling.pool));
        if is {
            self.ripe.insert((cooling.until, address));
        } else {
            self.ripe.remove(&(cooling.until, address));
        }
    }

    /// Notes whether this VIP had the address and nobody else has it yet.
    pub(in crate::state) fn set_late(&mut self, address: IpAddr, vip: &Name, is: bool) {
        if is {
            let of = self.late.entry(vip.clone()).or_default();
            self.late_addresses += usize::from(of.insert(address));
        } else if let Some(of) = self.late.get_mut(vip) {
            self.late_addresses -= usize::from(of.remove(&address));
            if of.is_empty() {
                self.late.remove(vip);
            }
        }
    }

    /// Notes whether somebody outside has an address that a VIP had, and the pool that it came from.
    pub(in crate::state) fn set_aside(&mut self, address: IpAddr, pool: Option<&Name>) {
        match pool {
            Some(pool) => drop(self.aside.insert(address, pool.clone())),
            None => drop(self.aside.remove(&address)),
        }
    }

    /// Whether the address is one of those.
    pub(super) fn is_aside(&self, address: IpAddr) -> bool {
        self.aside.contains_key(&address)
    }

    /// Those of a pool.
    pub(super) fn aside_of(&self, pool: &Name) -> impl Iterator<Item = IpAddr> {
        let of_pool = self.aside.iter().filter(move |(_, of)| *of == pool);
        of_pool.map(|(address, _)| *address)
    }

    /// How many addresses VIPs had that nobody else has yet.
    pub(in crate::state) fn late_addresses(&self) -> usize {
        self.late_addresses
    }

    /// The sharing key that an address is filed under.
    pub(super) fn key(&self, address: IpAddr) -> Option<&String> {
        self.keys.get(&address)
    }

    /// Files an address under the sharing key of the VIPs that have it.
    pub(in crate::state) fn set_key(&mut self, address: IpAddr, key: Option<&String>) {
        let old = match key {
            Some(key) => self.keys.insert(address, key.clone()),
            None => self.keys.remove(&address),
        };
        if old.as_ref() == key {
            return;
        }
        if let Some(old) = old
            && let Some(shared) = self.shared.get_mut(&old)
        {
            shared.remove(&address);
            if shared.is_empty() {
                self.shared.remove(&old);
            }
        }
        if let Some(key) = key {
            self.shared.entry(key.clone()).or_default().insert(address);
        }
    }
}

/// The blocks that contain `address`; more than one only while pools clash.
fn shelves_with<'a>(
    blocks: &'a [Shelf],
    clashes: &BTreeMap<Name, Clash>,
    address: IpAddr,
) -> impl Iterator<Item = &'a Shelf> + use<'a> {
    // Without clashes the blocks are disjoint, and the last that begins before it is the only one that may.
    let most = if clashes.is_empty() { 1 } else { usize::MAX };
    let begun = blocks.partition_point(|shelf| shelf.start <= address);
    let begun = blocks[..begun].iter().rev().take(most);
    begun
        .filter(move |shelf| shelf.stop >= address && Family::of(shelf.stop) == Family::of(address))
}

/// What nobody can be given.
pub(in crate::state) struct Taken<'a> {
    pub(in crate::state) allocations: &'a ByAddress<Arc<Allocation>>,
    pub(in crate::state) cooling: &'a BTreeMap<IpAddr, Cooling>,
    pub(in crate::state) hosts: &'a BTreeMap<IpAddr, crate::id::NodeId>,
}

impl Taken<'_> {
    fn within(&self, start: IpAddr, stop: IpAddr) -> impl Iterator<Item = IpAddr> {
        let allocated = self.allocations.within(start, stop);
        let cooling = self.cooling.range(start..=stop).map(|(a, _)| *a);
        let hosts = self.hosts.range(start..=stop).map(|(a, _)| *a);
        allocated.chain(cooling).chain(hosts)
    }
}
