//! What is promised about addresses, as plain lists that are looked at one by one; no index.

use super::super::services::servable;
use super::super::*;
use super::rules::{APool, families, is_of, share};

#[derive(Clone)]
pub(super) struct AVip {
    pub(super) name: Name,
    pub(super) labels: Labels,
    pub(super) spec: VipSpec,
    pub(super) has: Vec<IpAddr>,
    /// For each wish, in order, why it is not met.
    pub(super) unmet: Vec<&'static str>,
}

/// An address that somebody has.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) address: IpAddr,
    pub(super) pool: Name,
    pub(super) vips: Vec<Name>,
}

pub(super) struct Cooling {
    pub(super) address: IpAddr,
    pub(super) pool: Name,
    vip: Name,
    pub(super) until: u64,
}

/// All that is promised. The oldest pool and the oldest VIP come first.
#[derive(Default)]
pub(super) struct Model {
    pub(super) pools: Vec<APool>,
    pub(super) vips: Vec<AVip>,
    pub(super) given: Vec<Given>,
    pub(super) cooling: Vec<Cooling>,
    /// Why the wishes of the VIP that was put last were not met, before others were given what it gave back.
    pub(super) at_first: Vec<&'static str>,
}

type Judged = Result<Name, &'static str>;

impl Model {
    fn pool(&self, name: &Name) -> Option<&APool> {
        self.pools.iter().find(|pool| pool.name == *name)
    }

    pub(super) fn vip(&self, name: &Name) -> &AVip {
        self.vips.iter().find(|vip| vip.name == *name).unwrap()
    }

    pub(super) fn given(&self, address: IpAddr) -> Option<&Given> {
        self.given.iter().find(|given| given.address == address)
    }

    /// Younger than a pool it overlaps, or overlapping itself.
    fn conflicts(&self, pool: &APool) -> bool {
        let mut older = self.pools.iter().take_while(|it| it.name != pool.name);
        pool.overlaps_itself || older.any(|it| it.overlaps(pool))
    }

