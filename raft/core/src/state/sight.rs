//! VIPs that go elsewhere when all of their backends are down: which nodes have said so, and where the VIPs go.
//!
//! A node that has said so is *blind* to the VIP until it says otherwise; how often it does is its own matter
//! ([`crate::health::Sight`]). Blindness is a reason to prefer another node, never one to have no holder: a VIP leaves a
//! blind node only for one that is less so, so where everybody is blind it stays. Each move brings it to a node that is
//! less blind, so for what nodes have said at a time there are only so many.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::places::Places;
use super::unit::{Given, Unit, UnitKey};
use super::{Entry, State, Topic, done, not_found};
use crate::command::Outcome;
use crate::event::{Cause, What};
use crate::health::AllDown;
use crate::id::NodeId;
use crate::name::Name;
use crate::notice::Notice;
use crate::rejection::Rejection;
use crate::vip::{Vip, VipSpec};

/// To how many of a unit's VIPs each node is blind; nodes that are blind to none are not listed.
pub(super) type Blindness = BTreeMap<NodeId, usize>;

/// Whether a VIP goes elsewhere when all of its backends are down.
fn withdraws(spec: &VipSpec) -> bool {
    let check = spec.health.as_ref();
    check.is_some_and(|check| check.all_down == AllDown::Withdraw)
}

/// Whether what a node has said by one spec it would say by the other.
fn asks_the_same(one: &VipSpec, other: &VipSpec) -> bool {
    one.health == other.health
        && one.mode == other.mode
        && one.backends == other.backends
        && one.traffic == other.traffic
        && one.ports == other.ports
}

impl State {
    /// The nodes that have said of a VIP that all of its backends are down, as they see them.
    pub fn blind_to(&self, vip: &Name) -> impl Iterator<Item = NodeId> + '_ {
        self.blind.get(vip).into_iter().flatten().copied()
    }

    /// A node says whether all backends of a VIP are down.
    pub(super) fn sight(&mut self, entry: Entry, id: NodeId, vip: &Name, down: bool) -> Outcome {
        let node = self.nodes.get(&id).ok_or_else(|| Rejection::NotFound {
            kind: "node".into(),
            name: format!("with number {id}"),
        })?;
        let node_name = node.name.clone();
        let of = self.vips.get(vip).ok_or_else(|| not_found("VIP", vip))?;
        if !withdraws(&of.spec) {
            return Err(Rejection::Invalid {
                why: format!("VIP {vip} stays where it is, whoever is down"),
            });
        }
        let blind = self.blind.entry(vip.clone()).or_default();
        let news = match down {
            true => blind.insert(id),
            false => blind.remove(&id),
        };
        if blind.is_empty() {
            self.blind.remove(vip);
        }
        if !news {
            return done(entry);
        }
        let notice = Notice::Sight {
            vip: vip.clone(),
            down,
        };
        self.note(
            entry,
            What::Noticed {
                node: id,
                name: node_name,
                vip: Some(vip.clone()),
                notice,
            },
        );
        self.changed(Topic::Vip, vip);
        // Of others nothing has changed: where thousands lose their backends at a time, each says so in an entry of its own.
        self.withdraw_those(entry, core::slice::from_ref(vip));
        done(entry)
    }

    /// To what of a unit nodes are blind.
    pub(super) fn blindness(&self, unit: &Unit<'_>) -> Blindness {
        let mut blindness = Blindness::new();
        if self.blind.is_empty() {
            return blindness;
        }
        let of = unit.given.iter().map(|given| given.of);
        let vips: BTreeSet<&Name> = of.flat_map(|of| of.vips()).collect();
        for node in vips.into_iter().flat_map(|vip| self.blind_to(vip)) {
            *blindness.entry(node).or_default() += 1;
        }
        blindness
    }

    /// Sends VIPs away from nodes that are blind to them, where others are less so.
    pub(super) fn withdraw(&mut self, entry: Entry) {
        if self.blind.is_empty() {
            return;
        }
        let names: Vec<Name> = self.blind.keys().cloned().collect();
        self.withdraw_those(entry, &names);
    }

    fn withdraw_those(&mut self, entry: Entry, names: &[Name]) {
        let vips = names.iter().filter_map(|name| self.vips.get(name));
        let owners = vips.flat_map(|vip| &vip.addresses);
        let owners = owners.filter_map(|address| self.allocations.get(address));
        let keys: BTreeSet<UnitKey> = owners.filter_map(|of| self.unit_key(&of.vip)).collect();
        let mut places = Places::new(self, None, Some(entry.at));
        let mut plan: Vec<(IpAddr, NodeId)> = Vec::new();
        for unit in keys.into_iter().map(|key| self.unit(key)) {
            let blindness = self.blindness(&unit);
            let blind = |node: NodeId| blindness.get(&node).copied().unwrap_or(0);
            let leaves = |given: &&Given<'_>| {
                let here = given.of.destination();
                self.bound_for(given.of).is_none() && here.is_some_and(|node| blind(node) > 0)
            };
            let part: Vec<Given<'_>> = unit.given.iter().filter(leaves).copied().collect();
            if part.is_empty() {
                continue;
            }
            for (given, to) in places.place(&unit, &part) {
                let here = given.of.destination();
                let better = |to: &NodeId| here.is_some_and(|from| blind(*to) < blind(from));
                plan.extend(to.filter(better).map(|to| (given.address, to)));
            }
        }
        for (address, to) in plan {
            self.hand_over(entry, address, to, Cause::Withdrawn);
        }
    }

    /// An operator's move to a blind node would be undone at once.
    pub(super) fn sees_as_much(
        &self,
        addresses: &[IpAddr],
        to: NodeId,
        name: &Name,
    ) -> Result<(), Rejection> {
        let refused = addresses.iter().find_map(|address| {
            let of = self.allocations.get(address)?;
            let from = of.destination()?;
            let mut vips = of.vips();
            vips.find(|vip| {
                let blind = |node| self.blind_to(vip).any(|it| it == node);
                blind(to) && !blind(from)
            })
        });
        match refused {
            None => Ok(()),
            Some(vip) => Err(Rejection::CannotHold {
                node: name.clone(),
                why: format!("all backends of VIP {vip} are down, as it sees them"),
            }),
        }
    }

    /// What was said of a VIP that is asked for in another way was said of another one.
    pub(super) fn forget_sight(&mut self, old: &Vip, new: Option<&VipSpec>) {
        let same = new.is_some_and(|new| asks_the_same(&old.spec, new));
        if !same {
            self.blind.remove(&old.name);
        }
    }

    /// A node is no member any more.
    pub(super) fn forget_sight_of(&mut self, node: NodeId) {
        self.blind.retain(|_, nodes| {
            nodes.remove(&node);
            !nodes.is_empty()
        });
    }

    /// Only of VIPs that ask for it, and by members.
    pub(super) fn check_sight(&self) -> Result<(), alloc::string::String> {
        for (name, nodes) in &self.blind {
            let asks = self.vips.get(name).is_some_and(|vip| withdraws(&vip.spec));
            let members = nodes.iter().all(|node| self.nodes.contains_key(node));
            if !asks || !members || nodes.is_empty() {
                return Err(format!("{nodes:?} are blind to VIP {name}"));
            }
        }
        Ok(())
    }
}
