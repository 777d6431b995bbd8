//! `/v1/vips`.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use vipd_api_types::{List, MoveRequest, Problem, Vip, VipWrite};
use vipd_core::command::{Command, Expect};
use vipd_core::id::NodeId;
use vipd_core::name::Name;
use vipd_core::state::State as Cluster;

use crate::control::LocalStatus;
use crate::convert::{self, known_name, same_name};
use crate::erased::Daemon;
use crate::outlook::RunnersUp;
use crate::params::{Params, ReadParams, WriteParams, expect, unconditional};
use crate::problem::Refusal;
use crate::strict::Strict;
use crate::write::{self, Seen};

/// All VIPs.
#[utoipa::path(get, path = "/v1/vips", tag = "vips", operation_id = "list_vips", params(ReadParams),
    responses((status = 200, body = List<Vip>), (status = "default", body = Problem)))]
pub(super) async fn list(
    State(daemon): State<Daemon>,
    Params(params): Params<ReadParams>,
) -> Result<Json<List<Vip>>, Refusal> {
    params.ready(&daemon).await?;
    let local = daemon.local();
    // A copy: to show thousands takes longer than an entry may wait.
    let state = daemon.read(Cluster::clone);
    let holders = state.nodes().keys().copied().collect();
    let next = daemon.outlook.runners_up(&state, holders);
    let vips = state.vips().values();
    let items = vips.map(|vip| to_wire(&state, &local, vip, &next));
    Ok(Json(List {
        revision: state.applied(),
        items: items.collect(),
    }))
}

/// One VIP.
#[utoipa::path(get, path = "/v1/vips/{name}", tag = "vips", operation_id = "get_vip",
    params(("name" = String, Path), ReadParams),
    responses((status = 200, body = Vip), (status = "default", body = Problem)))]
pub(super) async fn get(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<ReadParams>,
) -> Result<Response, Refusal> {
    params.ready(&daemon).await?;
    let known = known_name("VIP", &name).ok();
    let vip = known.and_then(|name| view(Seen::Done(&daemon), &daemon.local(), &name));
    let vip = vip.ok_or_else(|| Refusal::not_found("VIP", &name))?;
    Ok(write::object(&vip, vip.revision))
}

/// Make a VIP; a missing name is generated.
#[utoipa::path(post, path = "/v1/vips", tag = "vips", operation_id = "create_vip", request_body = VipWrite,
    params(WriteParams), responses((status = 201, body = Vip), (status = "default", body = Problem)))]
pub(super) async fn create(
    State(daemon): State<Daemon>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
    Strict(body): Strict<VipWrite>,
) -> Result<Response, Refusal> {
    unconditional(&headers)?;
    let name = convert::name_or_generated(body.name.as_deref(), "vip")?;
    set(&daemon, name, body, Expect::Absent, params).await
}

/// Make or replace a VIP. `If-Match: "revision"` for compare-and-set.
#[utoipa::path(put, path = "/v1/vips/{name}", tag = "vips", operation_id = "put_vip", request_body = VipWrite,
    params(("name" = String, Path), WriteParams),
    responses((status = 200, body = Vip), (status = 201, body = Vip), (status = "default", body = Problem)))]
pub(super) async fn put(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
    Strict(body): Strict<VipWrite>,
) -> Result<Response, Refusal> {
    let name = same_name(&name, body.name.as_deref())?;
    set(&daemon, name, body, expect(&headers)?, params).await
}

/// Delete a VIP and free its addresses.
#[utoipa::path(delete, path = "/v1/vips/{name}", tag = "vips", operation_id = "delete_vip",
    params(("name" = String, Path), WriteParams),
    responses((status = 204, description = "Deleted"), (status = "default", body = Problem)))]
pub(super) async fn delete(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let name = known_name("VIP", &name)?;
    let command = Command::DeleteVip {
        name: name.clone(),
        expect: expect(&headers)?,
    };
    write::write(&daemon, command, params, |seen, local| {
        view(seen, local, &name)
    })
    .await
}

/// Move a VIP to a node. Its holder lets go first, so the answer may still show it there.
#[utoipa::path(post, path = "/v1/vips/{name}/move", tag = "vips", operation_id = "move_vip",
    request_body = MoveRequest, params(("name" = String, Path), WriteParams),
    responses((status = 200, body = Vip), (status = "default", body = Problem)))]
pub(super) async fn move_to(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
    Strict(body): Strict<MoveRequest>,
) -> Result<Response, Refusal> {
    unconditional(&headers)?;
    let name = known_name("VIP", &name)?;
    let command = Command::MoveVip {
        name: name.clone(),
        to: known_name("node", &body.to)?,
    };
    write::write(&daemon, command, params, |seen, local| {
        view(seen, local, &name)
    })
    .await
}

async fn set(
    daemon: &Daemon,
    name: Name,
    body: VipWrite,
    expect: Expect,
    params: WriteParams,
) -> Result<Response, Refusal> {
    let spec = convert::vip::spec_from_wire(&body.spec)?;
    let command = Command::PutVip {
        name: name.clone(),
        labels: body.labels,
        spec,
        expect,
    };
    write::write(daemon, command, params, |seen, local| {
        view(seen, local, &name)
    })
    .await
}

fn view(seen: Seen<'_>, local: &LocalStatus, name: &Name) -> Option<Vip> {
    let holders = |state: &Cluster| -> BTreeSet<NodeId> {
        let addresses = state.vips().get(name).map(|vip| &vip.addresses);
        let holder = |address| state.allocations().get(address)?.holder;
        addresses.into_iter().flatten().filter_map(holder).collect()
    };
    let view = |state: &Cluster, next: &RunnersUp| {
        let vip = state.vips().get(name)?;
        Some(to_wire(state, local, vip, next))
    };
    match seen {
        Seen::Done(daemon) => daemon.outlook.look(daemon, holders, view),
        Seen::Tried(state) => view(state, &RunnersUp::new(state, holders(state))),
    }
}

fn to_wire(
    state: &Cluster,
    local: &LocalStatus,
    vip: &vipd_core::vip::Vip,
    next: &RunnersUp,
) -> Vip {
    convert::vip::to_wire(state, local, vip, &|address| next.of(state, address))
}
