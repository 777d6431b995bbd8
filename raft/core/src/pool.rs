//! Pools: named sets of blocks that VIPs get their addresses from.

use alloc::vec::Vec;

use crate::block::{Block, Family};
use crate::codec::wire_struct;
use crate::id::Revision;
use crate::name::{Labels, Name};
use crate::range_set::RangeSet;
use crate::selector::Selector;
use crate::time::Millis;
use crate::vip::VipSpec;

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
    /// Pools with a lower number are tried first; of equal ones those with a selector, then by name.
    pub priority: i32,
    /// The VIPs it serves; all when there is none.
    pub selector: Option<Selector>,
    /// For so long nobody is given an address that was freed.
    pub cooldown: Millis,
    /// Whether a VIP that returns under the same name within that time is given its address again.
    pub reclaim: bool,
}

impl Default for PoolSpec {
    fn default() -> Self {
        Self {
            blocks: Vec::new(),
            allow_first_last: true,
            disabled: false,
            auto_assign: true,
            priority: 0,
            selector: None,
            cooldown: Millis(0),
            reclaim: false,
        }
    }
}

wire_struct!(PoolSpec {
    blocks,
    allow_first_last,
    disabled,
    auto_assign,
    priority
} since 3 { selector, cooldown, reclaim });

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

    /// Whether it may serve this VIP.
    #[must_use]
    pub fn serves(&self, name: &Name, labels: &Labels, spec: &VipSpec) -> bool {
        let selector = self.selector.as_ref();
        selector.is_none_or(|selector| spec.selected(selector, name, labels))
    }

    /// How many addresses of `family` the pool can ever hand out, each once; `None` when more than `u128` counts.
    #[must_use]
    pub fn total(&self, family: Family) -> Option<u128> {
        let mut offered = RangeSet::default();
        for block in self.blocks.iter().filter(|it| it.family() == family) {
            let (first, last) = block.usable(self.allow_first_last);
            offered.insert_missing(first, last);
        }
        offered.len()
    }
}

/// What may come of a pool's change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Care {
    /// It is refused if a block overlaps another; else the younger pool hands out nothing until that ends.
    pub strict: bool,
    /// Addresses that the pool no longer has, and no other has either, are taken from their VIPs; else it is refused
    /// while there are such.
    pub force: bool,
}

wire_struct!(Care { strict, force });

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
    /// The entry that made it: of two pools that overlap, the younger one waits.
    pub born: Revision,
}

wire_struct!(Pool {
    name,
    labels,
    spec,
    created,
    generation,
    revision
} since 3 { born });
