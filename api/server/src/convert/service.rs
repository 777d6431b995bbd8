//! How a VIP is served: mode, ports, backends.

use std::collections::BTreeSet;

use vipd_api_types as wire;
use vipd_core::name::Name;
use vipd_core::node::Prefix;
use vipd_core::service::{
    Affinity, Backend, Backends, ClientAddress, Dispatch, Endpoint, Mode, Port, PortSpec, Ports,
    Protocol, TrafficPolicy,
};

use super::new_name;
use super::vip::address;
use crate::problem::Refusal;

pub(super) fn mode_from_wire(mode: wire::Mode) -> Mode {
    match mode {
        wire::Mode::Local => Mode::Local,
        wire::Mode::Nat => Mode::Nat,
        wire::Mode::Dsr => Mode::Dsr,
    }
}

pub(super) fn mode_to_wire(mode: Mode) -> wire::Mode {
    match mode {
        Mode::Local => wire::Mode::Local,
        Mode::Nat => wire::Mode::Nat,
        Mode::Dsr => wire::Mode::Dsr,
    }
}

pub(super) fn client_from_wire(client: wire::ClientAddress) -> ClientAddress {
    match client {
        wire::ClientAddress::Vip => ClientAddress::Vip,
        wire::ClientAddress::Keep => ClientAddress::Keep,
    }
}

pub(super) fn client_to_wire(client: ClientAddress) -> wire::ClientAddress {
    match client {
        ClientAddress::Vip => wire::ClientAddress::Vip,
        ClientAddress::Keep => wire::ClientAddress::Keep,
    }
}

pub(super) fn dispatch_from_wire(dispatch: wire::Dispatch) -> Dispatch {
    match dispatch {
        wire::Dispatch::L2 => Dispatch::L2,
        wire::Dispatch::Ipip => Dispatch::Ipip,
        wire::Dispatch::Gue => Dispatch::Gue,
    }
}

pub(super) fn dispatch_to_wire(dispatch: Dispatch) -> wire::Dispatch {
    match dispatch {
        Dispatch::L2 => wire::Dispatch::L2,
        Dispatch::Ipip => wire::Dispatch::Ipip,
        Dispatch::Gue => wire::Dispatch::Gue,
    }
}

pub(super) fn traffic_from_wire(policy: wire::TrafficPolicy) -> TrafficPolicy {
    match policy {
        wire::TrafficPolicy::Cluster => TrafficPolicy::Cluster,
        wire::TrafficPolicy::Local => TrafficPolicy::Local,
    }
}

pub(super) fn traffic_to_wire(policy: TrafficPolicy) -> wire::TrafficPolicy {
    match policy {
        TrafficPolicy::Cluster => wire::TrafficPolicy::Cluster,
        TrafficPolicy::Local => wire::TrafficPolicy::Local,
    }
}

pub(super) fn affinity_from_wire(affinity: wire::Affinity) -> Affinity {
    match affinity {
        wire::Affinity::None => Affinity::None,
        wire::Affinity::Client => Affinity::Client,
    }
}

pub(super) fn affinity_to_wire(affinity: Affinity) -> wire::Affinity {
    match affinity {
        Affinity::None => wire::Affinity::None,
        Affinity::Client => wire::Affinity::Client,
    }
}

pub(super) fn sources_from_wire(ranges: &[String]) -> Result<BTreeSet<Prefix>, Refusal> {
    let ranges = ranges.iter().map(|text| {
        let bad = || {
            Refusal::invalid(format!(
                "{text:?} is no network such as 10.0.0.0/8 or fd00::/8"
            ))
        };
        let (at, len) = text.split_once('/').ok_or_else(bad)?;
        Ok(Prefix {
            address: at.parse().map_err(|_| bad())?,
            len: len.parse().map_err(|_| bad())?,
        })
    });
    ranges.collect()
}

pub(super) fn ports_from_wire(ports: &[wire::Port]) -> Result<Ports, Refusal> {
    let mut known = Ports::new();
    for named in ports {
        let port = Port {
            protocol: protocol_from_wire(named.protocol),
            port: named.port,
        };
        let spec = PortSpec {
            name: named.name.as_deref().map(new_name).transpose()?,
            target: not_zero(named.target_port, "target_port", named)?,
        };
        if known.insert(port, spec).is_some() {
            return Err(Refusal::invalid(format!(
                "port {}/{} is named twice",
                named.protocol, named.port
            )));
        }
    }
    Ok(known)
}

pub(super) fn ports_to_wire(ports: &Ports) -> Vec<wire::Port> {
    let ports = ports.iter().map(|(port, spec)| wire::Port {
        name: spec.name.as_ref().map(Name::to_string),
        port: port.port,
        protocol: protocol_to_wire(port.protocol),
        target_port: (spec.target != 0).then_some(spec.target),
    });
    ports.collect()
}

pub(super) fn backends_from_wire(backends: &[wire::Backend]) -> Result<Backends, Refusal> {
    let mut known = Backends::new();
    for named in backends {
        let endpoint = Endpoint {
            address: address(&named.address)?,
            port: not_zero(named.port, "the port", named)?,
        };
        let backend = Backend {
            weight: named.weight,
            node: named.node.as_deref().map(new_name).transpose()?,
        };
        if known.insert(endpoint, backend).is_some() {
            return Err(Refusal::invalid(format!(
                "backend {endpoint} is named twice"
            )));
        }
    }
    Ok(known)
}

pub(super) fn backends_to_wire(backends: &Backends) -> Vec<wire::Backend> {
    let backends = backends.iter().map(|(endpoint, backend)| wire::Backend {
        address: endpoint.address.to_string(),
        port: (endpoint.port != 0).then_some(endpoint.port),
        weight: backend.weight,
        node: backend.node.as_ref().map(Name::to_string),
    });
    backends.collect()
}

pub(crate) fn protocol_from_wire(protocol: wire::Protocol) -> Protocol {
    match protocol {
        wire::Protocol::Tcp => Protocol::Tcp,
        wire::Protocol::Udp => Protocol::Udp,
    }
}

pub(crate) fn protocol_to_wire(protocol: Protocol) -> wire::Protocol {
    match protocol {
        Protocol::Tcp => wire::Protocol::Tcp,
        Protocol::Udp => wire::Protocol::Udp,
    }
}

/// The core says 0 where the wire leaves a port out.
fn not_zero(port: Option<u16>, what: &str, of: &impl std::fmt::Display) -> Result<u16, Refusal> {
    match port {
        Some(0) => Err(Refusal::invalid(format!(
            "{what} of {of} is 0: leave it out to keep the port"
        ))),
        Some(port) => Ok(port),
        None => Ok(0),
    }
}
