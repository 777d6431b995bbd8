//! `/v1/cluster`: leader, quorum, members. Who asks for it without a quorum asks with `consistency=local`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use vipd_api_types::{AddMember, Cluster, JoinToken, JoinTokenRequest, Problem, Removed, Snapshot};
use vipd_core::id::NodeId;

use crate::clock::rfc3339;
use crate::control::ControlError;
use crate::convert::node::role_from_wire;
use crate::convert::{self, known_name};
use crate::erased::Daemon;
use crate::params::{Params, Path, ReadParams, WriteParams};
use crate::problem::Refusal;
use crate::routes::removal;
use crate::strict::Strict;

/// The longest life of a join token.
const MAX_TTL: u64 = 366 * 24 * 3600;

/// Leader, quorum and members, as this node sees them; with `consistency=local` without a quorum too.
#[utoipa::path(get, path = "/v1/cluster", tag = "cluster", operation_id = "get_cluster", params(ReadParams),
    responses((status = 200, body = Cluster), (status = "default", body = Problem)))]
pub(super) async fn get(
    State(daemon): State<Daemon>,
    Params(params): Params<ReadParams>,
) -> Result<Json<Cluster>, Refusal> {
    params.ready(&daemon).await?;
    Ok(Json(seen(&daemon)))
}

/// Whether a node has a vote, or is given one by itself.
///
/// A voter or witness is given its vote when it has caught up; `voting` says whether it has. An agent is refused: its way to a vote
/// is to be removed, and to join anew with a voter's token.
#[utoipa::path(post, path = "/v1/cluster/members", tag = "cluster", operation_id = "add_member",
    request_body = AddMember, responses((status = 200, body = Cluster), (status = "default", body = Problem)))]
pub(super) async fn add_member(
    State(daemon): State<Daemon>,
    Params(NoParams {}): Params<NoParams>,
    Strict(body): Strict<AddMember>,
) -> Result<Json<Cluster>, Refusal> {
    daemon.linearize().await?;
    let node = id(&daemon, &body.name)?;
    let role = daemon.read(|state| state.node(node).map(|node| node.role));
    match role {
        None => Err(Refusal::not_found("node", &body.name)),
        Some(role) if role.votes() => Ok(Json(seen(&daemon))),
        Some(role) => Err(ControlError::Refused {
            what: format!("node {} joined as {role}, which has no vote", body.name),
            next: format!(
                "remove it (vipctl cluster remove {}), and join it again with a token for a voter: vipctl cluster token --role voter",
                body.name
            ),
        }
        .into()),
    }
}

/// Remove a node for good: its vote, then its record. Its number is never used again.
#[utoipa::path(delete, path = "/v1/cluster/members/{name}", tag = "cluster", operation_id = "remove_member",
    params(("name" = String, Path), WriteParams),
    responses((status = 200, body = Removed), (status = "default", body = Problem)))]
pub(super) async fn remove_member(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
) -> Result<Response, Refusal> {
    if params.dry_run {
        return removal::tried(&daemon, &name).await;
    }
    let node = id(&daemon, &name)?;
    daemon.remove_member(node).await?;
    Ok(Json(Removed::Done(seen(&daemon))).into_response())
}

/// Have this node write a snapshot of its state now.
#[utoipa::path(post, path = "/v1/cluster/snapshot", tag = "cluster", operation_id = "snapshot",
    responses((status = 200, body = Snapshot), (status = "default", body = Problem)))]
pub(super) async fn snapshot(
    State(daemon): State<Daemon>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<Snapshot>, Refusal> {
    Ok(Json(Snapshot {
        index: daemon.snapshot().await?,
    }))
}

/// Make a token for `vipd join`. It is shown once.
#[utoipa::path(post, path = "/v1/cluster/tokens", tag = "cluster", operation_id = "create_join_token",
    request_body = JoinTokenRequest,
    responses((status = 201, body = JoinToken), (status = "default", body = Problem)))]
pub(super) async fn join_token(
    State(daemon): State<Daemon>,
    Params(NoParams {}): Params<NoParams>,
    Strict(body): Strict<JoinTokenRequest>,
) -> Result<(StatusCode, Json<JoinToken>), Refusal> {
    if body.ttl_seconds == 0 || body.ttl_seconds > MAX_TTL {
        return Err(Refusal::invalid(format!(
            "ttl_seconds {} is not 1 to {MAX_TTL} (a year)",
            body.ttl_seconds
        )));
    }
    if body.uses == 0 {
        return Err(Refusal::invalid(
            "uses 0 would make a token that nobody can use",
        ));
    }
    let ttl = Duration::from_secs(body.ttl_seconds);
    let ticket = daemon
        .join_token(role_from_wire(body.role), ttl, body.uses)
        .await?;
    let (token, command, expires) = (ticket.token, ticket.command, rfc3339(ticket.expires));
    Ok((
        StatusCode::CREATED,
        Json(JoinToken {
            token,
            command,
            expires,
        }),
    ))
}

/// No query parameter, so that a `dry_run` of what has none is refused, never carried out.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParams {}

fn seen(daemon: &Daemon) -> Cluster {
    let local = daemon.local();
    daemon.read(|state| convert::cluster::to_wire(state, &local))
}

fn id(daemon: &Daemon, name: &str) -> Result<NodeId, Refusal> {
    let known = known_name("node", name)?;
    let id = daemon.read(|state| state.node_named(&known).map(|node| node.id));
    id.ok_or_else(|| Refusal::not_found("node", name))
}
