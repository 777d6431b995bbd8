//! Pools: made, replaced, deleted; under a live allocation only by force.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::unit::Units;
use super::{Entry, State, Topic, expected, not_found, put, size};
use crate::command::{Applied, Expect, Outcome};
use crate::event::What;
use crate::id::Revision;
use crate::name::{Labels, Name};
use crate::pool::{Care, Pool, PoolSpec};
use crate::rejection::Rejection;
use crate::selector::Selector;
use crate::time::Millis;

/// The most blocks of one pool.
const MAX_BLOCKS: usize = 1024;
/// The most blocks of all pools.
const MAX_BLOCKS_IN_ALL: usize = 16_384;
/// The longest that an address cools down.
const MAX_COOLDOWN: Millis = Millis(30 * 24 * 3600 * 1000);
/// How many allocations a refusal lists.
const LISTED: usize = 10;

impl State {
    pub(super) fn put_pool(
        &mut self,
        entry: Entry,
        name: &Name,
        labels: &Labels,
        spec: &PoolSpec,
        expect: Expect,
        care: Care,
    ) -> Outcome {
        let old = self.pools.get(name);
        expected(expect, name, "pool", old.map(|pool| pool.revision))?;
        if let Some(old) = old
            && old.spec == *spec
            && old.labels == *labels
        {
            return Ok(Applied::Done {
                revision: old.revision,
            });
        }
        size::check_labels("pool", name, labels)?;
        self.check_blocks(name, spec)?;
        if care.strict {
            self.check_overlap(name, spec)?;
        }
        let stranded = self.stranded(name, |address| spec.contains(address), care.force)?;
        let new = old.is_none();
        let (created, born, generation) = match old {
            Some(old) => {
                let changed = u64::from(old.spec != *spec);
                (old.created, old.born, old.generation + changed)
            }
            None => (entry.at, self.born(entry), 1),
        };
        let pool = Pool {
            name: name.clone(),
            labels: labels.clone(),
            spec: spec.clone(),
            created,
            generation,
            revision: entry.revision,
            born,
        };
        let had = old.map(size::of_pool);
        let has = size::of_pool(&pool);
        let late = size::of_late(stranded.len());
        self.has_room(had.unwrap_or(0), has + late)?;
        self.index.weigh(had, Some(has));
        self.pools.insert(name.clone(), pool);
        if new {
            self.made(Topic::Pool, name);
        }
        self.changed_clashes();
        self.index.stock.set_pools(&self.pools);
        self.changed_clashes();
        if spec.cooldown == Millis(0) {
            self.warm_all_of(name, false);
        }
        if let Some(pool) = self.pools.get(name).cloned() {
            self.refill(&pool);
        }
        self.note(entry, What::PoolPut { pool: name.clone() });
        self.evict(entry, stranded);
        put(entry, new)
    }

    pub(super) fn delete_pool(
        &mut self,
        entry: Entry,
        name: &Name,
        expect: Expect,
        force: bool,
    ) -> Outcome {
        let pool = self
            .pools
            .get(name)
            .ok_or_else(|| not_found("pool", name))?;
        expected(expect, name, "pool", Some(pool.revision))?;
        let weight = size::of_pool(pool);
        let stranded = self.stranded(name, |_| false, force)?;
        self.index.weigh(Some(weight), None);
        self.pools.remove(name);
        self.changed_clashes();
        self.index.stock.set_pools(&self.pools);
        self.changed_clashes();
        self.warm_all_of(name, true);
        self.note(entry, What::PoolDeleted { pool: name.clone() });
        self.evict(entry, stranded);
        Ok(Applied::Done {
            revision: Revision(entry.revision.0),
        })
    }

