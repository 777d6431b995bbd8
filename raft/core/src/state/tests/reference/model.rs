//! What is promised about addresses, as plain lists that are looked at one by one; no index.

use super::super::services::servable;
use super::super::*;
use crate::block::number;
use crate::selector::NAMESPACE_LABEL;
use crate::sharing::compatible;

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
    pub(super) pools: Vec<(Name, PoolSpec)>,
    pub(super) vips: Vec<AVip>,
    pub(super) given: Vec<Given>,
    pub(super) cooling: Vec<Cooling>,
    /// Why the wishes of the VIP that was put last were not met, before others were given what it gave back.
    pub(super) at_first: Vec<&'static str>,
}

type Judged = Result<Name, &'static str>;

impl Model {
    fn pool(&self, name: &Name) -> Option<&PoolSpec> {
        let found = self.pools.iter().find(|(own, _)| own == name);
        found.map(|(_, spec)| spec)
    }

    pub(super) fn vip(&self, name: &Name) -> &AVip {
        self.vips.iter().find(|vip| vip.name == *name).unwrap()
    }

    pub(super) fn given(&self, address: IpAddr) -> Option<&Given> {
        self.given.iter().find(|given| given.address == address)
    }

    /// Younger than a pool it overlaps, or overlapping itself.
    fn conflicts(&self, name: &Name) -> bool {
        let at = self.pools.iter().position(|(own, _)| own == name).unwrap();
        let own = &self.pools[at].1.blocks;
        let older = self.pools[..at].iter().flat_map(|(_, spec)| &spec.blocks);
        let overlaps = |block: &Block| older.clone().any(|old| old.overlaps(block));
        let itself = |i: usize| own[..i].iter().any(|other| other.overlaps(&own[i]));
        own.iter().any(overlaps) || (0..own.len()).any(itself)
    }

    fn selected(spec: &PoolSpec, vip: &AVip) -> bool {
        let Some(selector) = &spec.selector else {
            return true;
        };
        selector.match_labels.iter().all(|(key, value)| {
            let own = vip.labels.get(key).map(String::as_str);
            let is = if key == NAMESPACE_LABEL {
                Some(vip.spec.namespace())
            } else {
                own
            };
            is == Some(value.as_str())
        })
    }

