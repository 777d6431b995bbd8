//! Cooling down: an address that was freed is given to nobody for a while, except perhaps to whom it belonged.

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::codec::wire_struct;
use crate::command::Outcome;
use crate::name::Name;
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
}

wire_struct!(Cooling { pool, vip, until });

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
        for address in ripe {
            self.warm(address);
        }
        done(entry)
    }

    /// Begins to cool down an address that was just freed, if its pool asks for that.
    pub(super) fn cool(&mut self, entry: Entry, address: IpAddr, was: &Allocation) -> bool {
        let pool = self.pools.get(&was.pool);
        let cooldown = pool.map_or(Millis(0), |pool| pool.spec.cooldown);
        if cooldown == Millis(0) {
            return false;
        }
        let cooling = Cooling {
            pool: was.pool.clone(),
            vip: was.vip.clone(),
            until: Millis(entry.at.0.saturating_add(cooldown.0)),
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

    /// Ends it for all addresses of a pool: it is gone, or no longer asks for it.
    pub(in crate::state) fn warm_all_of(&mut self, pool: &Name) {
        let cooling = self.cooling.iter().filter(|(_, of)| of.pool == *pool);
        let cooling: Vec<IpAddr> = cooling.map(|(address, _)| *address).collect();
        for address in cooling {
            self.warm(address);
        }
    }
}
