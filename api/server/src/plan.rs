//! What a write would do to addresses: the difference of two states.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vipd_api_types::{Change, ChangeKind, Load};
use vipd_core::id::NodeId;
use vipd_core::name::Name;
use vipd_core::state::State;

/// Every address that `after` gives, takes or moves, once for each VIP that has it, in order of addresses.
pub(crate) fn changes(before: &State, after: &State) -> Vec<Change> {
    let released = before.allocations().iter().flat_map(|(address, old)| {
        let new = after.allocations().get(&address).filter(|new| !new.freeing);
        let gone = move |vip: &&Name| !old.freeing && !new.is_some_and(|new| new.is_of(vip));
        let from = name(before, old.holder);
        let release = move |vip| change(ChangeKind::Released, address, vip, from.clone(), None);
        old.vips().filter(gone).map(release)
    });
    let others = after.allocations().iter().flat_map(|(address, new)| {
        let old = before
            .allocations()
            .get(&address)
            .filter(|old| !old.freeing);
        let to = new.destination();
        let now = new.vips().filter(|_| !new.freeing);
        now.filter_map(move |vip| match old.filter(|old| old.is_of(vip)) {
            None => Some(change(
                ChangeKind::Allocated,
                address,
                vip,
                None,
                name(after, to),
            )),
            Some(old) => (old.destination() != to).then(|| {
                let from = name(before, old.holder);
                change(ChangeKind::Moved, address, vip, from, name(after, to))
            }),
        })
    });
    let mut changes: Vec<_> = released.chain(others).collect();
    changes.sort_by_key(|change| change.address);
    changes
}

/// What happens to every address when no majority is left: nobody answers.
pub(crate) fn silence(state: &State) -> Vec<Change> {
    let held = state.allocations().iter();
    let held = held.filter(|(_, of)| of.holder.is_some() && !of.freeing);
    held.map(|(address, of)| {
        let from = name(state, of.holder);
        change(ChangeKind::Moved, address, &of.vip, from, None)
    })
    .collect()
}

/// How many addresses each node will hold, before and after, by name.
pub(crate) fn loads(before: &State, after: &State) -> Vec<Load> {
    let (had, has) = (destinations(before), destinations(after));
    let of = |counts: &BTreeMap<NodeId, u64>, id| counts.get(&id).copied().unwrap_or(0);
    let mut loads: Vec<Load> = after
        .nodes()
        .values()
        .filter(|node| node.role.holds())
        .map(|node| Load {
            node: node.name.to_string(),
            weight: node.weight.get(),
            before: of(&had, node.id),
            after: of(&has, node.id),
        })
        .collect();
    loads.sort_by(|a, b| a.node.cmp(&b.node));
    loads
}

fn destinations(state: &State) -> BTreeMap<NodeId, u64> {
    let mut counts = BTreeMap::new();
    let all = state.allocations().values();
    for node in all.filter_map(|of| of.destination()) {
        *counts.entry(node).or_default() += 1;
    }
    counts
}

fn change(
    kind: ChangeKind,
    address: IpAddr,
    vip: &Name,
    from: Option<String>,
    to: Option<String>,
) -> Change {
    Change {
        kind,
        vip: vip.to_string(),
        address,
        from,
        to,
    }
}

fn name(state: &State, node: Option<NodeId>) -> Option<String> {
    node.and_then(|id| state.node(id))
        .map(|node| node.name.to_string())
}
