//! `/v1/vips`.

use std::collections::BTreeSet;
use std::ops::Bound;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use vipd_api_types::{MoveRequest, Page, Vip, VipWrite, Watched};
use vipd_core::command::{Command, Expect};
use vipd_core::id::NodeId;
use vipd_core::name::Name;
use vipd_core::pool::Care;
use vipd_core::selector::Selector;
use vipd_core::state::{State as Cluster, Topic};

use crate::convert::{self, known_name};
use crate::erased::Daemon;
use crate::kind::{Kind, Look, Writable};
use crate::objects;
use crate::params::{ListParams, Params, Path, ReadParams, WriteParams, unconditional};
use crate::problem::Refusal;
use crate::strict::{Patch, Strict};

/// All VIPs, some of them, or with `watch=1` their changes.
#[utoipa::path(get, path = "/v1/vips", tag = "vips", operation_id = "list_vips",
    params(ListParams, ("Last-Event-ID" = Option<u64>, Header, description = "For a watch: the id of the last event.")),
    responses(
        (status = 200, content((Page<Vip> = "application/json"), (Watched<Vip> = "text/event-stream"))),
    ))]
pub(super) async fn list(
    State(daemon): State<Daemon>,
    Params(params): Params<ListParams>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    objects::list::<Vip>(daemon, params, &headers).await
}

/// One VIP.
#[utoipa::path(get, path = "/v1/vips/{name}", tag = "vips", operation_id = "get_vip",
    params(("name" = String, Path), ReadParams),
    responses((status = 200, body = Vip)))]
pub(super) async fn get(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<ReadParams>,
) -> Result<Response, Refusal> {
    objects::get::<Vip>(&daemon, &name, params).await
}

/// Make a VIP; a missing name is generated.
#[utoipa::path(post, path = "/v1/vips", tag = "vips", operation_id = "create_vip", request_body = VipWrite,
    params(WriteParams), responses((status = 201, body = Vip)))]
pub(super) async fn create(
    State(daemon): State<Daemon>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
    Strict(body): Strict<VipWrite>,
) -> Result<Response, Refusal> {
    objects::create::<Vip>(&daemon, params, Care::default(), &headers, body).await
}

/// Make or replace a VIP. `If-Match: "revision"` for compare-and-set.
#[utoipa::path(put, path = "/v1/vips/{name}", tag = "vips", operation_id = "put_vip", request_body = VipWrite,
    params(("name" = String, Path), WriteParams),
    responses((status = 200, body = Vip), (status = 201, body = Vip)))]
pub(super) async fn put(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
    Strict(body): Strict<VipWrite>,
) -> Result<Response, Refusal> {
    objects::put::<Vip>(&daemon, &name, params, Care::default(), &headers, body).await
}

/// Change parts of a VIP by a merge patch (RFC 7396); what comes of it is judged as if it had been put.
#[utoipa::path(patch, path = "/v1/vips/{name}", tag = "vips", operation_id = "patch_vip",
    request_body(content = VipWrite, content_type = "application/merge-patch+json"),
    params(("name" = String, Path), WriteParams), responses((status = 200, body = Vip)))]
pub(super) async fn patch(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
    Patch(patch): Patch,
) -> Result<Response, Refusal> {
    objects::patch::<Vip>(&daemon, &name, params, Care::default(), &headers, &patch).await
}

/// Delete a VIP and free its addresses.
#[utoipa::path(delete, path = "/v1/vips/{name}", tag = "vips", operation_id = "delete_vip",
    params(("name" = String, Path), WriteParams),
    responses((status = 204, description = "Deleted")))]
pub(super) async fn delete(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    objects::delete::<Vip>(&daemon, &name, params, Care::default(), &headers).await
}

/// Move a VIP to a node. Its holder lets go first, so the answer may still show it there.
#[utoipa::path(post, path = "/v1/vips/{name}/move", tag = "vips", operation_id = "move_vip",
    request_body = MoveRequest, params(("name" = String, Path), WriteParams),
    responses((status = 200, body = Vip)))]
pub(super) async fn move_to(
    State(daemon): State<Daemon>,
    Path(name): Path<String>,
    Params(params): Params<WriteParams>,
    headers: HeaderMap,
    Strict(body): Strict<MoveRequest>,
) -> Result<Response, Refusal> {
    unconditional(&headers)?;
    let name = known_name(Vip::WORD, &name)?;
    let command = Command::MoveVip {
        name: name.clone(),
        to: known_name("node", &body.to)?,
    };
    objects::write::<Vip>(&daemon, name, command, params).await
}

impl Kind for Vip {
    const WORD: &'static str = "VIP";
    const SCHEMA: &'static str = "Vip";
    const TOPIC: Topic = Topic::Vip;
    const UNTOLD: &'static [&'static str] = &[
        "status.addresses.runner_up",
        "status.addresses.answering",
        "status.addresses.announced",
        "status.addresses.conditions",
    ];

    fn names<'a>(
        state: &'a Cluster,
        after: Option<&'a Name>,
    ) -> Box<dyn Iterator<Item = Name> + 'a> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let all = state.vips().range::<Name, _>((from, Bound::Unbounded));
        Box::new(all.map(|(name, _)| name.clone()))
    }

    fn selected(state: &Cluster, name: &Name, selector: &Selector) -> bool {
        let vip = state.vips().get(name);
        vip.is_some_and(|vip| vip.spec.selected(selector, name, &vip.labels))
    }

    fn show(look: &Look<'_>, name: &Name) -> Option<Self> {
        let vip = look.state.vips().get(name)?;
        let next = |address| look.next.of(look.state, address);
        Some(convert::vip::to_wire(look.state, look.local, vip, &next))
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn holders(state: &Cluster, name: Option<&Name>) -> BTreeSet<NodeId> {
        let Some(name) = name else {
            return state.nodes().keys().copied().collect();
        };
        let addresses = state.vips().get(name).map(|vip| &vip.addresses);
        let holder = |address| state.allocations().get(address)?.holder;
        addresses.into_iter().flatten().filter_map(holder).collect()
    }
}

impl Writable for Vip {
    type Write = VipWrite;
    const STEM: &'static str = "vip";

    fn given(body: &VipWrite) -> Option<&str> {
        body.name.as_deref()
    }

    fn put(name: Name, body: VipWrite, expect: Expect, _: Care) -> Result<Command, Refusal> {
        let spec = convert::vip::spec_from_wire(&body.spec)?;
        convert::vip::announceable(&spec)?;
        Ok(Command::PutVip {
            name,
            labels: body.labels,
            spec,
            expect,
        })
    }

    fn delete(name: Name, expect: Expect, _: Care) -> Command {
        Command::DeleteVip { name, expect }
    }
}
