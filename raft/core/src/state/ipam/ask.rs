//! Requests: what a VIP asks for, and what it can be given now. Nothing here changes anything.

use alloc::format;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::block::Family;
use crate::few::Few;
use crate::name::{Labels, Name};
use crate::pool::Pool;
use crate::rejection::Rejection;
use crate::sharing::compatible;
use crate::state::{State, services};
use crate::vip::{Allocation, Families, Unmet, Vip, VipSpec, Wanted};

/// The most addresses of one VIP.
const MAX_ADDRESSES: usize = 64;
/// The most namespaces that a VIP may share with by name.
const MAX_NAMESPACES: usize = 64;
/// The longest sharing key or name of a namespace, in bytes.
const MAX_TEXT: usize = 253;

/// Who asks.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) name: &'a Name,
    pub(super) labels: &'a Labels,
    pub(super) spec: &'a VipSpec,
    /// What it has now.
    pub(super) has: &'a [IpAddr],
    /// Whether its spec has changed, so that what it has is judged by it; else it keeps that.
    pub(super) anew: bool,
    /// The address that it has just lost since somebody outside has it, and the pool of that one: it is given one beyond.
    pub(super) lost: Option<(IpAddr, &'a Name)>,
}

impl<'a> Ask<'a> {
    pub(super) fn of(vip: &'a Vip, anew: bool) -> Self {
        Self {
            name: &vip.name,
            labels: &vip.labels,
            spec: &vip.spec,
            has: &vip.addresses,
            anew,
            lost: None,
        }
    }

    /// The same after an address was lost to somebody outside.
    pub(super) fn beyond(self, lost: Option<(IpAddr, &'a Name)>) -> Self {
        Self { lost, ..self }
    }
}

/// What it gets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Grant {
    /// Its addresses from now on, each with the pool it comes from.
    pub(super) addresses: Few<(IpAddr, Name)>,
    /// What it has to wait for.
    pub(super) unmet: Vec<Unmet>,
}

impl Grant {
    fn add(&mut self, wanted: Wanted, judged: Result<(IpAddr, Name), Rejection>) {
        match judged {
            Ok(given) => self.addresses.push(given),
            Err(why) => self.unmet.push(Unmet { wanted, why }),
        }
    }
}

impl State {
    /// Refuses a spec that no state of the pools could ever satisfy.
    pub(in crate::state) fn check_request(name: &Name, spec: &VipSpec) -> Result<(), Rejection> {
        let invalid = |why| Err(Rejection::Invalid { why });
        let counts = [
            (spec.addresses.len(), MAX_ADDRESSES, "addresses"),
            (
                spec.sharing_namespaces.len(),
                MAX_NAMESPACES,
                "namespaces to share with",
            ),
        ];
        for (n, most, what) in counts {
            if n > most {
                return invalid(format!("VIP {name} names {n} {what}, more than {most}"));
            }
        }
        for (i, address) in spec.addresses.iter().enumerate() {
            if spec.addresses[..i].contains(address) {
                return invalid(format!("VIP {name} asks for {address} twice"));
            }
        }
        services::check(name, spec)?;
        let key = spec.sharing_key.iter();
        let mut texts = key.chain(&spec.sharing_namespaces);
        match texts.find(|text| text.is_empty() || text.len() > MAX_TEXT) {
            Some(text) => invalid(format!(
                "VIP {name} has a sharing key or namespace of {} bytes: 1 to {MAX_TEXT} can be",
                text.len()
            )),
            None => Ok(()),
        }
    }

    /// What the VIP can be given now.
    pub(super) fn grant(&self, ask: Ask<'_>) -> Grant {
        let mut grant = Grant::default();
        if !ask.spec.addresses.is_empty() {
            for address in &ask.spec.addresses {
                let judged = self.judge(ask, *address);
                let wanted = Wanted::Address { address: *address };
                grant.add(wanted, judged.map(|pool| (*address, pool)));
            }
            return grant;
        }
        for family in ask.spec.families.wanted() {
            let kept = self.kept(ask, *family);
            let given = kept.map_or_else(|| self.choose(ask, *family), Ok);
            grant.add(Wanted::Family { family: *family }, given);
        }
        if ask.spec.families == Families::RequireDual && !grant.unmet.is_empty() {
            // Both or nothing; but nothing is taken from it because the other does not come.
            grant
                .addresses
                .retain(|(address, _)| ask.has.contains(address));
        }
        grant
    }

    /// What it has of a family and may keep.
    fn kept(&self, ask: Ask<'_>, family: Family) -> Option<(IpAddr, Name)> {
        let of_family = ask.has.iter().filter(|a| Family::of(**a) == family);
        of_family.copied().find_map(|address| {
            let allocation = self.allocations.get(&address)?;
            self.keeps_it(ask, address, allocation)
                .then(|| (address, allocation.pool.clone()))
        })
    }

