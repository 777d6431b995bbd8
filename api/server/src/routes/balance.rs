//! `/v1/lb`: what the answering node's kernel balances at this moment. Answered without a quorum too.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use utoipa::IntoParams;
use vipd_api_types::{LbAffinity, LbConnections, LbMaglev, LbServices, LbTrace, Problem, Protocol};
use vipd_core::service::Port;
use vipd_core::state::State as Cluster;

use crate::audit;
use crate::balancing::{Balancing, ConnectionsOf, PacketOf, ServiceAt};
use crate::control::ControlError;
use crate::convert;
use crate::erased::Daemon;
use crate::params::Params;
use crate::problem::Refusal;
use crate::room::Place;

/// Connections that are shown when it is not said how many.
const SHOWN: usize = 1000;
/// The most that are shown.
const MOST: usize = 10_000;

/// How many are shown, where so many are asked for.
///
/// # Errors
/// A refusal of more than [`MOST`], or none; `narrower` says what to ask for instead.
pub(super) fn at_most(limit: usize, narrower: &str) -> Result<usize, Refusal> {
    if (1..=MOST).contains(&limit) {
        return Ok(limit);
    }
    let why = format!("limit {limit} is not within 1 to {MOST}");
    Err(Refusal::bad_request("bad_query", why, narrower))
}

/// No parameters are taken.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParams {}

/// Which connections.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ConnectionParams {
    /// Only those of this client.
    #[param(value_type = Option<String>)]
    client: Option<IpAddr>,
    /// Only those to this address.
    #[param(value_type = Option<String>)]
    vip: Option<IpAddr>,
    /// Only those to this port.
    port: Option<u16>,
    /// Only those that go to this backend.
    #[param(value_type = Option<String>)]
    backend: Option<IpAddr>,
    /// Only those of mode `nat`, whose packets are rewritten.
    #[serde(default)]
    nat: bool,
    /// At most so many, 1000 when it is left out.
    #[param(minimum = 1, maximum = 10000, default = 1000)]
    limit: Option<usize>,
}

/// Which service.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ServiceParams {
    /// The VIP's address.
    #[param(value_type = String)]
    address: IpAddr,
    /// The port; 0 is the service of all ports.
    port: u16,
    /// The protocol, `tcp` when it is left out.
    #[serde(default)]
    #[param(inline)]
    protocol: Protocol,
}

/// Services and their backends, with their shares and what was counted.
#[utoipa::path(get, path = "/v1/lb/services", tag = "lb", operation_id = "list_lb_services",
    responses((status = 200, body = LbServices), (status = "default", body = Problem)))]
pub(super) async fn services(
    State(daemon): State<Daemon>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Response, Refusal> {
    let (mut items, place) = look(&daemon, |kernel| kernel.services()).await?;
    let node = daemon.node();
    let name = daemon.read(|state| {
        for item in &mut items {
            let of = state.allocations().get(&item.address);
            item.held = of.is_some_and(|of| of.holder == Some(node));
            item.vip = whose(state, item.address, item.port, item.protocol);
        }
        convert::node_name(state, node)
    });
    Ok(place.held(Json(LbServices { node: name, items }).into_response()))
}

/// Connections that this node balances, or would, if it held the address.
#[utoipa::path(get, path = "/v1/lb/connections", tag = "lb", operation_id = "list_lb_connections", params(ConnectionParams),
    responses((status = 200, body = LbConnections), (status = "default", body = Problem)))]
pub(super) async fn connections(
    State(daemon): State<Daemon>,
    Params(asked): Params<ConnectionParams>,
) -> Result<Response, Refusal> {
    let narrower = "ask for fewer, or for those of one client, VIP or backend";
    let limit = at_most(asked.limit.unwrap_or(SHOWN), narrower)?;
    let of = ConnectionsOf {
        client: asked.client,
        vip: asked.vip,
        port: asked.port,
        backend: asked.backend,
        nat: asked.nat,
        limit,
    };
    let (mut found, place) = look(&daemon, move |kernel| kernel.connections(&of)).await?;
    found.node = own_name(&daemon);
    Ok(place.held(Json(found).into_response()))
}

/// The look-up table of a service.
#[utoipa::path(get, path = "/v1/lb/maglev", tag = "lb", operation_id = "get_lb_maglev", params(ServiceParams),
    responses((status = 200, body = LbMaglev), (status = "default", body = Problem)))]
pub(super) async fn maglev(
    State(daemon): State<Daemon>,
    Params(asked): Params<ServiceParams>,
) -> Result<Response, Refusal> {
    let of = ServiceAt {
        address: asked.address,
        port: asked.port,
        protocol: asked.protocol,
    };
    let (found, place) = look(&daemon, move |kernel| kernel.maglev(&of)).await?;
    let Some(mut found) = found else {
        let what = format!("{} {}/{}", of.address, of.protocol, of.port);
        return Err(Refusal::not_found("service", &what));
    };
    found.digest = digest(&found);
    found.node = own_name(&daemon);
    Ok(place.held(Json(found).into_response()))
}

