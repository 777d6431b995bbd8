//! `/v1/policies`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use vipd_api_types::{List, Policy, PolicyWrite, Problem};
use vipd_core::command::{Command, Expect};
use vipd_core::name::Name;
use vipd_core::state::State as Cluster;

use crate::convert::{self, known_name, same_name};
use crate::erased::Daemon;
use crate::params::{Params, ReadParams, WriteParams, expect, unconditional};
use crate::problem::Refusal;
use crate::strict::Strict;
use crate::write;

/// All policies.
#[utoipa::path(get, path = "/v1/policies", tag = "policies", operation_id = "list_policies", params(ReadParams),
    responses((status = 200, body = List<Policy>), (status = "default", body = Problem)))]
pub(super) async fn list(
    State(daemon): State<Daemon>,
    Params(params): Params<ReadParams>,
) -> Result<Json<List<Policy>>, Refusal> {
    params.ready(&daemon).await?;
    Ok(Json(daemon.read(|state| {
        List {
            revision: state.applied(),
            items: state
                .policies()
                .values()
                .map(|policy| convert::policy::to_wire(state, policy))
                .collect(),
        }
    })))
}

/// One policy.
#[utoipa::path(get, path = "/v1/policies/{name}", tag = "policies", operation_id = "get_policy",
    params(("name" = String, Path), ReadParams),
    responses((status = 200, body = Policy), (status = "default", body = Problem)))]
pub(super) async fn get(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<ReadParams>,
) -> Result<Response, Refusal> {
    params.ready(&daemon).await?;
    let policy = daemon.read(|state| view(state, &known_name("policy", &name).ok()?));
    let policy = policy.ok_or_else(|| Refusal::not_found("policy", &name))?;
    Ok(write::object(&policy, policy.revision))
}

/// Make a policy; a missing name is generated.
#[utoipa::path(post, path = "/v1/policies", tag = "policies", operation_id = "create_policy", request_body = PolicyWrite,
    params(WriteParams), responses((status = 201, body = Policy), (status = "default", body = Problem)))]
pub(super) async fn create(
    State(daemon): State<Daemon>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
    Strict(body): Strict<PolicyWrite>,
) -> Result<Response, Refusal> {
    unconditional(&headers)?;
    let name = convert::name_or_generated(body.name.as_deref(), "policy")?;
    set(&daemon, name, body, Expect::Absent, params).await
}

/// Make or replace a policy; VIPs move where it says. `If-Match: "revision"` for compare-and-set.
#[utoipa::path(put, path = "/v1/policies/{name}", tag = "policies", operation_id = "put_policy", request_body = PolicyWrite,
    params(("name" = String, Path), WriteParams),
    responses((status = 200, body = Policy), (status = 201, body = Policy), (status = "default", body = Problem)))]
pub(super) async fn put(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
    Strict(body): Strict<PolicyWrite>,
) -> Result<Response, Refusal> {
    let name = same_name(&name, body.name.as_deref())?;
    set(&daemon, name, body, expect(&headers)?, params).await
}

/// Delete a policy. VIPs that the others do not allow where they are move.
#[utoipa::path(delete, path = "/v1/policies/{name}", tag = "policies", operation_id = "delete_policy",
    params(("name" = String, Path), WriteParams),
    responses((status = 204, description = "Deleted"), (status = "default", body = Problem)))]
pub(super) async fn delete(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let name = known_name("policy", &name)?;
    let command = Command::DeletePolicy {
        name: name.clone(),
        expect: expect(&headers)?,
    };
    write::write(&daemon, command, params, |seen, _| {
        seen.read(|state| view(state, &name))
    })
    .await
}

async fn set(
    daemon: &Daemon,
    name: Name,
    body: PolicyWrite,
    expect: Expect,
    params: WriteParams,
) -> Result<Response, Refusal> {
    let spec = convert::policy::spec_from_wire(&body.spec)?;
    let command = Command::PutPolicy {
        name: name.clone(),
        labels: body.labels,
        spec,
        expect,
    };
    write::write(daemon, command, params, |seen, _| {
        seen.read(|state| view(state, &name))
    })
    .await
}

fn view(state: &Cluster, name: &Name) -> Option<Policy> {
    state
        .policies()
        .get(name)
        .map(|policy| convert::policy::to_wire(state, policy))
}
