//! `/v1/policies`.

use std::ops::Bound;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use vipd_api_types::{Page, Policy, PolicyWrite, Watched};
use vipd_core::command::{Command, Expect};
use vipd_core::name::Name;
use vipd_core::pool::Care;
use vipd_core::selector::Selector;
use vipd_core::state::{State as Cluster, Topic};

use crate::convert;
use crate::erased::Daemon;
use crate::kind::{Kind, Look, Writable};
use crate::objects;
use crate::params::{ListParams, Params, Path, ReadParams, WriteParams};
use crate::problem::Refusal;
use crate::strict::{Patch, Strict};

/// All policies, some of them, or with `watch=1` their changes.
#[utoipa::path(get, path = "/v1/policies", tag = "policies", operation_id = "list_policies",
    params(ListParams, ("Last-Event-ID" = Option<u64>, Header, description = "For a watch: the id of the last event.")),
    responses(
        (status = 200, content((Page<Policy> = "application/json"), (Watched<Policy> = "text/event-stream"))),
    ))]
pub(super) async fn list(
    State(daemon): State<Daemon>,
    Params(params): Params<ListParams>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    objects::list::<Policy>(daemon, params, &headers).await
}

/// One policy.
#[utoipa::path(get, path = "/v1/policies/{name}", tag = "policies", operation_id = "get_policy",
    params(("name" = String, Path), ReadParams),
    responses((status = 200, body = Policy)))]
pub(super) async fn get(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<ReadParams>,
) -> Result<Response, Refusal> {
    objects::get::<Policy>(&daemon, &name, params).await
}

/// Make a policy; a missing name is generated.
#[utoipa::path(post, path = "/v1/policies", tag = "policies", operation_id = "create_policy", request_body = PolicyWrite,
    params(WriteParams), responses((status = 201, body = Policy)))]
pub(super) async fn create(
    State(daemon): State<Daemon>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
    Strict(body): Strict<PolicyWrite>,
) -> Result<Response, Refusal> {
    objects::create::<Policy>(&daemon, params, Care::default(), &headers, body).await
}

/// Make or replace a policy; VIPs move where it says. `If-Match: "revision"` for compare-and-set.
#[utoipa::path(put, path = "/v1/policies/{name}", tag = "policies", operation_id = "put_policy", request_body = PolicyWrite,
    params(("name" = String, Path), WriteParams),
    responses((status = 200, body = Policy), (status = 201, body = Policy)))]
pub(super) async fn put(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
    Strict(body): Strict<PolicyWrite>,
) -> Result<Response, Refusal> {
    objects::put::<Policy>(&daemon, &name, params, Care::default(), &headers, body).await
}

/// Change parts of a policy by a merge patch (RFC 7396); what comes of it is judged as if it had been put.
#[utoipa::path(patch, path = "/v1/policies/{name}", tag = "policies", operation_id = "patch_policy",
    request_body(content = PolicyWrite, content_type = "application/merge-patch+json"),
    params(("name" = String, Path), WriteParams), responses((status = 200, body = Policy)))]
pub(super) async fn patch(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
    Patch(patch): Patch,
) -> Result<Response, Refusal> {
    objects::patch::<Policy>(&daemon, &name, params, Care::default(), &headers, &patch).await
}

/// Delete a policy. VIPs that the others do not allow where they are move.
#[utoipa::path(delete, path = "/v1/policies/{name}", tag = "policies", operation_id = "delete_policy",
    params(("name" = String, Path), WriteParams),
    responses((status = 204, description = "Deleted")))]
pub(super) async fn delete(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    objects::delete::<Policy>(&daemon, &name, params, Care::default(), &headers).await
}

impl Kind for Policy {
    const WORD: &'static str = "policy";
    const SCHEMA: &'static str = "Policy";
    const TOPIC: Topic = Topic::Policy;
    const UNTOLD: &'static [&'static str] = &["status"];

    fn names<'a>(
        state: &'a Cluster,
        after: Option<&'a Name>,
    ) -> Box<dyn Iterator<Item = Name> + 'a> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let all = state.policies().range::<Name, _>((from, Bound::Unbounded));
        Box::new(all.map(|(name, _)| name.clone()))
    }

    fn selected(state: &Cluster, name: &Name, selector: &Selector) -> bool {
        let policy = state.policies().get(name);
        policy.is_some_and(|policy| {
            selector.selects(name, |key| policy.labels.get(key).map(String::as_str))
        })
    }

    fn show(look: &Look<'_>, name: &Name) -> Option<Self> {
        let policy = look.state.policies().get(name)?;
        Some(convert::policy::to_wire(look.state, policy))
    }

    fn revision(&self) -> u64 {
        self.revision
    }
}

impl Writable for Policy {
    type Write = PolicyWrite;
    const STEM: &'static str = "policy";

    fn given(body: &PolicyWrite) -> Option<&str> {
        body.name.as_deref()
    }

    fn put(name: Name, body: PolicyWrite, expect: Expect, _: Care) -> Result<Command, Refusal> {
        Ok(Command::PutPolicy {
            name,
            labels: body.labels,
            spec: convert::policy::spec_from_wire(&body.spec)?,
            expect,
        })
    }

    fn delete(name: Name, expect: Expect, _: Care) -> Command {
        Command::DeletePolicy { name, expect }
    }
}
