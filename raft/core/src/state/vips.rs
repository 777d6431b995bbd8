//! VIPs: made, replaced, deleted, moved; and the allocation of their addresses.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::unit::UnitKey;
use super::{Entry, State, done, expected, not_found, put};
use crate::block::Family;
use crate::command::{Applied, Expect, Outcome};
use crate::event::{Cause, What};
use crate::id::Epoch;
use crate::name::{Labels, Name};
use crate::node::Node;
use crate::pool::Pool;
use crate::rejection::Rejection;
use crate::vip::{Allocation, Families, Vip, VipSpec};

/// The most addresses of one VIP.
const MAX_ADDRESSES: usize = 64;

impl State {
    pub(super) fn put_vip(
        &mut self,
        entry: Entry,
        name: &Name,
        labels: &Labels,
        spec: &VipSpec,
        expect: Expect,
    ) -> Outcome {
        let old = self.vips.get(name).cloned();
        expected(expect, name, "VIP", old.as_ref().map(|vip| vip.revision))?;
        if let Some(old) = &old
            && old.spec == *spec
            && old.labels == *labels
        {
            return Ok(Applied::Done {
                revision: old.revision,
            });
        }
        let plan = self.plan_addresses(name, spec, old.as_ref())?;
        let new = old.is_none();
        let (created, generation) = match &old {
            Some(old) => (old.created, old.generation + u64::from(old.spec != *spec)),
            None => (entry.at, 1),
        };
        let addresses = plan.iter().map(|(address, _)| *address).collect();
        let vip = Vip {
            name: name.clone(),
            labels: labels.clone(),
            spec: spec.clone(),
            addresses,
            created,
            generation,
            revision: entry.revision,
        };
        let left = self.unit_key(name);
        self.index.put_vip(old.as_ref(), Some(&vip));
        self.vips.insert(name.clone(), vip);
        self.note(entry, What::VipPut { vip: name.clone() });
        let kept: BTreeSet<IpAddr> = plan.iter().map(|(address, _)| *address).collect();
        for address in old
            .into_iter()
            .flat_map(|old| old.addresses)
            .filter(|address| !kept.contains(address))
        {
            self.free(entry, address);
        }
        for (address, pool) in plan {
            self.allocate(entry, address, pool, name, spec);
        }
        let unit = self.unit_key(name);
        // The group it leaves may now fit where it did not.
        let units: BTreeSet<UnitKey> = unit.into_iter().chain(left).collect();
        self.settle_units(entry, units);
        put(entry, new)
    }

    pub(super) fn delete_vip(&mut self, entry: Entry, name: &Name, expect: Expect) -> Outcome {
        let vip = self.vips.get(name).ok_or_else(|| not_found("VIP", name))?;
        expected(expect, name, "VIP", Some(vip.revision))?;
        let addresses = vip.addresses.clone();
        let left = self.unit_key(name);
        self.index.put_vip(Some(vip), None);
        self.vips.remove(name);
        self.note(entry, What::VipDeleted { vip: name.clone() });
        for address in addresses {
            self.free(entry, address);
        }
        self.settle_units(entry, left);
        done(entry)
    }

    /// Moves a VIP, and the group it is in, to a node that can hold all of it.
    pub(super) fn move_vip(&mut self, entry: Entry, name: &Name, to: &Name) -> Outcome {
        let key = self.unit_key(name).ok_or_else(|| not_found("VIP", name))?;
        let node = self.node_named(to).ok_or_else(|| not_found("node", to))?;
        let (id, addresses) = (node.id, self.unit(key).addresses);
        for address in &addresses {
            if let Err(why) = self.can_hold(node, *address) {
                return Err(Rejection::CannotHold {
                    node: to.clone(),
                    why,
                });
            }
        }
        self.nothing_goes_elsewhere(&addresses, id)?;
        for address in addresses {
            self.hand_over(entry, address, id, Cause::Moved);
        }
        done(entry)
    }

