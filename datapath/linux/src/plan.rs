//! The difference between what is wanted and what is, as steps. Pure: the same function serves
//! the quick path (against the last known state) and the audit (against what was read back).

use std::{collections::BTreeMap, net::IpAddr};

use vipd_datapath_common::{Address, flags};

use crate::{Gate, Wanted, WantedAddress, announce::Target};

/// What matters of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) mac: [u8; 6],
    /// It forwards IPv6, so advertisements carry the R flag.
    pub(crate) router: bool,
}

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Presence {
    pub(crate) ifindex: u32,
    /// The kernel remembers that vipd added it (IFA_PROTO, since Linux 5.18).
    pub(crate) ours: bool,
}

/// The state as known or read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actual {
    pub(crate) links: BTreeMap<String, Link>,
    pub(crate) entries: BTreeMap<IpAddr, Address>,
    pub(crate) present: BTreeMap<IpAddr, Vec<Presence>>,
}

/// One step; its order among the others of its address matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Cancel announcements.
    Silence,
    /// Write the entry.
    Write(Address),
    /// Forget the entry and its counters.
    Forget,
    /// Put the address on an interface.
    Add { ifindex: u32 },
    /// Take it off.
    Delete { ifindex: u32 },
    /// Announce it.
    Announce(Target),
}

/// Steps in the order in which to do them. If a step of an address fails, its later ones are left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Shut what must not be open: before anything else.
    pub(crate) shut: Vec<(IpAddr, Vec<Step>)>,
    /// Prepare, open and announce.
    pub(crate) open: Vec<(IpAddr, Vec<Step>)>,
    /// Tidy up what is shut.
    pub(crate) tidy: Vec<(IpAddr, Vec<Step>)>,
    /// Addresses whose interface does not exist.
    pub(crate) homeless: Vec<(IpAddr, String)>,
}

impl Actual {
    fn presences(&self, address: &IpAddr) -> &[Presence] {
        self.present.get(address).map_or(&[], Vec::as_slice)
    }

    /// vipd put the address there: by the kernel's record, or by that of the pinned entry.
    fn added(&self, address: &IpAddr, at: Presence) -> bool {
        at.ours
            || self
                .entries
                .get(address)
                .is_some_and(|entry| entry.has(flags::ADDED) && entry.ifindex == at.ifindex)
    }
}

/// The steps from `actual` to `wanted`.
pub(crate) fn plan(wanted: &Wanted, actual: &Actual) -> Plan {
    let mut plan = Plan::default();
    for (address, entry) in &actual.entries {
        let stays = wanted.addresses.get(address).is_some_and(|wanted| {
            wanted.gate == Gate::Open
                && actual
                    .links
                    .get(&wanted.interface)
                    .is_some_and(|link| link.index == entry.ifindex)
        });
        if entry.has(flags::OPEN) && !stays {
            plan.shut
                .push((*address, vec![Step::Silence, Step::Write(shut(*entry))]));
        }
    }
    for (address, wanted) in &wanted.addresses {
        let Some(link) = actual.links.get(&wanted.interface) else {
            plan.homeless.push((*address, wanted.interface.clone()));
            push(&mut plan.tidy, *address, tidy(address, None, actual));
            continue;
        };
        match wanted.gate {
            Gate::Open => push(
                &mut plan.open,
                *address,
                open(address, wanted, link, actual),
            ),
            Gate::Shut => {
                let goal = goal(address, wanted, link);
                push(&mut plan.tidy, *address, tidy(address, Some(goal), actual));
            }
        }
    }
    let known = actual.entries.keys().chain(actual.present.keys());
    for address in known.collect::<std::collections::BTreeSet<_>>() {
        if !wanted.addresses.contains_key(address) {
            push(&mut plan.tidy, *address, tidy(address, None, actual));
        }
    }
    plan
}

fn push(list: &mut Vec<(IpAddr, Vec<Step>)>, address: IpAddr, steps: Vec<Step>) {
    if !steps.is_empty() {
        list.push((address, steps));
    }
}

fn shut(entry: Address) -> Address {
    Address {
        flags: entry.flags & !flags::OPEN,
        ..entry
    }
}

/// The entry as wanted, without OPEN, LOCAL and ADDED: those follow from what is.
fn goal(address: &IpAddr, wanted: &WantedAddress, link: &Link) -> Address {
    let router = address.is_ipv6() && link.router;
    Address {
        epoch: wanted.epoch,
        ifindex: link.index,
        flags: if router { flags::ROUTER } else { 0 },
        mac: link.mac,
        reserved: [0; 2],
    }
}

/// The address comes onto the interface while its entry is there but shut, so neither the kernel
/// nor anybody else answers for it in between; then the gate opens, then it is announced.
fn open(address: &IpAddr, wanted: &WantedAddress, link: &Link, actual: &Actual) -> Vec<Step> {
    let before = actual.entries.get(address).copied();
    let was_open =
        before.is_some_and(|entry| entry.has(flags::OPEN) && entry.ifindex == link.index);
    let here = |at: &&Presence| at.ifindex == link.index;
    let present = actual.presences(address).iter().find(here).copied();
    let added = present.is_none_or(|at| actual.added(address, at));

    let mut goal = goal(address, wanted, link);
    goal.flags |= flags::LOCAL | if added { flags::ADDED } else { 0 };
    let opened = Address {
        flags: goal.flags | flags::OPEN,
        ..goal
    };

    let mut steps = Vec::new();
    for at in actual.presences(address) {
        if at.ifindex != link.index && actual.added(address, *at) {
            steps.push(Step::Delete {
                ifindex: at.ifindex,
            });
        }
    }
    if present.is_none() {
        // Somebody deleted an address that is open: it goes back without a pause of silence.
        let entry = if was_open { opened } else { goal };
        if before != Some(entry) {
            steps.push(Step::Write(entry));
        }
        steps.push(Step::Add {
            ifindex: link.index,
        });
        if !was_open {
            steps.push(Step::Write(opened));
        }
    } else if before != Some(opened) {
        steps.push(Step::Write(opened));
    }
    let announced = before.filter(|_| was_open);
    if announced.is_none_or(|entry| entry.epoch != goal.epoch || entry.mac != goal.mac) {
        steps.push(Step::Announce(Target::of(&goal)));
    }
    steps
}

/// Takes off what vipd added; then the entry becomes `goal`, or is forgotten. While the address
/// stays on an interface by somebody else's hand, the entry says LOCAL and so fences it.
fn tidy(address: &IpAddr, goal: Option<Address>, actual: &Actual) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut foreign = 0;
    for at in actual.presences(address) {
        if actual.added(address, *at) {
            steps.push(Step::Delete {
                ifindex: at.ifindex,
            });
        } else {
            foreign = flags::LOCAL;
        }
    }
    let before = actual.entries.get(address).copied().map(shut);
    match goal {
        Some(mut goal) => {
            goal.flags |= foreign;
            // Fenced from the moment it is known, also while it is still on an interface.
            if before.is_none() && !steps.is_empty() {
                let flags = goal.flags | flags::LOCAL;
                steps.insert(0, Step::Write(Address { flags, ..goal }));
            }
            if before != Some(goal) {
                steps.push(Step::Write(goal));
            }
        }
        None if before.is_some() => steps.push(Step::Forget),
        None => {}
    }
    steps
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
