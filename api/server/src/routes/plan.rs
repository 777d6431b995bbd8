//! `/v1/plan` and `/v1/cluster/rebalance`: where addresses would go, worked out by the very code that moves them.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;
use vipd_api_types::{Plan, Problem, Rebalance};
use vipd_core::command::{Command, Proposal};
use vipd_core::lease::Timing;
use vipd_core::name::Name;
use vipd_core::node::{Lease, Node};
use vipd_core::state::State as Cluster;
use vipd_core::time::Span;

use crate::audit;
use crate::clock;
use crate::convert::known_name;
use crate::erased::Daemon;
use crate::params::{Consistency, Params, ReadParams, WriteParams};
use crate::plan::{changes, loads, silence};
use crate::problem::Refusal;
use crate::write;

/// What one write to a disk is reckoned with. Slower disks add the difference to every figure.
const SYNC: Span = Span::millis(5);

/// Which node, and how it would go.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PlanParams {
    /// How current the answer must be.
    #[serde(default)]
    #[param(inline)]
    consistency: Consistency,
    /// Name of the node that would be lost, without a word.
    without: Option<String>,
    /// Name of the node that would be drained. One of the two.
    drain: Option<String>,
}

/// What would become of addresses if a node were lost, or drained. Changes nothing.
#[utoipa::path(get, path = "/v1/plan", tag = "cluster", operation_id = "plan", params(PlanParams),
    responses((status = 200, body = Plan), (status = "default", body = Problem)))]
pub(super) async fn plan(
    State(daemon): State<Daemon>,
    Params(params): Params<PlanParams>,
) -> Result<Response, Refusal> {
    let (name, drained) = match (params.without, params.drain) {
        (Some(name), None) => (name, false),
        (None, Some(name)) => (name, true),
        (None, None) | (Some(_), Some(_)) => {
            return Err(Refusal::bad_request(
                "bad_query",
                "a plan is about one node that is lost, or drained",
                "give either without=NODE or drain=NODE",
            ));
        }
    };
    let reads = ReadParams {
        consistency: params.consistency,
    };
    reads.ready(&daemon).await?;
    let local = daemon.local();
    let known = known_name("node", &name)?;
    let place = daemon.room.answer(&audit::asker()?)?;
    let _turn = daemon.room.make().await?;
    let before = daemon.read(Cluster::clone);
    let node = before.node_named(&known);
    let node = node.ok_or_else(|| Refusal::not_found("node", &name))?;
    let quorum = drained || keeps_quorum(&before, node);
    let after = match gone(node, &known, drained, &before) {
        Some(command) => applied(&before, command)?,
        None => before.clone(),
    };
    let led = local.leader == Some(node.id);
    let within = if drained {
        Timing::planned(SYNC)
    } else {
        local.timing.takeover(SYNC, led)
    };
    let plan = Plan {
        without: name,
        drained,
        changes: if quorum {
            changes(&before, &after)
        } else {
            silence(&before)
        },
        loads: loads(&before, &after),
        quorum,
        within_ms: quorum.then_some(within.as_millis()),
        estimate: estimate(&local.timing, drained, led),
    };
    Ok(place.held(Json(plan).into_response()))
}

/// Bring every node within one address of its share, with as few moves as that takes.
#[utoipa::path(post, path = "/v1/cluster/rebalance", tag = "cluster", operation_id = "rebalance", params(WriteParams),
    responses((status = 200, body = Rebalance), (status = "default", body = Problem)))]
pub(super) async fn rebalance(
    State(daemon): State<Daemon>,
    Params(params): Params<WriteParams>,
) -> Result<Response, Refusal> {
    daemon.linearize().await?;
    let place = daemon.room.answer(&audit::asker()?)?;
    let _turn = daemon.room.make().await?;
    let before = daemon.read(Cluster::clone);
    let after = if params.dry_run {
        applied(&before, Command::Rebalance)?
    } else {
        write::propose(&daemon, Command::Rebalance).await?;
        daemon.read(Cluster::clone)
    };
    let done = Rebalance {
        dry_run: params.dry_run,
        changes: changes(&before, &after),
        loads: loads(&before, &after),
    };
    Ok(place.held(Json(done).into_response()))
}

/// The entry that the node's going would make; none for one that is gone already.
pub(super) fn gone(node: &Node, name: &Name, drained: bool, state: &Cluster) -> Option<Command> {
    if drained {
        let node = name.clone();
        return Some(Command::SetDrained {
            node,
            drained: true,
        });
    }
    (node.lease == Lease::Up).then(|| Command::NodeDown {
        node: node.id,
        epoch: node.epoch,
        membership: state.voters().map_or(0, |(index, _)| index),
    })
}

pub(super) fn applied(before: &Cluster, command: Command) -> Result<Cluster, Refusal> {
    let mut after = before.clone();
    let at = clock::now();
    after.apply(
        before.applied() + 1,
        &Proposal {
            at,
            command,
            by: None,
        },
    )?;
    Ok(after)
}

/// Whether a majority of the voters would be up without this node.
pub(super) fn keeps_quorum(state: &Cluster, without: &Node) -> bool {
    let up = |id| {
        let node = state.node(id);
        id != without.id && node.is_some_and(|node| node.lease == Lease::Up)
    };
    state.voters().is_none_or(|(_, sets)| sets.majority(up))
}

fn estimate(timing: &Timing, drained: bool, led: bool) -> String {
    let (lease, promise, sync) = (
        timing.lease.as_millis(),
        timing.promise().as_millis(),
        SYNC.as_millis(),
    );
    if drained {
        return format!("two entries of the log, on disks that sync within {sync} ms");
    }
    let election = if led {
        ", and to elect another leader"
    } else {
        ""
    };
    format!(
        "the voters' promise of {promise} ms (lease of {lease} ms), then the time to fence and to commit{election}, \
         on disks that sync within {sync} ms"
    )
}