    /// Why `node` cannot hold `address`, if it cannot.
    fn can_hold(&self, node: &Node, address: IpAddr) -> Result<(), String> {
        if self.keeps(node.id, address) {
            return Ok(());
        }
        node.can_hold_any()?;
        if !node.accepts() {
            return Err("its weight is 0".into());
        }
        let named = self
            .allocations
            .get(&address)
            .and_then(|allocation| allocation.interface.as_deref());
        Err(match (node.interface_for(address, named), named) {
            (Some(_), _) => format!("no policy that selects its VIP lets it announce {address}"),
            (None, Some(interface)) => format!("it has no interface {interface} that is up"),
            (None, None) => {
                format!("it has no interface up in a subnet that contains {address}")
            }
        })
    }

    /// Decides, without changing anything, which addresses the VIP gets and from which pools: what it has and
    /// still may keep, then what it asks for, then the next free ones.
    fn plan_addresses(
        &self,
        name: &Name,
        spec: &VipSpec,
        old: Option<&Vip>,
    ) -> Result<Vec<(IpAddr, Name)>, Rejection> {
        if let Some(pool) = &spec.pool {
            self.pools
                .get(pool)
                .ok_or_else(|| not_found("pool", pool))?;
        }
        if !spec.addresses.is_empty() {
            return self.plan_requested(name, spec);
        }
        let kept = |family| {
            let addresses = old.map(|vip| vip.addresses.as_slice()).unwrap_or_default();
            addresses
                .iter()
                .filter(|address| Family::of(**address) == family)
                .find_map(|address| {
                    let allocation = self.allocations.get(address)?;
                    let same_pool = spec
                        .pool
                        .as_ref()
                        .is_none_or(|pool| *pool == allocation.pool);
                    same_pool.then(|| (*address, allocation.pool.clone()))
                })
        };
        let mut plan = Vec::new();
        let mut refusal = None;
        for family in spec.families.wanted() {
            match kept(*family).map_or_else(|| self.next_free(spec.pool.as_ref(), *family), Ok) {
                Ok(found) => plan.push(found),
                Err(why) => refusal = refusal.or(Some(why)),
            }
        }
        match (spec.families, refusal) {
            (Families::PreferDual, Some(why)) if plan.is_empty() => Err(why),
            (Families::Ipv4 | Families::Ipv6 | Families::RequireDual, Some(why)) => Err(why),
            (Families::PreferDual, Some(_)) | (_, None) => Ok(plan),
        }
    }

    fn plan_requested(
        &self,
        name: &Name,
        spec: &VipSpec,
    ) -> Result<Vec<(IpAddr, Name)>, Rejection> {
        if spec.addresses.len() > MAX_ADDRESSES {
            let n = spec.addresses.len();
            return Err(Rejection::Invalid {
                why: format!("VIP {name} asks for {n} addresses, more than {MAX_ADDRESSES}"),
            });
        }
        let mut plan: Vec<(IpAddr, Name)> = Vec::new();
        for address in &spec.addresses {
            if plan.iter().any(|(planned, _)| planned == address) {
                return Err(Rejection::Invalid {
                    why: format!("VIP {name} asks for {address} twice"),
                });
            }
            let pool = match &spec.pool {
                Some(pool) => self
                    .pools
                    .get(pool)
                    .filter(|pool| pool.spec.contains(*address)),
                None => self
                    .pools
                    .values()
                    .find(|pool| pool.spec.contains(*address)),
            }
            .ok_or_else(|| Rejection::NotInAnyPool {
                address: *address,
                pool: spec.pool.clone(),
            })?;
            match self.allocations.get(address) {
                Some(allocation) if allocation.vip == *name => {}
                Some(allocation) => {
                    return Err(Rejection::AlreadyAllocated {
                        address: *address,
                        vip: allocation.vip.clone(),
                    });
                }
                None if self.index.hosts.contains_key(address) => {
                    return Err(self.host_address(*address));
                }
                None if pool.spec.disabled => {
                    return Err(Rejection::PoolDisabled {
                        pool: pool.name.clone(),
                    });
                }
                None if pool.spec.offering(*address).is_none() => {
                    return Err(Rejection::Reserved {
                        address: *address,
                        pool: pool.name.clone(),
                    });
                }
                None => {}
            }
            plan.push((*address, pool.name.clone()));
        }
        Ok(plan)
    }

