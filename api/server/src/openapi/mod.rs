//! The OpenAPI document, made of the routes and the wire types themselves.

mod describe;

use std::sync::LazyLock;

use serde_json::Value;
use utoipa::OpenApi;
use utoipa::openapi::PathItem;
use vipd_api_types::{ApiToken, DryRun, Node, Policy, Pool, Problem, Vip};
use vipd_core::token::Access;

use crate::routes;

/// What no route tells.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "vipd",
        description = "Virtual IPs that never have two owners. Objects are { name, labels, generation, revision, spec, \
            status }. Any node answers any request: writes reach the leader, reads are as current as the last write \
            unless ?consistency=local. Errors are application/problem+json with a stable reason and the next step. \
            A write with ?dry_run=true changes nothing and answers with a DryRun. x-role is what a token must allow at \
            least; the unix socket needs none.",
    ),
    components(schemas(Problem, DryRun<Pool>, DryRun<Vip>, DryRun<Node>, DryRun<Policy>, DryRun<ApiToken>)),
    tags(
        (name = "pools", description = "Addresses to hand out"),
        (name = "vips", description = "Virtual IPs"),
        (name = "policies", description = "Which VIPs may be announced from which nodes, on which interfaces"),
        (name = "nodes", description = "Nodes and what they can announce"),
        (name = "cluster", description = "Members, leader, quorum"),
        (name = "lb", description = "What the answering node's kernel balances"),
        (name = "tokens", description = "Access over TLS"),
        (name = "health", description = "For load balancers and monitoring"),
    ),
)]
pub(crate) struct Base;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let (_, api) = routes::all().split_for_parts();
    let mut document = serde_json::to_value(api).unwrap_or(Value::Null);
    for (role, group) in routes::grouped() {
        let (_, group) = group.split_for_parts();
        for (path, item) in group.paths.paths {
            mark(&mut document["paths"][&path], &item, role);
        }
    }
    describe::all(&mut document);
    document
});

/// Notes at each operation that `item` has the least role that it needs, as `x-role`.
fn mark(described: &mut Value, item: &PathItem, role: Option<Access>) {
    let role = role.map_or_else(|| "none".to_owned(), |role| role.to_string());
    let operations = serde_json::to_value(item).unwrap_or(Value::Null);
    for method in operations
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key)
    {
        if let Some(operation) = described[method].as_object_mut() {
            operation.insert("x-role".to_owned(), role.clone().into());
        }
    }
}

/// The OpenAPI document of this API.
#[must_use]
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// The schema of one type.
pub(crate) fn schema(name: &str) -> Option<&'static Value> {
    DOCUMENT.get("components")?.get("schemas")?.get(name)
}
