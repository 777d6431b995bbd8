//! What a write would do to addresses: the difference of two states.

use std::net::IpAddr;

use vipd_api_types::{Change, ChangeKind};
use vipd_core::id::NodeId;
use vipd_core::state::State;
use vipd_core::vip::Allocation;

/// Every address that `after` gives, takes or moves, in order of addresses.
pub(crate) fn changes(before: &State, after: &State) -> Vec<Change> {
    let released = before.allocations().iter().filter_map(|(address, old)| {
        let kept = after
            .allocations()
            .get(address)
            .is_some_and(|new| !new.freeing && new.vip == old.vip);
        (!kept && !old.freeing).then(|| {
            change(
                ChangeKind::Released,
                *address,
                old,
                name(before, old.holder),
                None,
            )
        })
    });
    let others = after
        .allocations()
        .iter()
        .filter(|(_, new)| !new.freeing)
        .filter_map(|(address, new)| {
            let to = new.destination();
            match before
                .allocations()
                .get(address)
                .filter(|old| !old.freeing && old.vip == new.vip)
            {
                None => Some(change(
                    ChangeKind::Allocated,
                    *address,
                    new,
                    None,
                    name(after, to),
                )),
                Some(old) => (old.destination() != to).then(|| {
                    change(
                        ChangeKind::Moved,
                        *address,
                        new,
                        name(before, old.holder),
                        name(after, to),
                    )
                }),
            }
        });
    let mut changes: Vec<_> = released.chain(others).collect();
    changes.sort_by_key(|change| change.address);
    changes
}

fn change(
    kind: ChangeKind,
    address: IpAddr,
    of: &Allocation,
    from: Option<String>,
    to: Option<String>,
) -> Change {
    Change {
        kind,
        vip: of.vip.to_string(),
        address,
        from,
        to,
    }
}

fn name(state: &State, node: Option<NodeId>) -> Option<String> {
    node.and_then(|id| state.node(id))
        .map(|node| node.name.to_string())
}
