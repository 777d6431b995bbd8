//! `/v1/pools`.

use std::ops::Bound;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use vipd_api_types::{Page, Pool, PoolWrite, Watched};
use vipd_core::command::{Command, Expect};
use vipd_core::name::Name;
use vipd_core::pool::Care;
use vipd_core::selector::Selector;
use vipd_core::state::{State as Cluster, Topic};

use crate::convert;
use crate::erased::Daemon;
use crate::kind::{Kind, Look, Writable};
use crate::objects;
use crate::params::{ListParams, Params, Path, PoolParams, ReadParams};
use crate::problem::Refusal;
use crate::strict::{Patch, Strict};

/// All pools, some of them, or with `watch=1` their changes.
#[utoipa::path(get, path = "/v1/pools", tag = "pools", operation_id = "list_pools",
    params(ListParams, ("Last-Event-ID" = Option<u64>, Header, description = "For a watch: the id of the last event.")),
    responses(
        (status = 200, content((Page<Pool> = "application/json"), (Watched<Pool> = "text/event-stream"))),
    ))]
pub(super) async fn list(
    State(daemon): State<Daemon>,
    Params(params): Params<ListParams>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    objects::list::<Pool>(daemon, params, &headers).await
}

/// One pool.
#[utoipa::path(get, path = "/v1/pools/{name}", tag = "pools", operation_id = "get_pool",
    params(("name" = String, Path), ReadParams),
    responses((status = 200, body = Pool)))]
pub(super) async fn get(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<ReadParams>,
) -> Result<Response, Refusal> {
    objects::get::<Pool>(&daemon, &name, params).await
}

/// Make a pool; a missing name is generated.
#[utoipa::path(post, path = "/v1/pools", tag = "pools", operation_id = "create_pool", request_body = PoolWrite,
    params(PoolParams), responses((status = 201, body = Pool)))]
pub(super) async fn create(
    State(daemon): State<Daemon>,
    Params(params): Params<PoolParams>,
    headers: HeaderMap,
    Strict(body): Strict<PoolWrite>,
) -> Result<Response, Refusal> {
    objects::create::<Pool>(&daemon, params.write(), params.care(), &headers, body).await
}

/// Make or replace a pool. `If-Match: "revision"` for compare-and-set.
#[utoipa::path(put, path = "/v1/pools/{name}", tag = "pools", operation_id = "put_pool", request_body = PoolWrite,
    params(("name" = String, Path), PoolParams),
    responses((status = 200, body = Pool), (status = 201, body = Pool)))]
pub(super) async fn put(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<PoolParams>,
    headers: HeaderMap,
    Strict(body): Strict<PoolWrite>,
) -> Result<Response, Refusal> {
    objects::put::<Pool>(
        &daemon,
        &name,
        params.write(),
        params.care(),
        &headers,
        body,
    )
    .await
}

/// Change parts of a pool by a merge patch (RFC 7396); what comes of it is judged as if it had been put.
#[utoipa::path(patch, path = "/v1/pools/{name}", tag = "pools", operation_id = "patch_pool",
    request_body(content = PoolWrite, content_type = "application/merge-patch+json"),
    params(("name" = String, Path), PoolParams), responses((status = 200, body = Pool)))]
pub(super) async fn patch(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<PoolParams>,
    headers: HeaderMap,
    Patch(patch): Patch,
) -> Result<Response, Refusal> {
    objects::patch::<Pool>(
        &daemon,
        &name,
        params.write(),
        params.care(),
        &headers,
        &patch,
    )
    .await
}

/// Delete a pool: one that no VIP has an address of, unless another pool has these addresses too, or by `force`.
#[utoipa::path(delete, path = "/v1/pools/{name}", tag = "pools", operation_id = "delete_pool",
    params(("name" = String, Path), PoolParams),
    responses((status = 204, description = "Deleted")))]
pub(super) async fn delete(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<PoolParams>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    objects::delete::<Pool>(&daemon, &name, params.write(), params.care(), &headers).await
}

impl Kind for Pool {
    const WORD: &'static str = "pool";
    const SCHEMA: &'static str = "Pool";
    const TOPIC: Topic = Topic::Pool;
    const UNTOLD: &'static [&'static str] = &[];

    fn names<'a>(
        state: &'a Cluster,
        after: Option<&'a Name>,
    ) -> Box<dyn Iterator<Item = Name> + 'a> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let all = state.pools().range::<Name, _>((from, Bound::Unbounded));
        Box::new(all.map(|(name, _)| name.clone()))
    }

    fn selected(state: &Cluster, name: &Name, selector: &Selector) -> bool {
        let pool = state.pools().get(name);
        pool.is_some_and(|pool| {
            selector.selects(name, |key| pool.labels.get(key).map(String::as_str))
        })
    }

    fn show(look: &Look<'_>, name: &Name) -> Option<Self> {
        let pool = look.state.pools().get(name)?;
        Some(convert::pool::to_wire(look.state, pool))
    }

    fn revision(&self) -> u64 {
        self.revision
    }
}

impl Writable for Pool {
    type Write = PoolWrite;
    const STEM: &'static str = "pool";

    fn given(body: &PoolWrite) -> Option<&str> {
        body.name.as_deref()
    }

    fn put(name: Name, body: PoolWrite, expect: Expect, care: Care) -> Result<Command, Refusal> {
        Ok(Command::PutPool {
            name,
            labels: body.labels,
            spec: convert::pool::spec_from_wire(&body.spec)?,
            expect,
            care,
        })
    }

    fn delete(name: Name, expect: Expect, care: Care) -> Command {
        Command::DeletePool {
            name,
            expect,
            force: care.force,
        }
    }
}