/// Which client.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ClientParams {
    /// Its address.
    #[param(value_type = String)]
    client: IpAddr,
}

/// Where VIPs with affinity `client` send a client's new connections.
#[utoipa::path(get, path = "/v1/lb/affinity", tag = "lb", operation_id = "get_lb_affinity", params(ClientParams),
    responses((status = 200, body = LbAffinity), (status = "default", body = Problem)))]
pub(super) async fn affinity(
    State(daemon): State<Daemon>,
    Params(ClientParams { client }): Params<ClientParams>,
) -> Result<Response, Refusal> {
    let (mut items, place) = look(&daemon, move |kernel| kernel.affinity(client)).await?;
    daemon.read(|state| {
        for item in &mut items {
            item.vip = whose(state, item.address, item.port, item.protocol);
        }
    });
    let node = own_name(&daemon);
    Ok(place.held(Json(LbAffinity { node, items }).into_response()))
}

/// Which packet.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PacketParams {
    /// The client's address.
    #[param(value_type = String)]
    client: IpAddr,
    /// The client's port.
    client_port: u16,
    /// The VIP's address, of the same family.
    #[param(value_type = String)]
    address: IpAddr,
    /// The port of it.
    port: u16,
    /// The protocol, `tcp` when it is left out.
    #[serde(default)]
    #[param(inline)]
    protocol: Protocol,
    /// Whether it is of a TCP connection that is open already, not one that opens it.
    #[serde(default)]
    established: bool,
}

/// What this node does with a packet, by having its programs do it: it is counted like any other.
#[utoipa::path(get, path = "/v1/lb/trace", tag = "lb", operation_id = "trace_lb", params(PacketParams),
    responses((status = 200, body = LbTrace), (status = "default", body = Problem)))]
pub(super) async fn trace(
    State(daemon): State<Daemon>,
    Params(asked): Params<PacketParams>,
) -> Result<Json<LbTrace>, Refusal> {
    if asked.client.is_ipv4() != asked.address.is_ipv4() {
        return Err(Refusal::bad_request(
            "bad_query",
            format!(
                "a packet from {} can't go to {}: they are of different families",
                asked.client, asked.address
            ),
            "name a client of the address's family",
        ));
    }
    let packet = PacketOf {
        client: (asked.client, asked.client_port),
        to: ServiceAt {
            address: asked.address,
            port: asked.port,
            protocol: asked.protocol,
        },
        opens: !asked.established,
    };
    let (mut found, _place) = look(&daemon, move |kernel| kernel.trace(&packet)).await?;
    found.node = own_name(&daemon);
    Ok(Json(found))
}

/// Looks into the kernel, off the threads that answer everybody else. The place is the answer's until it is read.
pub(super) async fn look<T: Send + 'static>(
    daemon: &Daemon,
    ask: impl FnOnce(&dyn Balancing) -> Result<T, ControlError> + Send + 'static,
) -> Result<(T, Place), Refusal> {
    let place = daemon.room.answer(&audit::asker()?)?;
    let turn = daemon.room.make().await?;
    let kernel: Arc<dyn Balancing> = daemon.balancing();
    let looked = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        ask(&*kernel)
    });
    let found = looked.await.map_err(|cause| Refusal::broken(&cause))??;
    Ok((found, place))
}

/// The VIP that claims a port of an address.
fn whose(state: &Cluster, address: IpAddr, port: u16, protocol: Protocol) -> Option<String> {
    let port = Port {
        protocol: convert::service::protocol_from_wire(protocol),
        port,
    };
    let vips = state.allocations().get(&address)?.vips();
    let mut vips = vips.filter_map(|vip| state.vips().get(vip));
    let named = vips.find(|vip| vip.spec.ports.contains_key(&port))?;
    Some(named.name.to_string())
}

pub(super) fn own_name(daemon: &Daemon) -> String {
    let node = daemon.node();
    daemon.read(|state| convert::node_name(state, node))
}

/// Over what each slot leads to, whatever the numbers of the backends are in this kernel.
fn digest(table: &LbMaglev) -> String {
    let mut hash = Sha256::new();
    for slot in &table.slots {
        let to = slot.and_then(|slot| table.backends.get(usize::from(slot)));
        let to = to.map(|share| format!("{} {}", share.backend.address, share.backend.port));
        hash.update(to.unwrap_or_default());
        hash.update(b"\n");
    }
    convert::backup::hex(&hash.finalize())
}
