//! `/v1/pools`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use vipd_api_types::{List, Pool, PoolWrite, Problem};
use vipd_core::command::{Command, Expect};
use vipd_core::name::Name;
use vipd_core::pool::Care;
use vipd_core::state::State as Cluster;

use crate::convert::{self, known_name, same_name};
use crate::erased::Daemon;
use crate::params::{Params, PoolParams, ReadParams, expect, unconditional};
use crate::problem::Refusal;
use crate::strict::Strict;
use crate::write;

/// All pools.
#[utoipa::path(get, path = "/v1/pools", tag = "pools", operation_id = "list_pools", params(ReadParams),
    responses((status = 200, body = List<Pool>), (status = "default", body = Problem)))]
pub(super) async fn list(
    State(daemon): State<Daemon>,
    Params(params): Params<ReadParams>,
) -> Result<Json<List<Pool>>, Refusal> {
    params.ready(&daemon).await?;
    Ok(Json(daemon.read(|state| {
        List {
            revision: state.applied(),
            items: state
                .pools()
                .values()
                .map(|pool| convert::pool::to_wire(state, pool))
                .collect(),
        }
    })))
}

/// One pool.
#[utoipa::path(get, path = "/v1/pools/{name}", tag = "pools", operation_id = "get_pool",
    params(("name" = String, Path), ReadParams),
    responses((status = 200, body = Pool), (status = "default", body = Problem)))]
pub(super) async fn get(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<ReadParams>,
) -> Result<Response, Refusal> {
    params.ready(&daemon).await?;
    let pool = daemon.read(|state| view(state, &known_name("pool", &name).ok()?));
    let pool = pool.ok_or_else(|| Refusal::not_found("pool", &name))?;
    Ok(write::object(&pool, pool.revision))
}

/// Make a pool; a missing name is generated.
#[utoipa::path(post, path = "/v1/pools", tag = "pools", operation_id = "create_pool", request_body = PoolWrite,
    params(PoolParams), responses((status = 201, body = Pool), (status = "default", body = Problem)))]
pub(super) async fn create(
    State(daemon): State<Daemon>,
    Params(params): Params<PoolParams>,
    headers: HeaderMap,
    Strict(body): Strict<PoolWrite>,
) -> Result<Response, Refusal> {
    unconditional(&headers)?;
    let name = convert::name_or_generated(body.name.as_deref(), "pool")?;
    set(&daemon, name, body, Expect::Absent, params).await
}

/// Make or replace a pool. `If-Match: "revision"` for compare-and-set.
#[utoipa::path(put, path = "/v1/pools/{name}", tag = "pools", operation_id = "put_pool", request_body = PoolWrite,
    params(("name" = String, Path), PoolParams),
    responses((status = 200, body = Pool), (status = 201, body = Pool), (status = "default", body = Problem)))]
pub(super) async fn put(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<PoolParams>,
    headers: HeaderMap,
    Strict(body): Strict<PoolWrite>,
) -> Result<Response, Refusal> {
    let name = same_name(&name, body.name.as_deref())?;
    set(&daemon, name, body, expect(&headers)?, params).await
}

/// Delete a pool: one that no VIP has an address of, unless another pool has these addresses too, or by `force`.
#[utoipa::path(delete, path = "/v1/pools/{name}", tag = "pools", operation_id = "delete_pool",
    params(("name" = String, Path), PoolParams),
    responses((status = 204, description = "Deleted"), (status = "default", body = Problem)))]
pub(super) async fn delete(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<PoolParams>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let name = known_name("pool", &name)?;
    let command = Command::DeletePool {
        name: name.clone(),
        expect: expect(&headers)?,
        force: params.force,
    };
    write::write(&daemon, command, params.write(), |seen, _| {
        seen.read(|state| view(state, &name))
    })
    .await
}

async fn set(
    daemon: &Daemon,
    name: Name,
    body: PoolWrite,
    expect: Expect,
    params: PoolParams,
) -> Result<Response, Refusal> {
    let spec = convert::pool::spec_from_wire(&body.spec)?;
    let command = Command::PutPool {
        name: name.clone(),
        labels: body.labels,
        spec,
        expect,
        care: Care {
            strict: params.strict,
            force: params.force,
        },
    };
    write::write(daemon, command, params.write(), |seen, _| {
        seen.read(|state| view(state, &name))
    })
    .await
}

fn view(state: &Cluster, name: &Name) -> Option<Pool> {
    state
        .pools()
        .get(name)
        .map(|pool| convert::pool::to_wire(state, pool))
}
