//! `/v1/nodes`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use vipd_api_types::{List, Node, NodePatch, Problem};
use vipd_core::command::Command;
use vipd_core::name::Name;
use vipd_core::node::Weight;
use vipd_core::state::State as Cluster;

use crate::control::LocalStatus;
use crate::convert::{self, known_name};
use crate::erased::Daemon;
use crate::params::{Params, ReadParams, WriteParams, expect, unconditional};
use crate::problem::Refusal;
use crate::strict::Strict;
use crate::write;

/// All nodes.
#[utoipa::path(get, path = "/v1/nodes", tag = "nodes", operation_id = "list_nodes", params(ReadParams),
    responses((status = 200, body = List<Node>), (status = "default", body = Problem)))]
pub(super) async fn list(
    State(daemon): State<Daemon>,
    Params(params): Params<ReadParams>,
) -> Result<Json<List<Node>>, Refusal> {
    params.ready(&daemon).await?;
    let local = daemon.local();
    let mut nodes = daemon.read(|state| List {
        revision: state.applied(),
        items: state
            .nodes()
            .values()
            .map(|node| convert::node::to_wire(state, &local, node))
            .collect::<Vec<_>>(),
    });
    nodes.items.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Json(nodes))
}

/// One node.
#[utoipa::path(get, path = "/v1/nodes/{name}", tag = "nodes", operation_id = "get_node",
    params(("name" = String, Path), ReadParams),
    responses((status = 200, body = Node), (status = "default", body = Problem)))]
pub(super) async fn get(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<ReadParams>,
) -> Result<Response, Refusal> {
    params.ready(&daemon).await?;
    let local = daemon.local();
    let node = daemon.read(|state| view(state, &local, &known_name("node", &name).ok()?));
    let node = node.ok_or_else(|| Refusal::not_found("node", &name))?;
    Ok(write::object(&node, node.revision))
}

/// Change labels, weight or drain of a node: a merge patch. `If-Match: "revision"` for compare-and-set.
#[utoipa::path(patch, path = "/v1/nodes/{name}", tag = "nodes", operation_id = "patch_node", request_body = NodePatch,
    params(("name" = String, Path), WriteParams),
    responses((status = 200, body = Node), (status = "default", body = Problem)))]
pub(super) async fn patch(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
    Strict(body): Strict<NodePatch>,
) -> Result<Response, Refusal> {
    let name = known_name("node", &name)?;
    let weight = body.spec.weight.map(Weight::new).transpose();
    let command = Command::SetNode {
        node: name.clone(),
        weight: weight.map_err(Refusal::invalid)?,
        labels: body.spec.labels,
        drained: body.spec.drained,
        expect: expect(&headers)?,
    };
    write::write(&daemon, command, params, |seen, local| {
        seen.read(|state| view(state, local, &name))
    })
    .await
}

/// Take every address off a node and keep them off. It lets go first, so the answer may still show it holding.
#[utoipa::path(post, path = "/v1/nodes/{name}/drain", tag = "nodes", operation_id = "drain_node",
    params(("name" = String, Path), WriteParams),
    responses((status = 200, body = Node), (status = "default", body = Problem)))]
pub(super) async fn drain(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    unconditional(&headers)?;
    set_drained(&daemon, &name, true, params).await
}

/// Let a drained node hold addresses again.
#[utoipa::path(post, path = "/v1/nodes/{name}/undrain", tag = "nodes", operation_id = "undrain_node",
    params(("name" = String, Path), WriteParams),
    responses((status = 200, body = Node), (status = "default", body = Problem)))]
pub(super) async fn undrain(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    unconditional(&headers)?;
    set_drained(&daemon, &name, false, params).await
}

async fn set_drained(
    daemon: &Daemon,
    name: &str,
    drained: bool,
    params: WriteParams,
) -> Result<Response, Refusal> {
    let name = known_name("node", name)?;
    let command = Command::SetDrained {
        node: name.clone(),
        drained,
    };
    write::write(daemon, command, params, |seen, local| {
        seen.read(|state| view(state, local, &name))
    })
    .await
}

fn view(state: &Cluster, local: &LocalStatus, name: &Name) -> Option<Node> {
    state
        .node_named(name)
        .map(|node| convert::node::to_wire(state, local, node))
}
