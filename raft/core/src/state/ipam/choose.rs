//! Choice: the address that a VIP gets when it asks for none by itself.

use alloc::format;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::ask::{Ask, weightier};
use crate::block::Family;
use crate::name::Name;
use crate::pool::Pool;
use crate::rejection::Rejection;
use crate::state::State;

/// How many exhausted pools are told by name.
const TOLD: usize = 8;

impl State {
    /// An address of `family`: one that it may share, else one that it had and that still cools down, else one beyond what it has
    /// just lost, else the lowest free one of the first pool that has one.
    pub(super) fn choose(&self, ask: Ask<'_>, family: Family) -> Result<(IpAddr, Name), Rejection> {
        if let Some(found) = self
            .shared(ask, family)
            .or_else(|| self.reclaimed(ask, family))
            .or_else(|| self.beyond(ask, family))
        {
            return Ok(found);
        }
        let named = ask.spec.pool.as_ref();
        let mut shut = None;
        let mut exhausted: Vec<Name> = Vec::new();
        let mut more = 0;
        for pool in self.pools_for(ask, family) {
            match self.open_to(ask, pool) {
                Ok(()) => match self.index.stock.first_free(&pool.name, family) {
                    Some(address) => return Ok((address, pool.name.clone())),
                    None if exhausted.len() < TOLD => exhausted.push(pool.name.clone()),
                    None => more += 1,
                },
                Err(why) => shut = Some(weightier(shut, why)),
            }
        }
        if !exhausted.is_empty() {
            return Err(Rejection::OutOfIps {
                family: format!("{family}"),
                pools: exhausted,
                more,
            });
        }
        Err(match shut {
            Some(Rejection::PoolSelectorMismatch { .. }) => Rejection::PoolSelectorMismatch {
                pool: named.cloned(),
            },
            Some(why) => why,
            None => Rejection::NoPool {
                family: format!("{family}"),
                pool: named.cloned(),
            },
        })
    }

    /// The pools that might give the VIP an address of a family, as they are tried.
    fn pools_for<'a>(&'a self, ask: Ask<'a>, family: Family) -> impl Iterator<Item = &'a Pool> {
        let named = ask.spec.pool.as_ref();
        let pools = self.index.stock.order.iter();
        let pools = pools.filter_map(|(_, _, name)| self.pools.get(name));
        let pools = pools.filter(move |pool| match named {
            Some(named) => pool.name == *named,
            None => pool.spec.auto_assign,
        });
        pools.filter(move |pool| offers(pool, family))
    }

    /// An address beyond the one that it has just lost: higher in that pool, or in the pools that come after it. Who begins at the
    /// lowest each time meets again what was set aside, whenever that is offered again, and never comes to the others.
    fn beyond(&self, ask: Ask<'_>, family: Family) -> Option<(IpAddr, Name)> {
        let (lost, from) = ask.lost.filter(|(lost, _)| Family::of(*lost) == family)?;
        let stock = &self.index.stock;
        let pools = self.pools_for(ask, family);
        let pools = pools.filter(|pool| self.open_to(ask, pool).is_ok());
        let mut pools = pools.skip_while(|pool| pool.name != *from);
        let own = pools.next()?;
        let higher = stock.first_free_beyond(&own.name, lost);
        let higher = higher.map(|address| (address, own));
        let mut later =
            pools.filter_map(|pool| Some((stock.first_free(&pool.name, family)?, pool)));
        let (address, pool) = higher.or_else(|| later.next())?;
        Some((address, pool.name.clone()))
    }

    /// An address that others with the same sharing key have, and that it may have too.
    fn shared(&self, ask: Ask<'_>, family: Family) -> Option<(IpAddr, Name)> {
        let key = ask.spec.sharing_key.as_ref()?;
        let named = ask.spec.pool.as_ref();
        let mut shared = self.index.stock.shared.get(key)?.iter().copied();
        shared.find_map(|address| {
            let allocation = self.allocations.get(&address)?;
            let pool = self.pools.get(&allocation.pool)?;
            let right = Family::of(address) == family
                && match named {
                    Some(named) => allocation.pool == *named,
                    None => pool.spec.auto_assign,
                };
            (right
                && self.open_to(ask, pool).is_ok()
                && self.may_share(ask, address, allocation).is_ok())
            .then(|| (address, allocation.pool.clone()))
        })
    }

    /// An address that it had and that nobody else may have yet: its holder has not let go, or it cools down.
    fn reclaimed(&self, ask: Ask<'_>, family: Family) -> Option<(IpAddr, Name)> {
        let mut late = self.index.stock.late.get(ask.name)?.iter().copied();
        late.find_map(|address| {
            if self.index.stock.is_aside(address) {
                return None;
            }
            let cooling = self.cooling.get(&address).map(|cooling| &cooling.pool);
            let pool = cooling.or_else(|| Some(&self.allocations.get(&address)?.pool));
            let pool = self.pools.get(pool?)?;
            let named = ask.spec.pool.as_ref();
            let right = Family::of(address) == family
                && pool.spec.reclaim
                && pool.spec.offering(address).is_some()
                && !self.index.hosts.contains_key(&address)
                && named.is_none_or(|named| pool.name == *named);
            (right && self.open_to(ask, pool).is_ok()).then(|| (address, pool.name.clone()))
        })
    }
}

fn offers(pool: &Pool, family: Family) -> bool {
    pool.spec
        .blocks
        .iter()
        .any(|block| block.family() == family)
}