    fn open(&self, pool: &APool, vip: &AVip) -> Result<(), &'static str> {
        if !pool.selects(vip) {
            Err("pool_selector_mismatch")
        } else if pool.spec.disabled {
            Err("pool_disabled")
        } else if self.conflicts(pool) {
            Err("pool_conflicting")
        } else {
            Ok(())
        }
    }

    /// Why the VIP may not have an address along with those that have it.
    fn sharing(&self, vip: &AVip, given: &Given) -> Result<(), &'static str> {
        for other in given.vips.iter().filter(|other| **other != vip.name) {
            if let Err(rule) = share(&vip.spec, &self.vip(other).spec) {
                let keyless = vip.spec.sharing_key.is_none();
                return Err(if keyless { "already_allocated" } else { rule });
            }
        }
        Ok(())
    }

    fn keeps(&self, vip: &AVip, given: &Given, anew: bool) -> bool {
        if !anew {
            return true;
        }
        let named = vip.spec.pool.as_ref();
        named.is_none_or(|named| *named == given.pool)
            && self.pool(&given.pool).unwrap().selects(vip)
            && self.sharing(vip, given).is_ok()
    }

    /// Whether the VIP can have this very address, and from which pool.
    fn judge(&self, vip: &AVip, address: IpAddr, anew: bool) -> Judged {
        let given = self.given(address);
        if let Some(given) = given.filter(|given| given.vips.contains(&vip.name))
            && self.keeps(vip, given, anew)
        {
            return Ok(given.pool.clone());
        }
        let named = vip.spec.pool.as_ref();
        let has =
            |pool: &&APool| pool.has(address) && named.is_none_or(|named| *named == pool.name);
        let having: Vec<&APool> = self.pools.iter().filter(has).collect();
        if having.is_empty() {
            return Err("not_in_any_pool");
        }
        let Some(pool) = having.iter().find(|pool| self.open(pool, vip).is_ok()) else {
            let shut = having.iter().map(|pool| self.open(pool, vip).unwrap_err());
            return Err(weightiest(shut.collect()).unwrap());
        };
        if let Some(given) = given {
            return self.sharing(vip, given).map(|()| given.pool.clone());
        }
        if let Some(cooling) = self.cooling.iter().find(|it| it.address == address) {
            let own = pool.spec.reclaim && cooling.vip == vip.name;
            return if own {
                Ok(pool.name.clone())
            } else {
                Err("cooling_down")
            };
        }
        if pool.offers.contains(&address) {
            Ok(pool.name.clone())
        } else {
            Err("reserved")
        }
    }

    fn choose(&self, vip: &AVip, family: Family) -> Result<(IpAddr, Name), &'static str> {
        let named = vip.spec.pool.as_ref();
        let may = |pool: &APool| match named {
            Some(named) => *named == pool.name,
            None => pool.spec.auto_assign,
        };
        // One that it may share.
        let mut given: Vec<&Given> = self.given.iter().collect();
        given.sort_by_key(|given| given.address);
        for given in given {
            let alike = vip.spec.sharing_key.is_some()
                && self.vip(&given.vips[0]).spec.sharing_key == vip.spec.sharing_key;
            let pool = self.pool(&given.pool).unwrap();
            if alike
                && is_of(given.address, family)
                && may(pool)
                && self.open(pool, vip).is_ok()
                && self.sharing(vip, given).is_ok()
            {
                return Ok((given.address, given.pool.clone()));
            }
        }
        // One that it had.
        let mut cooling: Vec<&Cooling> = self.cooling.iter().collect();
        cooling.sort_by_key(|cooling| cooling.address);
        for cooling in cooling.into_iter().filter(|it| it.vip == vip.name) {
            let Some(pool) = self.pool(&cooling.pool) else {
                continue;
            };
            if is_of(cooling.address, family)
                && pool.spec.reclaim
                && pool.offers.contains(&cooling.address)
                && named.is_none_or(|named| *named == cooling.pool)
                && self.open(pool, vip).is_ok()
            {
                return Ok((cooling.address, cooling.pool.clone()));
            }
        }
        // The lowest free one of the first pool that has one.
        let mut pools: Vec<&APool> = self.pools.iter().collect();
        pools.sort_by_key(|it| (it.spec.priority, it.spec.selector.is_none(), &it.name));
        pools.retain(|pool| may(pool) && pool.has_family(family));
        let mut shut = Vec::new();
        let mut exhausted = false;
        for pool in pools {
            if let Err(why) = self.open(pool, vip) {
                shut.push(why);
                continue;
            }
            for address in pool.offers.iter().filter(|it| is_of(**it, family)) {
                let cools = self.cooling.iter().any(|it| it.address == *address);
                if self.given(*address).is_none() && !cools {
                    return Ok((*address, pool.name.clone()));
                }
            }
            exhausted = true;
        }
        let shut = weightiest(shut);
        Err(if exhausted {
            "out_of_ips"
        } else {
            shut.unwrap_or("no_pool")
        })
    }

    /// Gives a VIP what it can have now.
    fn satisfy(&mut self, name: &Name, anew: bool, at: u64) {
        let vip = self.vip(name).clone();
        let mut gets: Vec<(IpAddr, Name)> = Vec::new();
        let mut unmet = Vec::new();
        for address in &vip.spec.addresses {
            match self.judge(&vip, *address, anew) {
                Ok(pool) => gets.push((*address, pool)),
                Err(why) => unmet.push(why),
            }
        }
        let wanted = if vip.spec.addresses.is_empty() {
            families(&vip.spec)
        } else {
            Vec::new()
        };
        for family in wanted {
            let own = vip.has.iter().filter(|a| is_of(**a, family));
            let mut own = own.map(|address| self.given(*address).unwrap());
            match own.find(|given| self.keeps(&vip, given, anew)) {
                Some(given) => gets.push((given.address, given.pool.clone())),
                None => match self.choose(&vip, family) {
                    Ok(found) => gets.push(found),
                    Err(why) => unmet.push(why),
                },
            }
        }
        if vip.spec.addresses.is_empty()
            && vip.spec.families == Families::RequireDual
            && !unmet.is_empty()
        {
            gets.retain(|(address, _)| vip.has.contains(address));
        }
        for address in vip
            .has
            .iter()
            .filter(|a| !gets.iter().any(|(b, _)| b == *a))
        {
            self.take(*address, name, at);
        }
        for (address, pool) in &gets {
            match self
                .given
                .iter_mut()
                .find(|given| given.address == *address)
            {
                Some(given) if given.vips.contains(name) => {}
                Some(given) => given.vips.push(name.clone()),
                None => self.given.push(Given {
                    address: *address,
                    pool: pool.clone(),
                    vips: vec![name.clone()],
                }),
            }
            self.cooling.retain(|cooling| cooling.address != *address);
        }
        let vip = self.vips.iter_mut().find(|vip| vip.name == *name).unwrap();
        vip.has = gets.into_iter().map(|(address, _)| address).collect();
        vip.unmet = unmet;
    }

    fn take(&mut self, address: IpAddr, vip: &Name, at: u64) {
        let i = self
            .given
            .iter()
            .position(|given| given.address == address)
            .unwrap();
        self.given[i].vips.retain(|own| own != vip);
        if self.given[i].vips.is_empty() {
            let pool = self.given.remove(i).pool;
            let cooldown = self.pool(&pool).map_or(0, |pool| pool.spec.cooldown.0);
            if cooldown > 0 {
                self.cooling.push(Cooling {
                    address,
                    pool,
                    vip: vip.clone(),
                    until: at + cooldown,
                });
            }
        }
    }

    /// Those who wait, the oldest first, until nobody gets anything any more.
    fn look_again(&mut self, at: u64) {
        loop {
            let before: Vec<Vec<IpAddr>> = self.vips.iter().map(|vip| vip.has.clone()).collect();
            let waiting = self.vips.iter().filter(|vip| !vip.unmet.is_empty());
            for name in waiting.map(|vip| vip.name.clone()).collect::<Vec<_>>() {
                self.satisfy(&name, false, at);
            }
            if self.vips.iter().map(|vip| &vip.has).eq(&before) {
                return;
            }
        }
    }

    /// Addresses that a pool no longer has: another has them, or their VIPs lose them.
    fn stranded(&self, name: &Name, new: Option<&APool>) -> Vec<(IpAddr, Option<Name>)> {
        let keeps = |address| new.is_some_and(|pool| pool.has(address));
        let lost = self
            .given
            .iter()
            .filter(|it| it.pool == *name && !keeps(it.address));
        let mut lost: Vec<_> = lost
            .map(|it| {
                let mut others = self.pools.iter();
                let other = others.find(|pool| pool.name != *name && pool.has(it.address));
                (it.address, other.map(|pool| pool.name.clone()))
            })
            .collect();
        lost.sort();
        lost
    }

    fn evict(&mut self, stranded: Vec<(IpAddr, Option<Name>)>, at: u64) {
        let mut losers = Vec::new();
        for (address, other) in stranded {
            let given = self
                .given
                .iter_mut()
                .find(|given| given.address == address)
                .unwrap();
            match other {
                Some(other) => given.pool = other,
                None => losers.extend(given.vips.iter().map(|vip| (address, vip.clone()))),
            }
        }
        for (address, vip) in &losers {
            let has = &mut self
                .vips
                .iter_mut()
                .find(|own| own.name == *vip)
                .unwrap()
                .has;
            has.retain(|has| has != address);
            self.take(*address, vip, at);
        }
        for vip in self
            .vips
            .iter()
            .map(|vip| vip.name.clone())
            .collect::<Vec<_>>()
        {
            if losers.iter().any(|(_, loser)| *loser == vip) {
                self.satisfy(&vip, false, at);
            }
        }
    }

    pub(super) fn apply(&mut self, command: &Command, at: u64) -> Result<(), &'static str> {
        match command {
            Command::PutPool {
                name, spec, care, ..
            } => {
                if self.pool(name).is_some_and(|pool| pool.spec == *spec) {
                    return Ok(());
                }
                if spec.blocks.is_empty() {
                    return Err("invalid");
                }
                let new = APool::new(name, spec);
                let mut others = self.pools.iter().filter(|other| other.name != *name);
                let clash = new.overlaps_itself || others.any(|other| other.overlaps(&new));
                if care.strict && clash {
                    return Err("overlap");
                }
                let stranded = self.stranded(name, Some(&new));
                if !care.force && stranded.iter().any(|(_, other)| other.is_none()) {
                    return Err("pool_in_use");
                }
                match self.pools.iter_mut().find(|own| own.name == *name) {
                    Some(old) => *old = new,
                    None => self.pools.push(new),
                }
                if spec.cooldown.0 == 0 {
                    self.cooling.retain(|cooling| cooling.pool != *name);
                }
                self.evict(stranded, at);
                self.look_again(at);
            }
            Command::DeletePool { name, force, .. } => {
                if self.pool(name).is_none() {
                    return Err("not_found");
                }
                let stranded = self.stranded(name, None);
                if !force && stranded.iter().any(|(_, other)| other.is_none()) {
                    return Err("pool_in_use");
                }
                self.pools.retain(|own| own.name != *name);
                self.cooling.retain(|cooling| cooling.pool != *name);
                self.evict(stranded, at);
                self.look_again(at);
            }
            Command::PutVip {
                name, labels, spec, ..
            } => {
                let known = self.vips.iter().find(|vip| vip.name == *name);
                if known.is_some_and(|vip| vip.spec == *spec && vip.labels == *labels) {
                    return Ok(());
                }
                if !servable(spec)
                    || spec
                        .backends
                        .keys()
                        .any(|backend| self.given(backend.address).is_some())
                {
                    return Err("invalid");
                }
                let known = self.vips.iter_mut().find(|vip| vip.name == *name);
                match known {
                    Some(vip) => {
                        vip.spec = spec.clone();
                        vip.labels = labels.clone();
                    }
                    None => self.vips.push(AVip {
                        name: name.clone(),
                        labels: labels.clone(),
                        spec: spec.clone(),
                        has: Vec::new(),
                        unmet: Vec::new(),
                    }),
                }
                self.satisfy(name, true, at);
                self.at_first = self.vip(name).unmet.clone();
                self.look_again(at);
            }
            Command::DeleteVip { name, .. } => {
                if !self.vips.iter().any(|vip| vip.name == *name) {
                    return Err("not_found");
                }
                let has = self.vip(name).has.clone();
                for address in has {
                    self.take(address, name, at);
                }
                self.vips.retain(|vip| vip.name != *name);
                self.look_again(at);
            }
            Command::Ripen => {
                self.cooling.retain(|cooling| cooling.until > at);
                self.look_again(at);
            }
            other => panic!("{other:?}"),
        }
        Ok(())
    }
}

/// Of several pools that are shut, what is told.
fn weightiest(shut: Vec<&'static str>) -> Option<&'static str> {
    let told = [
        "pool_conflicting",
        "pool_disabled",
        "pool_selector_mismatch",
    ];
    told.into_iter().find(|why| shut.contains(why))
}
