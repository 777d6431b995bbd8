//! Nodes.

use std::time::Duration;

use vipd_api_types as wire;
use vipd_core::node::{Lease, Node, Role};
use vipd_core::state::State;

use crate::control::LocalStatus;

pub(crate) fn role_to_wire(role: Role) -> wire::MemberRole {
    match role {
        Role::Voter => wire::MemberRole::Voter,
        Role::Agent => wire::MemberRole::Agent,
        Role::Witness => wire::MemberRole::Witness,
    }
}

pub(crate) fn role_from_wire(role: wire::MemberRole) -> Role {
    match role {
        wire::MemberRole::Voter => Role::Voter,
        wire::MemberRole::Agent => Role::Agent,
        wire::MemberRole::Witness => Role::Witness,
    }
}

/// A node, and what this node knows of it.
pub(crate) fn to_wire(state: &State, local: &LocalStatus, node: &Node) -> wire::Node {
    let here = node.id == local.node;
    wire::Node {
        name: node.name.to_string(),
        id: node.id.0,
        revision: node.revision.0,
        spec: wire::NodeSpec {
            labels: node.labels(),
            weight: node.weight.get(),
            drained: node.drained,
        },
        status: wire::NodeStatus {
            role: role_to_wire(node.role),
            leader: local.leader == Some(node.id),
            up: node.lease == Lease::Up,
            retiring: node.retiring,
            lease: wire::Lease {
                epoch: node.epoch.0,
                expires_in_ms: local.lease_remaining.filter(|_| here).map(milliseconds),
            },
            last_seen_ms: local.last_seen.get(&node.id).copied().map(milliseconds),
            peer: node.peer.to_string(),
            interfaces: node
                .interfaces
                .iter()
                .map(|interface| wire::Interface {
                    name: interface.name.clone(),
                    up: interface.up,
                    prefixes: interface.prefixes.iter().map(ToString::to_string).collect(),
                    xdp: local.xdp.get(&interface.name).filter(|_| here).cloned(),
                })
                .collect(),
            held: state.held_by(node.id).map(|(address, _)| address).collect(),
            version: node.version.clone(),
            balance: local.bounds.filter(|_| here),
            conditions: conditions(local, node, here),
        },
    }
}

fn conditions(local: &LocalStatus, node: &Node, here: bool) -> Vec<wire::Condition> {
    let complaint = |kind: &str, reason: &str, message: String| wire::Condition {
        kind: kind.to_owned(),
        status: false,
        reason: reason.to_owned(),
        message,
        since: None,
    };
    let mut conditions = Vec::new();
    if node.role.holds()
        && node.lease == Lease::Up
        && node.interfaces.iter().all(|interface| !interface.up)
    {
        conditions.push(complaint(
            "eligible",
            "no_interface",
            "no interface is up to announce on".to_owned(),
        ));
    }
    if let Some(late) = local.beats_late.as_ref().filter(|_| here) {
        conditions.push(complaint("beats", "beats_late", late.clone()));
    }
    if let Some(fault) = local.datapath_fault.as_ref().filter(|_| here) {
        conditions.push(complaint("datapath", "datapath_fault", fault.clone()));
    }
    conditions
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