    fn open(&self, name: &Name, vip: &AVip) -> Result<(), &'static str> {
        let spec = self.pool(name).unwrap();
        if !Self::selected(spec, vip) {
            Err("pool_selector_mismatch")
        } else if spec.disabled {
            Err("pool_disabled")
        } else if self.conflicts(name) {
            Err("pool_conflicting")
        } else {
            Ok(())
        }
    }

    /// Why the VIP may not have an address along with those that have it.
    fn sharing(&self, vip: &AVip, given: &Given) -> Result<(), &'static str> {
        for other in given.vips.iter().filter(|other| **other != vip.name) {
            if compatible(&vip.spec, &self.vip(other).spec).is_err() {
                let keyless = vip.spec.sharing_key.is_none();
                return Err(if keyless {
                    "already_allocated"
                } else {
                    "already_allocated_incompatible"
                });
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
            && Self::selected(self.pool(&given.pool).unwrap(), vip)
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
        let has = |(name, spec): &&(Name, PoolSpec)| {
            spec.contains(address) && named.is_none_or(|named| named == name)
        };
        let having: Vec<&Name> = self
            .pools
            .iter()
            .filter(has)
            .map(|(name, _)| name)
            .collect();
        if having.is_empty() {
            return Err("not_in_any_pool");
        }
        let Some(pool) = having.iter().find(|name| self.open(name, vip).is_ok()) else {
            let shut = having.iter().map(|name| self.open(name, vip).unwrap_err());
            return Err(weightiest(shut.collect()).unwrap());
        };
        if let Some(given) = given {
            return self.sharing(vip, given).map(|()| given.pool.clone());
        }
        let spec = self.pool(pool).unwrap();
        if let Some(cooling) = self.cooling.iter().find(|it| it.address == address) {
            let own = spec.reclaim && cooling.vip == vip.name;
            return if own {
                Ok((*pool).clone())
            } else {
                Err("cooling_down")
            };
        }
        match spec.offering(address) {
            Some(_) => Ok((*pool).clone()),
            None => Err("reserved"),
        }
    }

    fn choose(&self, vip: &AVip, family: Family) -> Result<(IpAddr, Name), &'static str> {
        let named = vip.spec.pool.as_ref();
        let may = |name: &Name| match named {
            Some(named) => named == name,
            None => self.pool(name).unwrap().auto_assign,
        };
        // One that it may share.
        let mut given: Vec<&Given> = self.given.iter().collect();
        given.sort_by_key(|given| given.address);
        for given in given {
            let alike = vip.spec.sharing_key.is_some()
                && self.vip(&given.vips[0]).spec.sharing_key == vip.spec.sharing_key;
            if alike
                && Family::of(given.address) == family
                && may(&given.pool)
                && self.open(&given.pool, vip).is_ok()
                && self.sharing(vip, given).is_ok()
            {
                return Ok((given.address, given.pool.clone()));
            }
        }
        // One that it had.
        let mut cooling: Vec<&Cooling> = self.cooling.iter().collect();
        cooling.sort_by_key(|cooling| cooling.address);
        for cooling in cooling.into_iter().filter(|it| it.vip == vip.name) {
            let Some(spec) = self.pool(&cooling.pool) else {
                continue;
            };
            if Family::of(cooling.address) == family
                && spec.reclaim
                && spec.offering(cooling.address).is_some()
                && named.is_none_or(|named| *named == cooling.pool)
                && self.open(&cooling.pool, vip).is_ok()
            {
                return Ok((cooling.address, cooling.pool.clone()));
            }
        }
        // The lowest free one of the first pool that has one.
        let mut pools: Vec<&(Name, PoolSpec)> = self.pools.iter().collect();
        pools.sort_by_key(|(name, spec)| (spec.priority, spec.selector.is_none(), name));
        let of_family = |spec: &PoolSpec| spec.blocks.iter().any(|b| b.family() == family);
        pools.retain(|(name, spec)| may(name) && of_family(spec));
        let mut shut = Vec::new();
        let mut exhausted = false;
        for (name, spec) in pools {
            if let Err(why) = self.open(name, vip) {
                shut.push(why);
                continue;
            }
            let blocks = spec.blocks.iter().filter(|b| b.family() == family);
            let all = blocks.flat_map(|b| number(b.start())..=number(b.stop()));
            let mut all: Vec<IpAddr> = all.map(|n| family.address(n)).collect();
            all.sort();
            for address in all {
                let cools = self.cooling.iter().any(|it| it.address == address);
                if spec.offering(address).is_some() && self.given(address).is_none() && !cools {
                    return Ok((address, name.clone()));
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
            vip.spec.families.wanted()
        } else {
            &[]
        };
        for family in wanted {
            let own = vip.has.iter().filter(|a| Family::of(**a) == *family);
            let mut own = own.map(|address| self.given(*address).unwrap());
            match own.find(|given| self.keeps(&vip, given, anew)) {
                Some(given) => gets.push((given.address, given.pool.clone())),
                None => match self.choose(&vip, *family) {
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
            let cooldown = self.pool(&pool).map_or(0, |spec| spec.cooldown.0);
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
    fn stranded(&self, name: &Name, new: Option<&PoolSpec>) -> Vec<(IpAddr, Option<Name>)> {
        let keeps = |address| new.is_some_and(|spec| spec.contains(address));
        let lost = self
            .given
            .iter()
            .filter(|it| it.pool == *name && !keeps(it.address));
        let mut lost: Vec<_> = lost
            .map(|it| {
                let others = self
                    .pools
                    .iter()
                    .filter(|(other, spec)| other != name && spec.contains(it.address));
                (it.address, others.map(|(other, _)| other.clone()).next())
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
                if self.pool(name) == Some(spec) {
                    return Ok(());
                }
                if spec.blocks.is_empty() {
                    return Err("invalid");
                }
                let others = self.pools.iter().filter(|(other, _)| other != name);
                let mut others = others.flat_map(|(_, spec)| &spec.blocks);
                let clash = spec
                    .blocks
                    .iter()
                    .enumerate()
                    .any(|(i, block)| spec.blocks[..i].iter().any(|own| own.overlaps(block)));
                if care.strict
                    && (clash || others.any(|o| spec.blocks.iter().any(|b| b.overlaps(o))))
                {
                    return Err("overlap");
                }
                let stranded = self.stranded(name, Some(spec));
                if !care.force && stranded.iter().any(|(_, other)| other.is_none()) {
                    return Err("pool_in_use");
                }
                match self.pools.iter_mut().find(|(own, _)| own == name) {
                    Some((_, old)) => *old = spec.clone(),
                    None => self.pools.push((name.clone(), spec.clone())),
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
                self.pools.retain(|(own, _)| own != name);
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
