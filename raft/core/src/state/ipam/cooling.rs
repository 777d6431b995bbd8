//! Cooling down: an address that was freed is given to nobody for a while, except perhaps to whom it belonged.

use alloc::vec::Vec;
use core::net::IpAddr;

use super::aside::SET_ASIDE;
use crate::block::Family;
use crate::codec::wire_struct;
use crate::command::Outcome;
use crate::name::Name;
use crate::proof::Claim;
use crate::state::{Entry, State, done};
use crate::time::Millis;
use crate::vip::Allocation;

/// An address that cools down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cooling {
    /// The pool it came from.
    pub pool: Name,
    /// The VIP that had it last.
    pub vip: Name,
    /// When that ends.
    pub until: Millis,
    /// Who has it outside, if it is set aside for that: [`State::set_aside`].
    pub in_use: Option<Claim>,
}

wire_struct!(Cooling { pool, vip, until } since 6 { in_use });

impl State {
    /// When the next address has cooled down, by the wall clock, if somebody waits who may want it or it is due to be
    /// counted as free. A time that is over asks for a [`crate::command::Command::Ripen`].
    #[must_use]
    pub fn ripe_at(&self) -> Option<Millis> {
        self.index.stock.ripe.first().map(|(until, _)| *until)
    }

    pub(in crate::state) fn ripen(&mut self, entry: Entry) -> Outcome {
        let ripe = self.index.stock.ripe.iter();
        let ripe = ripe.take_while(|(until, _)| *until <= entry.at);
        let ripe: Vec<IpAddr> = ripe.map(|(_, address)| *address).collect();
        let mut aside = false;
        for address in ripe {
            aside |= self.index.stock.is_aside(address);
            self.warm(address);
        }
        if aside {
            // There is room for others.
            self.replace_all_in_use(entry);
        }
        done(entry)
    }

    /// Begins to cool down an address that was just freed, if its pool asks for that or somebody outside has it.
    pub(super) fn cool(&mut self, entry: Entry, address: IpAddr, was: &Allocation) -> bool {
        let Some(pool) = self.pools.get(&was.pool) else {
            return false;
        };
        let in_use = was.kept_out_by();
        let in_use = in_use.filter(|_| self.has_room_aside(pool, Family::of(address)));
        // What never was announced needs no rest for the sake of clients' caches.
        let cooldown = in_use.map_or(pool.spec.cooldown, |_| SET_ASIDE);
        if cooldown == Millis(0) {
            return false;
        }
        let cooling = Cooling {
            pool: was.pool.clone(),
            vip: was.vip.clone(),
            until: Millis(entry.at.0.saturating_add(cooldown.0)),
            in_use: in_use.cloned(),
        };
        self.index.stock.set_cooling(address, &cooling, true);
        self.cooling.insert(address, cooling);
        true
    }

    /// Ends it: the address may be given to anybody.
    pub(super) fn warm(&mut self, address: IpAddr) {
        if let Some(cooling) = self.cooling.remove(&address) {
            self.index.stock.set_cooling(address, &cooling, false);
            self.restock(address);
        }
    }

    /// Ends it for all addresses of a pool: it is gone, or no longer asks for it. Then those that are `set_aside` stay so.
    pub(in crate::state) fn warm_all_of(&mut self, pool: &Name, set_aside: bool) {
        let cooling = self.cooling.iter().filter(|(_, of)| of.pool == *pool);
        let cooling = cooling.filter(|(_, of)| set_aside || of.in_use.is_none());
        let cooling: Vec<IpAddr> = cooling.map(|(address, _)| *address).collect();
        for address in cooling {
            self.warm(address);
        }
    }
}
