//! The cluster as this node sees it.

use vipd_api_types as wire;
use vipd_core::node::{Lease, VoterSets};
use vipd_core::state::State;

use super::node::role_to_wire;
use super::node_name;
use crate::control::LocalStatus;

/// Leader, quorum and members.
pub(crate) fn to_wire(state: &State, local: &LocalStatus) -> wire::Cluster {
    let sets = state.voters().map(|(_, sets)| sets);
    let voting = sets.map(VoterSets::voters).unwrap_or_default();
    let largest = sets
        .and_then(|sets| sets.sets.iter().map(|set| set.len()).max())
        .unwrap_or_default();
    let mut members: Vec<_> = state
        .nodes()
        .values()
        .map(|node| wire::Member {
            name: node.name.to_string(),
            id: node.id.0,
            role: role_to_wire(node.role),
            voting: voting.contains(&node.id),
            leader: local.leader == Some(node.id),
            up: node.lease == Lease::Up,
            peer: node.peer.to_string(),
        })
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    wire::Cluster {
        answered_by: local.name.clone(),
        version: local.version.clone(),
        leader: local.leader.map(|id| node_name(state, id)),
        term: local.term,
        commit: local.committed,
        applied: state.applied(),
        quorum: wire::Quorum {
            ok: local.quorum_ok,
            voters: count(voting.len()),
            needed: count(if largest == 0 { 0 } else { largest / 2 + 1 }),
        },
        members,
        conditions: conditions(local, sets),
    }
}

fn conditions(local: &LocalStatus, sets: Option<&VoterSets>) -> Vec<wire::Condition> {
    let complaint = |kind: &str, reason: &str, message: &str| wire::Condition {
        kind: kind.to_owned(),
        status: false,
        reason: reason.to_owned(),
        message: message.to_owned(),
        since: None,
    };
    let mut conditions = Vec::new();
    if local.frozen {
        let message = "this node answers without a majority of the voters (lease.on_quorum_loss = freeze): if the \
                       majority is alive elsewhere, two nodes answer";
        conditions.push(complaint("quorum", "frozen", message));
    } else if !local.quorum_ok {
        let message =
            "a majority of the voters is out of reach: holders go silent, nothing can be changed";
        conditions.push(complaint("quorum", "no_quorum", message));
    }
    if sets.is_some_and(|sets| sets.sets.len() > 1) {
        conditions.push(complaint(
            "membership",
            "joint",
            "the voters are being changed",
        ));
    }
    if let Some(late) = &local.beats_late {
        conditions.push(complaint("beats", "beats_late", late));
    }
    if let Some(fault) = &local.datapath_fault {
        conditions.push(complaint("datapath", "datapath_fault", fault));
    }
    conditions
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
