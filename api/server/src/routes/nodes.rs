//! `/v1/nodes`.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};
use vipd_api_types::{Node, NodePatch, Page, Watched};
use vipd_core::command::Command;
use vipd_core::name::Name;
use vipd_core::node::Weight;
use vipd_core::selector::Selector;
use vipd_core::state::{State as Cluster, Topic};

use crate::convert::{self, known_name};
use crate::erased::Daemon;
use crate::kind::{Kind, Look};
use crate::objects;
use crate::params::{ListParams, Params, Path, ReadParams, WriteParams, expect, unconditional};
use crate::problem::Refusal;
use crate::strict::{self, Patch};

/// All nodes, some of them, or with `watch=1` their changes.
#[utoipa::path(get, path = "/v1/nodes", tag = "nodes", operation_id = "list_nodes",
    params(ListParams, ("Last-Event-ID" = Option<u64>, Header, description = "For a watch: the id of the last event.")),
    responses(
        (status = 200, content((Page<Node> = "application/json"), (Watched<Node> = "text/event-stream"))),
    ))]
pub(super) async fn list(
    State(daemon): State<Daemon>,
    Params(params): Params<ListParams>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    objects::list::<Node>(daemon, params, &headers).await
}

/// One node.
#[utoipa::path(get, path = "/v1/nodes/{name}", tag = "nodes", operation_id = "get_node",
    params(("name" = String, Path), ReadParams),
    responses((status = 200, body = Node)))]
pub(super) async fn get(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<ReadParams>,
) -> Result<Response, Refusal> {
    objects::get::<Node>(&daemon, &name, params).await
}

/// Change labels, weight or drain of a node by a merge patch (RFC 7396); what is `null` is as it was at first. `If-Match:
/// "revision"` for compare-and-set.
#[utoipa::path(patch, path = "/v1/nodes/{name}", tag = "nodes", operation_id = "patch_node",
    request_body(content = NodePatch, content_type = "application/merge-patch+json"),
    params(("name" = String, Path), WriteParams), responses((status = 200, body = Node)))]
pub(super) async fn patch(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
    Patch(mut patch): Patch,
) -> Result<Response, Refusal> {
    strict::known_fields::<NodePatch>(&patch)?;
    let name = known_name(Node::WORD, &name)?;
    let set = daemon.read(|state| {
        let node = state.node_named(&name);
        node.map(|node| node.set_labels.keys().cloned().collect::<Vec<_>>())
    });
    let set = set.ok_or_else(|| Refusal::not_found(Node::WORD, name.as_str()))?;
    say_nulls(&mut patch, &set);
    let spec = strict::typed::<NodePatch>(&patch)?.spec;
    let weight = spec.weight.map(Weight::new).transpose();
    let command = Command::SetNode {
        node: name.clone(),
        weight: weight.map_err(Refusal::invalid)?,
        labels: spec.labels,
        drained: spec.drained,
        expect: expect(&headers)?,
    };
    objects::write::<Node>(&daemon, name, command, params).await
}

/// Says in full what `null` means in a patch: a field is as it was when the node joined, and labels that were `set` are
/// taken back.
fn say_nulls(patch: &mut Value, set: &[String]) {
    let Some(spec) = patch.get_mut("spec") else {
        return;
    };
    if spec.is_null() {
        *spec = json!({ "labels": null, "weight": null, "drained": null });
    }
    let unset = || set.iter().map(|key| (key.clone(), Value::Null));
    for (field, first) in [
        ("weight", json!(Weight::default().get())),
        ("drained", json!(false)),
        ("labels", Value::Object(unset().collect())),
    ] {
        if let Some(value) = spec.get_mut(field).filter(|value| value.is_null()) {
            *value = first;
        }
    }
}

/// Take every address off a node and keep them off. It lets go first, so the answer may still show it holding.
#[utoipa::path(post, path = "/v1/nodes/{name}/drain", tag = "nodes", operation_id = "drain_node",
    params(("name" = String, Path), WriteParams),
    responses((status = 200, body = Node)))]
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
    responses((status = 200, body = Node)))]
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
    let name = known_name(Node::WORD, name)?;
    let command = Command::SetDrained {
        node: name.clone(),
        drained,
    };
    objects::write::<Node>(daemon, name, command, params).await
}

impl Kind for Node {
    const WORD: &'static str = "node";
    const SCHEMA: &'static str = "Node";
    const TOPIC: Topic = Topic::Node;
    const UNTOLD: &'static [&'static str] = &[
        "status.leader",
        "status.last_seen_ms",
        "status.lease.expires_in_ms",
        "status.conditions",
    ];

    fn names<'a>(
        state: &'a Cluster,
        after: Option<&'a Name>,
    ) -> Box<dyn Iterator<Item = Name> + 'a> {
        let mut names: Vec<Name> = state
            .nodes()
            .values()
            .map(|node| node.name.clone())
            .collect();
        names.retain(|name| after.is_none_or(|after| name > after));
        names.sort();
        Box::new(names.into_iter())
    }

    fn selected(state: &Cluster, name: &Name, selector: &Selector) -> bool {
        let node = state.node_named(name);
        node.is_some_and(|node| selector.selects(name, |key| node.label(key)))
    }

    fn show(look: &Look<'_>, name: &Name) -> Option<Self> {
        let node = look.state.node_named(name)?;
        Some(convert::node::to_wire(look.state, look.local, node))
    }

    fn revision(&self) -> u64 {
        self.revision
    }
}
