//! Pools: made, replaced, deleted; never under a live allocation.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::{Entry, State, expected, not_found, put};
use crate::command::{Applied, Expect, Outcome};
use crate::event::What;
use crate::id::Revision;
use crate::name::{Labels, Name};
use crate::pool::{Pool, PoolSpec};
use crate::rejection::Rejection;

/// The most blocks of one pool.
const MAX_BLOCKS: usize = 1024;
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
        self.check_blocks(name, spec)?;
        self.check_stranded(name, |allocation| spec.contains(allocation))?;
        let new = old.is_none();
        let (created, generation) = match old {
            Some(old) => (old.created, old.generation + u64::from(old.spec != *spec)),
            None => (entry.at, 1),
        };
        let pool = Pool {
            name: name.clone(),
            labels: labels.clone(),
            spec: spec.clone(),
            created,
            generation,
            revision: entry.revision,
        };
        self.index.set_pool(&pool, &self.allocations);
        self.pools.insert(name.clone(), pool);
        self.note(entry, What::PoolPut { pool: name.clone() });
        put(entry, new)
    }

    pub(super) fn delete_pool(&mut self, entry: Entry, name: &Name, expect: Expect) -> Outcome {
        let pool = self
            .pools
            .get(name)
            .ok_or_else(|| not_found("pool", name))?;
        expected(expect, name, "pool", Some(pool.revision))?;
        self.check_stranded(name, |_| false)?;
        self.pools.remove(name);
        self.index.forget_pool(name);
        self.note(entry, What::PoolDeleted { pool: name.clone() });
        Ok(Applied::Done {
            revision: Revision(entry.revision.0),
        })
    }

    fn check_blocks(&self, name: &Name, spec: &PoolSpec) -> Result<(), Rejection> {
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

    fn check_stranded(
        &self,
        name: &Name,
        keeps: impl Fn(core::net::IpAddr) -> bool,
    ) -> Result<(), Rejection> {
        let mut stranded = Vec::new();
        let mut count = 0u64;
        for (address, allocation) in self
            .allocations
            .iter()
            .filter(|(a, of)| of.pool == *name && !keeps(**a))
        {
            count += 1;
            if stranded.len() < LISTED {
                stranded.push((*address, allocation.vip.clone()));
            }
        }
        if count == 0 {
            Ok(())
        } else {
            Err(Rejection::InUse {
                pool: name.clone(),
                allocations: stranded,
                count,
            })
        }
    }
}
