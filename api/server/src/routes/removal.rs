//! What the removal of a member would come to: `DELETE /v1/cluster/members/{name}?dry_run=true`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use vipd_api_types::{Quorum, Removal, Removed};
use vipd_core::command::Command;
use vipd_core::node::{Lease, Node};
use vipd_core::state::State as Cluster;

use crate::audit;
use crate::convert::known_name;
use crate::erased::Daemon;
use crate::plan::{changes, silence};
use crate::problem::Refusal;
use crate::routes::plan::{applied, gone, keeps_quorum};

/// The same is judged again, by the leader, when it is meant.
pub(super) async fn tried(daemon: &Daemon, name: &str) -> Result<Response, Refusal> {
    let known = known_name("node", name)?;
    daemon.may_propose(&Command::RemoveNode {
        node: known.clone(),
    })?;
    daemon.linearize().await?;
    // As much work as a plan: it is one.
    let place = daemon.room.answer(&audit::asker()?)?;
    let _turn = daemon.room.make().await?;
    let before = daemon.read(Cluster::clone);
    let node = before.node_named(&known);
    let node = node.ok_or_else(|| Refusal::not_found("node", name))?;
    let ok = keeps_quorum(&before, node);
    let voters = voters_without(&before, node);
    let after = match gone(node, &known, false, &before) {
        Some(command) => applied(&before, command)?,
        None => before.clone(),
    };
    let tried = Removed::Tried(Removal {
        dry_run: true,
        name: name.to_owned(),
        refused: refused(node, voters, ok),
        quorum: Quorum {
            ok,
            voters,
            needed: if voters == 0 { 0 } else { voters / 2 + 1 },
        },
        changes: match ok {
            true => changes(&before, &after),
            false => silence(&before),
        },
    });
    Ok(place.held(Json(tried).into_response()))
}

/// How many voters there would be.
fn voters_without(state: &Cluster, node: &Node) -> u32 {
    let mut voters = state
        .voters()
        .map(|(_, sets)| sets.voters())
        .unwrap_or_default();
    voters.remove(&node.id);
    u32::try_from(voters.len()).unwrap_or(u32::MAX)
}

/// Why it can't be removed now. Its vote is taken by a majority of the voters without it: it has to be stopped before.
fn refused(node: &Node, voters: u32, quorum: bool) -> Option<String> {
    let name = &node.name;
    if voters == 0 {
        return Some(format!(
            "node {name} is the last voter: a cluster cannot be without one"
        ));
    }
    if !quorum {
        return Some(format!(
            "with node {name} stopped no majority of the present voters is up, and nothing can be decided, nor can it be removed"
        ));
    }
    match node.lease {
        Lease::Up => Some(format!(
            "node {name} is up: stop vipd on it first, or wait until its lease is withdrawn"
        )),
        Lease::Never | Lease::Down => None,
    }
}