    /// Whether the VIP may keep an address that it has.
    fn keeps_it(&self, ask: Ask<'_>, address: IpAddr, allocation: &Allocation) -> bool {
        if !ask.anew {
            return true;
        }
        let named = ask.spec.pool.as_ref();
        let pool = self.pools.get(&allocation.pool);
        // An address that is asked for by itself may come from any pool that serves the VIP.
        named.is_none_or(|named| *named == allocation.pool)
            && pool.is_some_and(|pool| pool.spec.serves(ask.name, ask.labels, ask.spec))
            && self.may_share(ask, address, allocation).is_ok()
    }

    /// Whether the VIP may have an address along with all others that have it.
    pub(super) fn may_share(
        &self,
        ask: Ask<'_>,
        address: IpAddr,
        allocation: &Allocation,
    ) -> Result<(), Rejection> {
        let others = allocation.vips().filter(|vip| *vip != ask.name);
        for other in others {
            let Some(vip) = self.vips.get(other) else {
                continue;
            };
            if let Err(rule) = compatible(ask.spec, &vip.spec) {
                let vip = other.clone();
                let neither = ask.spec.sharing_key.is_none();
                return Err(if neither {
                    Rejection::AlreadyAllocated { address, vip }
                } else {
                    Rejection::Incompatible { address, vip, rule }
                });
            }
        }
        Ok(())
    }

    /// Whether the VIP can have this very address, and from which pool.
    fn judge(&self, ask: Ask<'_>, address: IpAddr) -> Result<Name, Rejection> {
        let allocation = self.allocations.get(&address);
        if let Some(allocation) = allocation
            && ask.has.contains(&address)
            && self.keeps_it(ask, address, allocation)
        {
            return Ok(allocation.pool.clone());
        }
        let pool = self.pool_for(ask, address)?;
        match allocation {
            // It was this VIP's, and its holder has not let go yet.
            Some(of) if of.freeing && of.vip == *ask.name => return Ok(pool.name.clone()),
            Some(of) if of.freeing => {
                return Err(Rejection::AlreadyAllocated {
                    address,
                    vip: of.vip.clone(),
                });
            }
            Some(of) => return self.may_share(ask, address, of).map(|()| of.pool.clone()),
            None => {}
        }
        if self.index.stock.is_free(&pool.name, address) {
            return Ok(pool.name.clone());
        }
        match self.cooling.get(&address) {
            Some(cooling) if pool.spec.reclaim && cooling.vip == *ask.name => Ok(pool.name.clone()),
            // It was set aside for those who take what they are given; who names it has his reasons.
            Some(cooling) if cooling.in_use.is_some() => Ok(pool.name.clone()),
            Some(cooling) => Err(Rejection::Cooling {
                address,
                until: cooling.until,
            }),
            None => Err(self.host_address(address).unwrap_or(Rejection::Reserved {
                address,
                pool: pool.name.clone(),
            })),
        }
    }

    /// The pool that may give the VIP this address: one that has it, and that is open to the VIP.
    fn pool_for(&self, ask: Ask<'_>, address: IpAddr) -> Result<&Pool, Rejection> {
        let named = ask.spec.pool.as_ref();
        let names = self.index.stock.pools_with(address);
        let names = names.filter(|name| named.is_none_or(|named| named == *name));
        let mut shut = None;
        for name in names {
            let Some(pool) = self.pools.get(name) else {
                continue;
            };
            match self.open_to(ask, pool) {
                Ok(()) => return Ok(pool),
                Err(why) => shut = Some(weightier(shut, why)),
            }
        }
        Err(shut.unwrap_or(Rejection::NotInAnyPool {
            address,
            pool: named.cloned(),
        }))
    }

    /// Whether a pool hands out anything, and to this VIP.
    pub(super) fn open_to(&self, ask: Ask<'_>, pool: &Pool) -> Result<(), Rejection> {
        let name = || pool.name.clone();
        if !pool.spec.serves(ask.name, ask.labels, ask.spec) {
            return Err(Rejection::PoolSelectorMismatch { pool: Some(name()) });
        }
        if pool.spec.disabled {
            return Err(Rejection::PoolDisabled { pool: name() });
        }
        if self.index.stock.clashes.contains_key(&pool.name) {
            return Err(Rejection::PoolConflicting { pool: name() });
        }
        Ok(())
    }

    /// Giving a host's own address to a VIP would fence the host off from its peers.
    fn host_address(&self, address: IpAddr) -> Option<Rejection> {
        let node = self.nodes.get(self.index.hosts.get(&address)?)?;
        Some(Rejection::HostAddress {
            address,
            node: node.name.clone(),
        })
    }
}

/// What to tell of several pools that are shut: the reason that is nearest to going away.
pub(super) fn weightier(old: Option<Rejection>, new: Rejection) -> Rejection {
    let weight = |why: &Rejection| match why {
        Rejection::PoolConflicting { .. } => 2,
        Rejection::PoolDisabled { .. } => 1,
        // A pool that does not serve the VIP is none of its business while there are others.
        _ => 0,
    };
    match old {
        Some(old) if weight(&old) >= weight(&new) => old,
        Some(_) | None => new,
    }
}