    /// Giving a host's own address to a VIP would fence the host off from its peers.
    fn host_address(&self, address: IpAddr) -> Rejection {
        let node = self
            .index
            .hosts
            .get(&address)
            .and_then(|id| self.nodes.get(id));
        match node {
            Some(node) => Rejection::HostAddress {
                address,
                node: node.name.clone(),
            },
            None => Rejection::NotInAnyPool {
                address,
                pool: None,
            },
        }
    }

    /// The next free address of `family`: from the pool named, else from the first pool by priority and name
    /// that assigns by itself and has one.
    fn next_free(&self, named: Option<&Name>, family: Family) -> Result<(IpAddr, Name), Rejection> {
        let offers = |pool: &&Pool| {
            pool.spec
                .blocks
                .iter()
                .any(|block| block.family() == family)
        };
        let mut pools: Vec<&Pool> = match named {
            Some(name) => self.pools.get(name).into_iter().filter(offers).collect(),
            None => self
                .pools
                .values()
                .filter(|pool| pool.spec.auto_assign)
                .filter(offers)
                .collect(),
        };
        if let (Some(_), [pool]) = (named, pools.as_slice())
            && pool.spec.disabled
        {
            return Err(Rejection::PoolDisabled {
                pool: pool.name.clone(),
            });
        }
        pools.retain(|pool| !pool.spec.disabled);
        if pools.is_empty() {
            return Err(Rejection::NoPool {
                family: format!("{family}"),
                pool: named.cloned(),
            });
        }
        pools.sort_by_key(|pool| pool.spec.priority);
        pools
            .iter()
            .find_map(|pool| {
                Some((
                    self.index.first_free(&pool.name, family)?,
                    pool.name.clone(),
                ))
            })
            .ok_or_else(|| Rejection::OutOfIps {
                family: format!("{family}"),
                pools: pools.iter().map(|pool| pool.name.clone()).collect(),
            })
    }

    /// Gives `address` to the VIP, or refreshes what it has.
    fn allocate(&mut self, entry: Entry, address: IpAddr, pool: Name, vip: &Name, spec: &VipSpec) {
        if self.allocations.contains_key(&address) {
            let bound = self.is_bound(&address);
            self.change(address, |allocation| {
                allocation.interface.clone_from(&spec.interface);
                if allocation.freeing && !bound {
                    allocation.take_back(entry.revision, entry.at);
                }
                allocation.freeing = false;
            });
        } else {
            self.index.allocated(address, &pool);
            let allocation = Allocation {
                vip: vip.clone(),
                pool,
                since: entry.at,
                interface: spec.interface.clone(),
                holder: None,
                epoch: Epoch(entry.revision.0),
                held_since: entry.at,
                vacating: None,
                next: None,
                freeing: false,
                home: None,
            };
            self.allocations.insert(address, allocation);
            self.note(
                entry,
                What::Allocated {
                    address,
                    vip: vip.clone(),
                },
            );
        }
    }

    /// Takes `address` from its VIP: at once if nobody holds it, else as soon as its holder has let go, or the one
    /// that it is on its way to.
    fn free(&mut self, entry: Entry, address: IpAddr) {
        let bound = self.is_bound(&address);
        let mut held = false;
        self.change(address, |allocation| {
            held = allocation.holder.is_some();
            allocation.freeing = true;
            if !bound {
                allocation.retarget(None, entry.revision);
                allocation.vacating = Some(Cause::Freed).filter(|_| held);
            }
        });
        if !held {
            self.drop_allocation(entry, address);
        }
    }

    pub(super) fn drop_allocation(&mut self, entry: Entry, address: IpAddr) {
        self.change(address, |allocation| {
            allocation.holder = None;
            allocation.vacating = None;
        });
        let Some(allocation) = self.allocations.remove(&address) else {
            return;
        };
        let pool = self.pools.get(&allocation.pool);
        let offered = pool.is_some_and(|pool| pool.spec.offering(address).is_some());
        self.index.freed(address, &allocation.pool, offered);
        self.note(
            entry,
            What::Freed {
                address,
                vip: allocation.vip,
            },
        );
    }
}
