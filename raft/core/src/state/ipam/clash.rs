//! Pools that overlap: the younger one hands out nothing until that ends.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::block::Block;
use crate::id::Revision;
use crate::name::Name;
use crate::pool::Pool;

/// Why a pool hands out nothing: a block of it overlaps one of an older pool, or another of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// The pool's block.
    pub block: Block,
    /// The block that it overlaps.
    pub other: Block,
    /// The pool of that block.
    pub pool: Name,
}

struct Run<'a> {
    start: IpAddr,
    stop: IpAddr,
    block: &'a Block,
    pool: &'a Name,
    age: (Revision, &'a Name),
}

/// The pools that clash, each with its first overlap. Disabled pools clash like any other. Blocks are looked at by
/// their starts, so the time is that of sorting them, and of the overlaps there are.
pub(super) fn clashes(pools: &BTreeMap<Name, Pool>) -> BTreeMap<Name, Clash> {
    let runs = pools.values().flat_map(|pool| {
        pool.spec.blocks.iter().map(|block| Run {
            start: block.start(),
            stop: block.stop(),
            block,
            pool: &pool.name,
            age: (pool.born, &pool.name),
        })
    });
    let mut runs: Vec<Run<'_>> = runs.collect();
    runs.sort_by_key(|run| (run.start, run.stop, run.age));
    let mut found: BTreeMap<Name, Clash> = BTreeMap::new();
    let mut open: Vec<&Run<'_>> = Vec::new();
    for run in &runs {
        // IPv4 sorts before IPv6, so the two never meet.
        open.retain(|other| other.stop >= run.start);
        for other in &open {
            let (old, young) = if other.age <= run.age {
                (*other, run)
            } else {
                (run, *other)
            };
            found.entry(young.pool.clone()).or_insert_with(|| Clash {
                block: *young.block,
                other: *old.block,
                pool: old.pool.clone(),
            });
        }
        open.push(run);
    }
    found
}
