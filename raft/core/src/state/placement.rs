//! Placement: which node holds an address, and who would next.
//!
//! A holder is replaced only after it released the address or its lease was withdrawn; until then the address
//! is *vacating*. So nothing here can make two holders, whatever the order of commands.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::index::Whereabouts;
use super::places::{Places, most_frequent};
use super::unit::{Unit, UnitKey};
use super::{Entry, State};
use crate::event::{Cause, What};
use crate::id::{Epoch, NodeId};
use crate::name::Name;
use crate::vip::{Allocation, Failback, Vip};

impl State {
    /// What the loss of `node` would do: each address that it holds, with its runner-up. This is what `NodeDown`
    /// does, not an estimate of it; in time proportional to the number of these addresses.
    #[must_use]
    pub fn loss(&self, node: NodeId) -> BTreeMap<IpAddr, Option<NodeId>> {
        let held: Vec<IpAddr> = self
            .held_by(node)
            .filter(|(_, allocation)| !allocation.freeing)
            .map(|(address, _)| address)
            .collect();
        self.successors(&held, Some(node))
    }

    /// The node that would take `address` if its holder were lost. It works out the whole loss of that holder: for
    /// many addresses ask [`State::loss`] once.
    #[must_use]
    pub fn runner_up(&self, address: IpAddr) -> Option<NodeId> {
        let holder = self.allocations.get(&address)?.holder?;
        self.loss(holder).remove(&address)?
    }

    /// Who takes each of these addresses, whose holders have let go or are lost: whom it is on its way to; else whom
    /// placement chooses, never `without`.
    fn successors(
        &self,
        addresses: &[IpAddr],
        without: Option<NodeId>,
    ) -> BTreeMap<IpAddr, Option<NodeId>> {
        let mut places = Places::new(self, without, None);
        let mut parts: BTreeMap<UnitKey, Vec<IpAddr>> = BTreeMap::new();
        let mut successors = BTreeMap::new();
        for address in addresses {
            let Some(allocation) = self.allocations.get(address) else {
                continue;
            };
            if let Some(next) = self.bound_for(allocation) {
                successors.insert(*address, Some(next));
            } else if let Some(key) = self.unit_key(&allocation.vip) {
                parts.entry(key).or_default().push(*address);
            }
        }
        for (key, part) in parts {
            successors.extend(places.place(&self.unit(key), &part));
        }
        successors
    }

