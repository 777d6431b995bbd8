//! Pools: named sets of blocks that VIPs get their addresses from.

use alloc::vec::Vec;

use crate::block::{Block, Family};
use crate::codec::wire_struct;
use crate::id::Revision;
use crate::name::{Labels, Name};
use crate::time::Millis;

/// What the operator asks of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// The blocks, at least one, none overlapping another.
    pub blocks: Vec<Block>,
    /// Whether the first and last address of each prefix block may be handed out.
    pub allow_first_last: bool,
    /// A disabled pool keeps its live allocations and makes no new ones.
    pub disabled: bool,
    /// Whether a VIP that names no pool may get its address here.
    pub auto_assign: bool,
    /// Pools with a lower number are tried first; equal numbers by name.
    pub priority: i32,
}

impl Default for PoolSpec {
    fn default() -> Self {
        Self {
            blocks: Vec::new(),
            allow_first_last: true,
            disabled: false,
            auto_assign: true,
            priority: 0,
        }
    }
}

wire_struct!(PoolSpec {
    blocks,
    allow_first_last,
    disabled,
    auto_assign,
    priority
});

impl PoolSpec {
    /// The block that offers `address`, if any.
    #[must_use]
    pub fn offering(&self, address: core::net::IpAddr) -> Option<&Block> {
        let n = crate::block::number(address);
        self.blocks.iter().find(|block| {
            let (first, last) = block.usable(self.allow_first_last);
            block.contains(address) && first <= n && n <= last
        })
    }

    /// Whether `address` lies in a block, even one that keeps it to itself.
    #[must_use]
    pub fn contains(&self, address: core::net::IpAddr) -> bool {
        self.blocks.iter().any(|block| block.contains(address))
    }

    /// How many addresses of `family` the pool can ever hand out; `None` when more than `u128` counts.
    #[must_use]
    pub fn total(&self, family: Family) -> Option<u128> {
        self.blocks
            .iter()
            .filter(|block| block.family() == family)
            .try_fold(0u128, |sum, block| {
                let (first, last) = block.usable(self.allow_first_last);
                sum.checked_add((last - first).checked_add(1)?)
            })
    }
}

/// A pool as the cluster holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: Name,
    /// Its labels.
    pub labels: Labels,
    /// What was asked.
    pub spec: PoolSpec,
    /// When it was made.
    pub created: Millis,
    /// How many times its spec changed, from 1.
    pub generation: u64,
    /// The entry that last changed it.
    pub revision: Revision,
}

wire_struct!(Pool {
    name,
    labels,
    spec,
    created,
    generation,
    revision
});