    pub(super) fn check_blocks(&self, name: &Name, spec: &PoolSpec) -> Result<(), Rejection> {
        if spec.blocks.is_empty() {
            return Err(Rejection::Invalid {
                why: format!("pool {name} has no block: give it at least one"),
            });
        }
        if spec.blocks.len() > MAX_BLOCKS {
            let n = spec.blocks.len();
            return Err(Rejection::Invalid {
                why: format!("pool {name} has {n} blocks, more than {MAX_BLOCKS}"),
            });
        }
        if let Some(excess) = spec.selector.as_ref().and_then(Selector::excess) {
            return Err(Rejection::Invalid {
                why: format!("the selector of pool {name} {excess}"),
            });
        }
        let others = self.pools.values().filter(|pool| pool.name != *name);
        let others: usize = others.map(|pool| pool.spec.blocks.len()).sum();
        if others + spec.blocks.len() > MAX_BLOCKS_IN_ALL {
            return Err(Rejection::Invalid {
                why: format!(
                    "with pool {name} there would be more than {MAX_BLOCKS_IN_ALL} blocks in all pools"
                ),
            });
        }
        if spec.cooldown > MAX_COOLDOWN {
            return Err(Rejection::Invalid {
                why: format!("pool {name} cools addresses down for more than 30 days"),
            });
        }
        Ok(())
    }

    /// Refuses a block that shares addresses with another.
    fn check_overlap(&self, name: &Name, spec: &PoolSpec) -> Result<(), Rejection> {
        for (i, block) in spec.blocks.iter().enumerate() {
            let own = spec.blocks[..i].iter().map(|other| (other, name));
            let others = self.pools.values().filter(|pool| pool.name != *name);
            let others = others.flat_map(|pool| {
                pool.spec
                    .blocks
                    .iter()
                    .map(move |other| (other, &pool.name))
            });
            if let Some((other, pool)) = own.chain(others).find(|(other, _)| other.overlaps(block))
            {
                return Err(Rejection::Overlap {
                    block: block.to_string(),
                    other: other.to_string(),
                    pool: pool.clone(),
                });
            }
        }
        Ok(())
    }

    /// The allocations that the pool keeps no more, each with another pool that has the address, if one has.
    ///
    /// # Errors
    /// Without `force`: those that no pool would have, the first of them by name.
    fn stranded(
        &self,
        name: &Name,
        keeps: impl Fn(IpAddr) -> bool,
        force: bool,
    ) -> Result<Vec<(IpAddr, Option<Name>)>, Rejection> {
        let of_pool = self
            .allocations
            .iter()
            .filter(|(_, of)| of.pool == *name && !of.freeing);
        let leaving = of_pool.filter(|(address, _)| !keeps(*address));
        let stranded: Vec<(IpAddr, Option<Name>)> = leaving
            .map(|(address, _)| {
                let others = self.index.stock.pools_with(address);
                let others = others.filter(|other| *other != name);
                // Of several the oldest, which is the one that is not conflicting.
                let born = |other: &&Name| self.pools.get(*other).map(|pool| pool.born);
                (address, others.min_by_key(born).cloned())
            })
            .collect();
        let homeless = stranded.iter().filter(|(_, other)| other.is_none());
        let count = homeless.clone().count() as u64;
        if count == 0 || force {
            return Ok(stranded);
        }
        let listed = homeless.take(LISTED).filter_map(|(address, _)| {
            let allocation = self.allocations.get(address)?;
            Some((*address, allocation.vip.clone()))
        });
        Err(Rejection::InUse {
            pool: name.clone(),
            allocations: listed.collect(),
            count,
        })
    }

    /// Has addresses that a pool no longer has belong to another, or else takes them from their VIPs.
    fn evict(&mut self, entry: Entry, stranded: Vec<(IpAddr, Option<Name>)>) {
        let mut losers = Vec::new();
        for (address, other) in stranded {
            let Some(allocation) = self.allocations.get(&address) else {
                continue;
            };
            match other {
                Some(new) => self.rehome(address, &new),
                None => losers.extend(allocation.vips().map(|vip| (address, vip.clone()))),
            }
        }
        let mut units = Units::default();
        let mut asking = BTreeSet::new();
        for (address, vip) in losers {
            units.extend(self.unit_key(&vip));
            units.extend(self.lose(entry, address, &vip));
            asking.extend(self.vips.get(&vip).map(|vip| (vip.born, vip.name.clone())));
        }
        for (_, vip) in asking {
            self.satisfy(entry, &vip, &mut units);
        }
        self.settle_units(entry, units);
    }
}