    /// Passes on addresses whose holders have let go or are lost, to anybody but `without`.
    pub(super) fn pass_on(
        &mut self,
        entry: Entry,
        addresses: Vec<IpAddr>,
        without: Option<NodeId>,
        cause: impl Fn(&Allocation, Option<NodeId>) -> Cause,
    ) {
        let (freed, wanted): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| {
            let of = self.allocations.get(address);
            of.is_some_and(|of| of.freeing && self.bound_for(of).is_none())
        });
        for address in freed {
            self.drop_allocation(entry, address);
        }
        let mut unsettled = Vec::new();
        for (address, to) in self.successors(&wanted, without) {
            let Some(allocation) = self.allocations.get(&address) else {
                continue;
            };
            // It may have come where it was to go, and can no longer stay there.
            let arrives = self.bound_for(allocation);
            let (vip, cause) = (allocation.vip.clone(), cause(allocation, to));
            self.set_holder(entry, address, to, cause);
            let stays = arrives.is_none_or(|to| self.keeps(to, address));
            if !stays || !self.index.groups.is_empty() {
                let key = self.unit_key(&vip);
                unsettled.extend(key.filter(|key| !stays || matches!(key, UnitKey::Group(_))));
            }
        }
        self.settle_units(entry, unsettled);
    }

    /// Settles whatever a change of nodes or policies may have unsettled.
    pub(super) fn settle(&mut self, entry: Entry) {
        let mut keys = Vec::new();
        for (address, allocation) in &self.allocations {
            let settled = allocation
                .destination()
                .is_some_and(|node| self.keeps(node, *address));
            if !settled && !allocation.freeing {
                keys.extend(self.unit_key(&allocation.vip));
            }
        }
        keys.extend(self.index.groups.keys().cloned().map(UnitKey::Group));
        self.settle_units(entry, keys);
        self.return_home(entry);
    }

    /// Gives these units holders where they lack one, and asks holders that should not keep addresses to release
    /// them where somebody else can take them. Where nobody else can any more, they stay.
    pub(super) fn settle_units(&mut self, entry: Entry, mut keys: Vec<UnitKey>) {
        keys.sort_unstable();
        keys.dedup();
        let mut places = Places::new(self, None, Some(entry.at));
        let (mut plan, mut stay) = (Vec::new(), Vec::new());
        for key in keys {
            let unit = self.unit(key);
            let part = self.unsettled(&unit);
            if part.is_empty() {
                continue;
            }
            let home = self.home_of_rest(&unit, &part);
            for (address, to) in places.place(&unit, &part) {
                match to {
                    Some(to) => plan.push((address, to, self.why(address), home)),
                    None if self.could_stay(address) => stay.push(address),
                    None => {}
                }
            }
        }
        for address in stay {
            self.change(address, |of| of.take_back(entry.revision, entry.at));
        }
        for (address, to, cause, home) in plan {
            self.hand_over(entry, address, to, cause);
            if let Some(home) = home {
                self.change(address, |allocation| allocation.home = Some(home));
            }
        }
    }

    /// The addresses of a unit that are neither where they may stay nor on their way to where they can be moved on.
    fn unsettled(&self, unit: &Unit) -> Vec<IpAddr> {
        let destination = |address: &IpAddr| self.allocations.get(address)?.destination();
        let addresses = unit.addresses.iter();
        if !unit.strict() {
            let settled =
                |address: &IpAddr| destination(address).map(|to| self.keeps(to, *address));
            let unsettled = addresses
                .filter(|address| settled(address) != Some(true) && !self.is_bound(address));
            return unsettled.copied().collect();
        }
        let keeps_all = |node: &NodeId| unit.addresses.iter().all(|a| self.keeps(*node, *a));
        // Asked of each node once: a group may have thousands of addresses.
        let mut able: BTreeMap<NodeId, bool> = BTreeMap::new();
        let on_able = addresses.clone().filter_map(destination).filter(|node| {
            let able = able.entry(*node).or_insert_with(|| keeps_all(node));
            *able
        });
        let stays = most_frequent(on_able);
        let astray = |a: &&IpAddr| stays.is_none() || destination(a) != stays;
        let unsettled = addresses.filter(|a| astray(a) && !self.is_bound(a));
        unsettled.copied().collect()
    }

    /// The home of what stays of a unit, which those that join it share.
    fn home_of_rest(&self, unit: &Unit, part: &[IpAddr]) -> Option<NodeId> {
        if part.len() == unit.addresses.len() {
            return None;
        }
        let part: BTreeSet<&IpAddr> = part.iter().collect();
        let mut stay = unit.addresses.iter().filter(|a| !part.contains(a));
        stay.find_map(|address| self.allocations.get(address)?.home)
    }

    /// Why an address has to leave where it is, or comes to where it goes.
    fn why(&self, address: IpAddr) -> Cause {
        let holder = self.allocations.get(&address).and_then(|a| a.holder);
        match holder.and_then(|holder| self.nodes.get(&holder)) {
            None => Cause::Placed,
            Some(node) if node.drained || node.retiring => Cause::Drained,
            Some(node) if self.interface_for(node, address).is_none() => Cause::Ineligible,
            Some(_) => Cause::Grouped,
        }
    }

    /// Brings an address to `to`: at once if nobody holds it, else as soon as its holder has let go. With a cause
    /// that is somebody's choice, that is its new home. One that is on its way to another node first arrives there.
    pub(super) fn hand_over(&mut self, entry: Entry, address: IpAddr, to: NodeId, cause: Cause) {
        let Some(allocation) = self.allocations.get(&address) else {
            return;
        };
        if self.bound_for(allocation).is_some_and(|next| next != to) {
            return;
        }
        match allocation.holder {
            None => self.set_holder(entry, address, Some(to), cause),
            Some(holder) if holder != to => self.change(address, |allocation| {
                allocation.vacating = Some(cause);
                allocation.retarget(Some(to), entry.revision);
            }),
            Some(_) if allocation.vacating.is_some() => {
                self.change(address, |allocation| {
                    allocation.take_back(entry.revision, entry.at)
                });
            }
            Some(_) => {}
        }
        match cause {
            Cause::Moved | Cause::Rebalanced | Cause::Grouped => {
                self.change(address, |allocation| allocation.home = Some(to));
            }
            Cause::Placed
            | Cause::NodeDown
            | Cause::Drained
            | Cause::Ineligible
            | Cause::Freed
            | Cause::FailedBack => {}
        }
    }

    /// Makes `to` the holder of an address that nobody can be announcing any more.
    fn set_holder(&mut self, entry: Entry, address: IpAddr, to: Option<NodeId>, cause: Cause) {
        let Some(allocation) = self.allocations.get(&address) else {
            return;
        };
        let (from, vip) = (allocation.holder, allocation.vip.clone());
        let epoch = Epoch(entry.revision.0);
        self.change(address, |allocation| {
            allocation.holder = to;
            allocation.epoch = epoch;
            allocation.held_since = entry.at;
            // What nobody wants any more is given on by its new holder as by any other.
            allocation.vacating = Some(Cause::Freed).filter(|_| allocation.freeing);
            allocation.next = None;
            allocation.home = allocation.home.or(to);
        });
        if from != to {
            self.note(
                entry,
                What::HolderChanged {
                    address,
                    vip,
                    from,
                    to,
                    epoch,
                    cause,
                },
            );
        }
    }

    /// Changes an allocation, and what is derived from it.
    pub(super) fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut Allocation)) {
        let Some(shared) = self.allocations.get_mut(&address) else {
            return;
        };
        let allocation = Arc::make_mut(shared);
        let (before, home) = (Whereabouts::of(allocation), allocation.home);
        let holder = allocation.holder;
        change(allocation);
        let after = Whereabouts::of(allocation);
        let away = away_from(&self.vips, allocation);
        self.index.changed(address, before, after);
        self.index.set_away(address, home, away);
        self.changed_at(address);
        if let Some(holder) = holder {
            self.changed_node(holder);
        }
    }
}

/// The home that an address is away from, if it is to return there some time.
pub(super) fn away_from(
    vips: &BTreeMap<Name, Arc<Vip>>,
    allocation: &Allocation,
) -> Option<NodeId> {
    let home = allocation.home?;
    if allocation.destination() == Some(home) || allocation.freeing {
        return None;
    }
    let mut of = allocation.vips().filter_map(|vip| vips.get(vip));
    of.all(|vip| vip.spec.failback != Failback::Never)
        .then_some(home)
}
