//! The difference between what is wanted and what is, as steps. Pure: the same function serves
//! the quick path (against the last known state) and the audit (against what was read back).

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

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
    /// Flags that balancing adds to the entries of addresses.
    pub(crate) marks: Arc<BTreeMap<IpAddr, u32>>,
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
    // The entries as they are once the first steps are done.
    let mut actual_then = None;
    for (address, entry) in &actual.entries {
        let wanted = wanted.addresses.get(address).filter(|wanted| {
            let link = actual.links.get(&wanted.interface);
            link.is_some_and(|link| link.index == entry.ifindex)
        });
        let Some(less) = less(entry, wanted) else {
            continue;
        };
        let mut steps = vec![Step::Write(less)];
        if entry.has(flags::OPEN) {
            steps.insert(0, Step::Silence);
        }
        plan.shut.push((*address, steps));
        let then: &mut Actual = actual_then.get_or_insert_with(|| actual.clone());
        then.entries.insert(*address, less);
    }
    let actual = actual_then.as_ref().unwrap_or(actual);
    for (address, wanted) in &wanted.addresses {
        let Some(link) = actual.links.get(&wanted.interface) else {
            plan.homeless.push((*address, wanted.interface.clone()));
            push(&mut plan.tidy, *address, tidy(address, None, actual));
            continue;
        };
        let marks = actual.marks.get(address).copied().unwrap_or(0);
        let goal = goal(address, wanted, link, marks);
        match wanted.gate {
            Gate::Open | Gate::Take { .. } => {
                push(&mut plan.open, *address, claim(address, goal, actual));
            }
            Gate::Shut | Gate::Hand { .. } => {
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

/// Flags by which a node speaks for an address, or has another one speak for it.
const SPEAKS: u32 = flags::OPEN | flags::TAKE | flags::HAND | flags::LEASED;

/// The entry without what it may no longer do; `None` if it may do all that it does. `wanted` is what is wanted of it on
/// its interface. A holder that is to hand on does so with this same write.
fn less(entry: &Address, wanted: Option<&WantedAddress>) -> Option<Address> {
    let mut shut = Address {
        flags: entry.flags & !SPEAKS,
        peer: [0; 6],
        until: 0,
        ..*entry
    };
    let stays = match wanted.map(|wanted| wanted.gate) {
        Some(Gate::Open) => !entry.has(flags::HAND),
        Some(Gate::Take { from }) => entry.has(flags::TAKE) && entry.peer == from,
        Some(Gate::Hand {
            to,
            until_ns,
            leased,
        }) if entry.has(flags::OPEN) => {
            shut.flags |= handing(leased);
            (shut.peer, shut.until) = (to, until_ns);
            false
        }
        Some(Gate::Hand { to, .. }) => entry.has(flags::HAND) && entry.peer == to,
        Some(Gate::Shut) | None => false,
    };
    (entry.flags & SPEAKS != 0 && !stays).then_some(shut)
}

/// Whether an entry does what is not wanted, so that two nodes could speak for its address.
pub(crate) fn oversteps(entry: &Address, gate: Option<Gate>) -> bool {
    let (opens, takes, hands) = match gate {
        Some(Gate::Open) => (true, true, false),
        Some(Gate::Take { .. }) => (false, true, false),
        Some(Gate::Hand { .. }) => (false, false, true),
        Some(Gate::Shut) | None => (false, false, false),
    };
    (entry.has(flags::OPEN) && !opens)
        || (entry.has(flags::TAKE) && !takes)
        || (hands_as_holder(entry) && !hands)
}

/// It hands on in the right of this node, which is the holder: whom it hands to may speak for a moment after it stops.
fn hands_as_holder(entry: &Address) -> bool {
    entry.has(flags::HAND) && entry.has(flags::LEASED)
}

/// The flags of who hands on.
fn handing(leased: bool) -> u32 {
    flags::HAND | if leased { flags::LEASED } else { 0 }
}

fn push(list: &mut Vec<(IpAddr, Vec<Step>)>, address: IpAddr, steps: Vec<Step>) {
    if !steps.is_empty() {
        list.push((address, steps));
    }
}

/// The entry as wanted, without LOCAL and ADDED: those follow from what is.
fn goal(address: &IpAddr, wanted: &WantedAddress, link: &Link, marks: u32) -> Address {
    let router = address.is_ipv6() && link.router;
    let (duty, peer, until) = match wanted.gate {
        Gate::Open => (flags::OPEN, [0; 6], 0),
        Gate::Shut => (0, [0; 6], 0),
        Gate::Hand {
            to,
            until_ns,
            leased,
        } => (handing(leased), to, until_ns),
        Gate::Take { from } => (flags::TAKE, from, 0),
    };
    Address {
        epoch: wanted.epoch,
        until,
        ifindex: link.index,
        flags: duty | marks | if router { flags::ROUTER } else { 0 },
        mac: link.mac,
        peer,
        reserved: [0; 4],
    }
}

/// The address comes onto the interface while its entry is there but shut, so neither the kernel
/// nor anybody else answers for it in between; then the gate opens, then it is announced. The same
/// for one that is taken, but for the announcement.
fn claim(address: &IpAddr, mut goal: Address, actual: &Actual) -> Vec<Step> {
    let before = actual.entries.get(address).copied();
    let speaks = |flag| before.is_some_and(|it| it.has(flag) && it.ifindex == goal.ifindex);
    let was_open = speaks(flags::OPEN);
    let speaks = was_open || speaks(flags::TAKE);
    let here = |at: &&Presence| at.ifindex == goal.ifindex;
    let present = actual.presences(address).iter().find(here).copied();
    let added = present.is_none_or(|at| actual.added(address, at));
    goal.flags |= flags::LOCAL | if added { flags::ADDED } else { 0 };
    let shut = Address {
        flags: goal.flags & !SPEAKS,
        peer: [0; 6],
        ..goal
    };

    let mut steps = Vec::new();
    for at in actual.presences(address) {
        if at.ifindex != goal.ifindex && actual.added(address, *at) {
            steps.push(Step::Delete {
                ifindex: at.ifindex,
            });
        }
    }
    if present.is_none() {
        // Somebody deleted an address that is open: it goes back without a pause of silence.
        let entry = if speaks { goal } else { shut };
        if before != Some(entry) {
            steps.push(Step::Write(entry));
        }
        steps.push(Step::Add {
            ifindex: goal.ifindex,
        });
        if !speaks {
            steps.push(Step::Write(goal));
        }
    } else if before != Some(goal) {
        steps.push(Step::Write(goal));
    }
    let announced = before.filter(|_| was_open);
    let news = announced.is_none_or(|entry| entry.epoch != goal.epoch || entry.mac != goal.mac);
    if goal.has(flags::OPEN) && news {
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
    let before = actual.entries.get(address).copied();
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
