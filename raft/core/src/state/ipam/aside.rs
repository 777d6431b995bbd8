//! Addresses that somebody outside has, though a pool offers them: a VIP for which such a one was chosen is given another, and
//! this one is *set aside*, which is to cool down for a while.
//!
//! Who names his addresses keeps them, and waits until they are let go of; so does who may share one, for others are to meet him
//! there, and so does a VIP that was given back what it had before, by a restore or a pool's `reclaim`, for that may have been
//! announced. An answer from outside can be forged, so no more than a few addresses of a pool are set aside at a time: beyond
//! that a VIP keeps what it has and waits as well.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::ask::Ask;
use crate::block::Family;
use crate::event::What;
use crate::name::Name;
use crate::pool::Pool;
use crate::state::unit::Units;
use crate::state::{Cooling, Entry, State};
use crate::time::Millis;

/// For how long an address is set aside; then it is offered as before, and asked about as before.
pub(super) const SET_ASIDE: Millis = Millis(10 * 60 * 1000);

/// The most addresses of a pool that are set aside at a time, of each family. Of a small pool it is a quarter, but one at least,
/// and never its only one.
const MOST: u128 = 8;

impl State {
    /// The addresses of a pool that are set aside, with who has them and until when.
    pub fn set_aside(&self, pool: &Name) -> impl Iterator<Item = (IpAddr, &Cooling)> {
        let aside = self.index.stock.aside_of(pool);
        aside.filter_map(|address| Some((address, self.cooling.get(&address)?)))
    }

    /// Gives VIPs other addresses than these, which somebody outside has, as far as that may be.
    pub(in crate::state) fn replace_in_use(&mut self, entry: Entry, addresses: Vec<IpAddr>) {
        let mut units = Units::default();
        for address in addresses {
            let Some((name, pool)) = self.replaceable(address) else {
                continue;
            };
            units.extend(self.unit_key(&name));
            units.extend(self.lose(entry, address, &name));
            let told = What::SetAside {
                address,
                vip: name.clone(),
                pool: pool.clone(),
            };
            self.note(entry, told);
            self.satisfy_beyond(entry, &name, Some((address, &pool)), &mut units);
        }
        self.settle_units(entry, units);
    }

    /// The same for all of which that is known, and that had to stay so far.
    pub(super) fn replace_all_in_use(&mut self, entry: Entry) {
        let all = self.unproven().filter(|(_, of)| of.kept_out_by().is_some());
        let all = all.map(|(address, _)| address).collect();
        self.replace_in_use(entry, all);
    }

    /// Whether the VIP that has this address, which somebody outside has, would be given another one now.
    pub(crate) fn is_replaceable(&self, address: IpAddr) -> bool {
        self.replaceable(address).is_some()
    }

    /// The VIP that is to have another address than this one, and the pool of this one; if there is room to set it aside,
    /// and another address.
    fn replaceable(&self, address: IpAddr) -> Option<(Name, Name)> {
        let of = self.allocations.get(&address)?;
        let (vip, pool) = (self.vips.get(&of.vip)?, self.pools.get(&of.pool)?);
        let chosen = vip.spec.addresses.is_empty() && vip.spec.sharing_key.is_none();
        let refused = of.kept_out_by().is_some() && !of.freeing;
        let family = Family::of(address);
        if !chosen || !refused || !self.has_room_aside(pool, family) {
            return None;
        }
        let another = self.choose(Ask::of(vip, false), family).is_ok();
        another.then(|| (vip.name.clone(), pool.name.clone()))
    }

    /// Whether one more address of a pool may be set aside.
    pub(super) fn has_room_aside(&self, pool: &Pool, family: Family) -> bool {
        let total = pool.spec.total(family).unwrap_or(u128::MAX);
        let most = (total / 4).clamp(1, MOST).min(total.saturating_sub(1));
        let aside = self.index.stock.aside_of(&pool.name);
        let aside = aside.filter(|address| Family::of(*address) == family);
        (aside.count() as u128) < most
    }
}
