//! Placement: which node holds an address, and who would next.
//!
//! A holder is replaced only after it released the address or its lease was withdrawn; until then the address
//! is *vacating*. So nothing here can make two holders, whatever the order of commands.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::index::{Whereabouts, unproven};
use super::places::{Places, most_frequent};
use super::unit::{Given, Unit, UnitKey, Units};
use super::{Entry, State};
use crate::event::{Cause, What};
use crate::few::Few;
use crate::id::{Epoch, NodeId};
use crate::name::Name;
use crate::vip::{Allocation, Failback, Vip};

/// What is to become of unsettled addresses.
#[derive(Default)]
struct Plan {
    /// Where they go and why, and the home that they are given.
    go: Few<(IpAddr, NodeId, Cause, Option<NodeId>)>,
    /// Those that stay where they are.
    stay: Few<IpAddr>,
}

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
        let mut parts: BTreeMap<UnitKey, Vec<Given<'_>>> = BTreeMap::new();
        let mut successors = BTreeMap::new();
        for given in addresses.iter().filter_map(|at| self.given(*at)) {
            if let Some(next) = self.bound_for(given.of) {
                successors.insert(given.address, Some(next));
            } else if let Some(key) = self.unit_key(&given.of.vip) {
                parts.entry(key).or_default().push(given);
            }
        }
        for (key, part) in parts {
            let placed = places.place(&self.unit(key), &part).into_iter();
            successors.extend(placed.map(|(given, to)| (given.address, to)));
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
        let mut unsettled = Units::default();
        for (address, to) in self.successors(&wanted, without) {
            let Some(allocation) = self.allocations.get(&address) else {
                continue;
            };
            // It may have come where it was to go, and can no longer stay there.
            let arrives = self.bound_for(allocation);
            let (vip, cause) = (allocation.vip.clone(), cause(allocation, to));
            self.set_holder(entry, address, to, cause);
            let keeps = |to| self.given(address).is_some_and(|of| self.keeps(to, of));
            let stays = arrives.is_none_or(keeps);
            if !stays || !self.index.groups.is_empty() {
                let key = self.unit_key(&vip);
                unsettled.extend(key.filter(|key| !stays || matches!(key, UnitKey::Group(_))));
            }
        }
        self.settle_units(entry, unsettled);
    }

    /// Settles whatever a change of nodes or policies may have unsettled.
    pub(super) fn settle(&mut self, entry: Entry) {
        let mut keys = Units::default();
        for (address, of) in self.allocations.iter() {
            let to = of.destination();
            let settled = to.is_some_and(|node| self.keeps(node, Given { address, of }));
            if !settled && !of.freeing {
                keys.extend(self.unit_key(&of.vip));
            }
        }
        keys.extend(self.index.groups.keys().cloned().map(UnitKey::Group));
        self.settle_units(entry, keys);
        self.return_home(entry);
    }

    /// Gives these units holders where they lack one, and asks holders that should not keep addresses to release
    /// them where somebody else can take them. Where nobody else can any more, they stay.
    pub(super) fn settle_units(&mut self, entry: Entry, mut keys: Units) {
        keys.sort_and_dedup();
        let units = keys.into_iter().map(|key| self.unit(key));
        let plan = self.plan(entry, units);
        self.follow_plan(entry, plan);
    }

    /// The same for a VIP that is in no group, as it is in the state.
    pub(super) fn settle_alone(&mut self, entry: Entry, vip: &Vip) {
        let plan = self.plan(entry, core::iter::once(self.alone(vip)));
        self.follow_plan(entry, plan);
    }

    /// What is to become of these units.
    fn plan<'a>(&'a self, entry: Entry, units: impl Iterator<Item = Unit<'a>>) -> Plan {
        let mut places = None;
        let mut plan = Plan::default();
        for unit in units {
            let part = self.unsettled(&unit);
            if part.is_empty() {
                continue;
            }
            let mut rest = unit.without(&part).into_iter();
            // Those that join it share its home.
            let home = rest.find_map(|given| given.of.home);
            let places = places.get_or_insert_with(|| Places::new(self, None, Some(entry.at)));
            for (given, to) in places.place(&unit, &part) {
                match to {
                    Some(to) => plan.go.push((given.address, to, self.why(given), home)),
                    None if self.could_stay(given) => plan.stay.push(given.address),
                    None => {}
                }
            }
        }
        plan
    }

    fn follow_plan(&mut self, entry: Entry, plan: Plan) {
        for address in plan.stay {
            self.change(address, |of| of.take_back(entry.revision, entry.at));
        }
        for (address, to, cause, home) in plan.go {
            self.hand_over(entry, address, to, cause);
            if let Some(home) = home {
                self.change(address, |allocation| allocation.home = Some(home));
            }
        }
        self.withdraw(entry);
    }

    /// The addresses of a unit that are neither where they may stay nor on their way to where they can be moved on.
    fn unsettled<'a>(&self, unit: &Unit<'a>) -> Few<Given<'a>> {
        let all = unit.given.iter().copied();
        let all = all.filter(|given| self.bound_for(given.of).is_none());
        if !unit.strict() {
            let settled = |given: &Given<'_>| {
                let to = given.of.destination();
                to.is_some_and(|to| self.keeps(to, *given))
            };
            return all.filter(|given| !settled(given)).collect();
        }
        let keeps_all = |node: &NodeId| unit.given.iter().all(|of| self.keeps(*node, *of));
        // Asked of each node once: a group may have thousands of addresses.
        let mut able: BTreeMap<NodeId, bool> = BTreeMap::new();
        let to = unit.given.iter().filter_map(|given| given.of.destination());
        let on_able = to.filter(|node| {
            let able = able.entry(*node).or_insert_with(|| keeps_all(node));
            *able
        });
        let stays = most_frequent(on_able);
        let astray = |given: &Given<'_>| stays.is_none() || given.of.destination() != stays;
        all.filter(astray).collect()
    }

    /// Why an address has to leave where it is, or comes to where it goes.
    fn why(&self, given: Given<'_>) -> Cause {
        match given.of.holder.and_then(|holder| self.nodes.get(&holder)) {
            None => Cause::Placed,
            Some(node) if node.drained || node.retiring => Cause::Drained,
            Some(node) if self.interface_of(node, given).is_none() => Cause::Ineligible,
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
            | Cause::FailedBack
            | Cause::Withdrawn => {}
        }
    }

    /// Makes `to` the holder of an address that nobody can be announcing any more.
    fn set_holder(&mut self, entry: Entry, address: IpAddr, to: Option<NodeId>, cause: Cause) {
        let mut was = None;
        let epoch = Epoch(entry.revision.0);
        self.change(address, |allocation| {
            was = Some((allocation.holder, allocation.vip.clone()));
            allocation.holder = to;
            allocation.epoch = epoch;
            allocation.held_since = entry.at;
            // What nobody wants any more is given on by its new holder as by any other.
            allocation.vacating = Some(Cause::Freed).filter(|_| allocation.freeing);
            allocation.next = None;
            allocation.home = allocation.home.or(to);
        });
        if let Some((from, vip)) = was
            && from != to
        {
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
        let (holder, asks) = (allocation.holder, unproven(allocation));
        change(allocation);
        let after = Whereabouts::of(allocation);
        self.index.set_unproven(address, asks, unproven(allocation));
        let away = away_from(&self.vips, allocation);
        self.index.changed(address, before, after);
        self.index.set_away(address, home, away);
        self.journal.of(address, allocation, &self.nodes);
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
