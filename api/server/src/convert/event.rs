//! Events, with nodes by name.

use vipd_api_types as wire;
use vipd_core::event::{Event, What};
use vipd_core::id::NodeId;
use vipd_core::notice::Notice;
use vipd_core::state::State;

use super::node_name;
use crate::clock::rfc3339;

/// One event.
pub(crate) fn to_wire(state: &State, event: &Event) -> wire::Event {
    let (kind, object) = subject(&event.what);
    wire::Event {
        seq: event.seq,
        revision: event.revision.0,
        at: rfc3339(event.at),
        kind,
        object,
        message: message(state, &event.what),
        who: event.by.as_ref().map(|by| by.who.to_string()),
        via: event.by.as_ref().map(|by| node_name(state, by.node)),
    }
}

fn subject(what: &What) -> (wire::EventKind, String) {
    use wire::EventKind::{Access, Allocation, Health, Holder, Membership, Node, Object, Warning};
    match what {
        What::PolicyPut { policy } | What::PolicyDeleted { policy } => {
            (Object, format!("policy/{policy}"))
        }
        What::PoolPut { pool } | What::PoolDeleted { pool } => (Object, format!("pool/{pool}")),
        What::VipPut { vip } | What::VipDeleted { vip } | What::VipMoved { vip, .. } => {
            (Object, format!("vip/{vip}"))
        }
        What::Rebalance { .. } | What::Restored { .. } => (Object, "cluster".to_owned()),
        What::TokenMade { token, .. } | What::TokenRevoked { token } => {
            (Access, format!("token/{token}"))
        }
        What::JoinTokenMade { .. } => (Access, "cluster".to_owned()),
        What::Allocated { vip, .. }
        | What::Freed { vip, .. }
        | What::Shared { vip, .. }
        | What::Unshared { vip, .. }
        | What::Unmet { vip, .. }
        | What::NotInUse { vip, .. }
        | What::Satisfied { vip } => (Allocation, format!("vip/{vip}")),
        What::InUse { vip, .. } | What::SetAside { vip, .. } => (Warning, format!("vip/{vip}")),
        What::HolderChanged { vip, .. } => (Holder, format!("vip/{vip}")),
        What::NodeUp { name, .. }
        | What::NodeDown { name, .. }
        | What::NodeRetiring { name, .. }
        | What::NodeSet { name, .. }
        | What::NodeDrained { name, .. } => (Node, format!("node/{name}")),
        What::InterfaceChanged { name, .. } => (Node, format!("node/{name}")),
        What::Noticed {
            name,
            notice: Notice::Refused { .. },
            ..
        } => (Access, format!("node/{name}")),
        What::Noticed {
            vip: Some(vip),
            notice: Notice::Backend { .. } | Notice::Sight { .. },
            ..
        } => (Health, format!("vip/{vip}")),
        What::Noticed { vip: Some(vip), .. } => (Warning, format!("vip/{vip}")),
        What::Noticed { name, .. } => (Warning, format!("node/{name}")),
        What::NodeJoined { name, .. } | What::NodeRemoved { name, .. } => {
            (Membership, format!("node/{name}"))
        }
        What::VotersChanged { .. } => (Membership, "cluster".to_owned()),
    }
}

fn message(state: &State, what: &What) -> String {
    match what {
        What::HolderChanged {
            address,
            vip: _,
            from,
            to,
            epoch,
            cause,
        } => {
            let name = |id: &Option<NodeId>| {
                id.map_or_else(|| "nobody".to_owned(), |id| node_name(state, id))
            };
            match from {
                Some(_) => format!(
                    "{address}: {} -> {}, epoch {epoch} ({cause})",
                    name(from),
                    name(to)
                ),
                None => format!("{address}: {}, epoch {epoch} ({cause})", name(to)),
            }
        }
        other => other.to_string(),
    }
}
