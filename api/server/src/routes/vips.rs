//! `/v1/vips`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use vipd_api_types::{List, MoveRequest, Problem, Vip, VipWrite};
use vipd_core::command::{Command, Expect};
use vipd_core::name::Name;
use vipd_core::state::State as Cluster;

use crate::control::LocalStatus;
use crate::convert::{self, known_name, same_name};
use crate::erased::Daemon;
use crate::params::{Params, ReadParams, WriteParams, expect};
use crate::problem::Refusal;
use crate::strict::Strict;
use crate::write;

/// How many VIPs are looked at under one lock: a list of thousands must not hold up a failover. Objects of
/// a long list may therefore be newer than its revision, never older.
const AT_A_TIME: usize = 100;

/// All VIPs.
#[utoipa::path(get, path = "/v1/vips", tag = "vips", operation_id = "list_vips", params(ReadParams),
    responses((status = 200, body = List<Vip>), (status = "default", body = Problem)))]
pub(super) async fn list(
    State(daemon): State<Daemon>,
    Params(params): Params<ReadParams>,
) -> Result<Json<List<Vip>>, Refusal> {
    params.ready(&daemon).await?;
    let local = daemon.local();
    let (revision, names, next) = daemon.read(|state| {
        let names: Vec<Name> = state.vips().keys().cloned().collect();
        (state.applied(), names, state.runners_up())
    });
    let view = |state: &Cluster, name: &Name| {
        let vip = state.vips().get(name)?;
        let runner_up = |address| next.get(&address).copied();
        Some(convert::vip::to_wire(state, &local, vip, &runner_up))
    };
    let mut items = Vec::with_capacity(names.len());
    for names in names.chunks(AT_A_TIME) {
        daemon.read(|state| items.extend(names.iter().filter_map(|name| view(state, name))));
    }
    Ok(Json(List { revision, items }))
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
    let local = daemon.local();
    let vip = daemon.read(|state| view(state, &local, &known_name("VIP", &name).ok()?));
    let vip = vip.ok_or_else(|| Refusal::not_found("VIP", &name))?;
    Ok(write::object(&vip, vip.revision))
}

/// Make a VIP; a missing name is generated.
#[utoipa::path(post, path = "/v1/vips", tag = "vips", operation_id = "create_vip", request_body = VipWrite,
    params(WriteParams), responses((status = 201, body = Vip), (status = "default", body = Problem)))]
pub(super) async fn create(
    State(daemon): State<Daemon>,
    Params(params): Params<WriteParams>,
    Strict(body): Strict<VipWrite>,
) -> Result<Response, Refusal> {
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
    write::write(&daemon, command, params, |state, local| {
        view(state, local, &name)
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
    Strict(body): Strict<MoveRequest>,
) -> Result<Response, Refusal> {
    let name = known_name("VIP", &name)?;
    let command = Command::MoveVip {
        name: name.clone(),
        to: known_name("node", &body.to)?,
    };
    write::write(&daemon, command, params, |state, local| {
        view(state, local, &name)
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
    write::write(daemon, command, params, |state, local| {
        view(state, local, &name)
    })
    .await
}

fn view(state: &Cluster, local: &LocalStatus, name: &Name) -> Option<Vip> {
    state
        .vips()
        .get(name)
        .map(|vip| convert::vip::to_wire(state, local, vip, &|address| state.runner_up(address)))
}
