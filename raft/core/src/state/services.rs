//! What is refused of a VIP's ports and backends.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use core::net::IpAddr;

use super::State;
use crate::name::Name;
use crate::node::Prefix;
use crate::rejection::Rejection;
use crate::service::{
    Affinity, Backend, ClientAddress, Dispatch, Endpoint, Mode, Port, PortSpec, Protocol,
    TrafficPolicy,
};
use crate::vip::VipSpec;

/// The most ports of one VIP.
const MAX_PORTS: usize = 256;
/// The most backends of one VIP.
const MAX_BACKENDS: usize = 256;

/// The most addresses times ports of one VIP that is balanced.
const MAX_SERVICES: usize = 1024;
/// The most of them times its backends.
const MAX_PAIRS: usize = 32_768;
/// The most source ranges of one VIP.
const MAX_SOURCES: usize = 64;

/// Refuses ports and backends that no datapath could ever serve as they are written.
pub(super) fn check(name: &Name, spec: &VipSpec) -> Result<(), Rejection> {
    let told = counts(spec)
        .and_then(|()| mode(spec))
        .and_then(|()| affinity(spec))
        .and_then(|()| ports(spec))
        .and_then(|()| backends(spec))
        .and_then(|()| sources(spec))
        .and_then(|()| match &spec.health {
            Some(health) => health.check(spec),
            None => Ok(()),
        });
    told.map_err(|why| Rejection::Invalid {
        why: format!("VIP {name} {why}"),
    })
}

fn counts(spec: &VipSpec) -> Result<(), String> {
    let counts = [
        (spec.ports.len(), MAX_PORTS, "ports"),
        (spec.backends.len(), MAX_BACKENDS, "backends"),
        (spec.sources.len(), MAX_SOURCES, "source ranges"),
    ];
    if let Some((n, most, what)) = counts.into_iter().find(|(n, most, _)| n > most) {
        return Err(format!("names {n} {what}, more than {most}"));
    }
    // Every node has each port of each address with each backend in memory.
    let addresses = spec.addresses.len().max(spec.families.wanted().len());
    let services = addresses * spec.ports.len();
    let pairs = services * spec.backends.len();
    if spec.mode != Mode::Local && (services > MAX_SERVICES || pairs > MAX_PAIRS) {
        return Err(format!(
            "has {services} services (addresses times ports) with {} backends each: at most {MAX_SERVICES} can be, and \
             {MAX_PAIRS} times a backend; spread them over several VIPs",
            spec.backends.len()
        ));
    }
    Ok(())
}

fn mode(spec: &VipSpec) -> Result<(), String> {
    let moved = spec.ports.iter().find(|(_, more)| more.target != 0);
    if spec.dispatch != Dispatch::L2 && spec.mode != Mode::Dsr {
        return Err(format!(
            "has dispatch {}, but its mode is {}: only backends of mode dsr are reached so",
            spec.dispatch, spec.mode
        ));
    }
    if spec.client == ClientAddress::Keep && spec.mode != Mode::Nat {
        let why = match spec.mode {
            Mode::Dsr => "backends of mode dsr see clients as they are anyway",
            Mode::Local => "nothing is sent on to backends",
            Mode::Nat => "",
        };
        return Err(format!(
            "has client_address keep, but its mode is {}: {why}. It is for mode nat",
            spec.mode
        ));
    }
    match spec.mode {
        Mode::Local if !spec.backends.is_empty() => Err(
            "has backends, but its mode is local: its holder serves it. Choose mode nat or dsr"
                .into(),
        ),
        Mode::Local if moved.is_some() => Err(
            "has a target_port, but its mode is local: nothing is rewritten. Choose mode nat"
                .into(),
        ),
        Mode::Local if spec.traffic == TrafficPolicy::Local => Err(
            "has traffic policy local, but its mode is local: it has no backends to be near to"
                .into(),
        ),
        Mode::Local if spec.affinity != Affinity::None || !spec.sources.is_empty() => Err(
            "has an affinity or source_ranges, but its mode is local: its holder's own stack takes all that comes".into(),
        ),
        Mode::Nat | Mode::Dsr if spec.ports.is_empty() => Err(format!(
            "is of mode {} and names no port: port 0 is all ports of a protocol",
            spec.mode
        )),
        Mode::Dsr if moved.is_some() => Err(
            "has a target_port, but its mode is dsr: backends get packets as clients sent them"
                .into(),
        ),
        Mode::Dsr => match spec.backends.keys().find(|endpoint| endpoint.port != 0) {
            Some(endpoint) => Err(format!(
                "has backend {endpoint} with a port, but its mode is dsr: backends get packets as clients sent them"
            )),
            None => Ok(()),
        },
        Mode::Local | Mode::Nat => Ok(()),
    }
}

fn affinity(spec: &VipSpec) -> Result<(), String> {
    match spec.affinity_timeout {
        Some(_) if spec.affinity != Affinity::Client => Err(
            "has an affinity_timeout and no affinity: choose affinity client, which keeps clients for so long"
                .into(),
        ),
        Some(time) if !(Affinity::SHORTEST..=Affinity::LONGEST).contains(&time) => Err(format!(
            "has an affinity_timeout of {} ms: 1 s to 24 h can be",
            time.0
        )),
        Some(_) | None => Ok(()),
    }
}

fn ports(spec: &VipSpec) -> Result<(), String> {
    let mut names: BTreeMap<&Name, Port> = BTreeMap::new();
    for (port, PortSpec { name, target }) in &spec.ports {
        if let Some(name) = name
            && let Some(other) = names.insert(name, *port)
        {
            return Err(format!("calls both {other} and {port} {name}"));
        }
        if port.port == 0 && *target != 0 {
            return Err(format!(
                "sends {port} to port {target}: all ports are kept as they are, so name no target_port"
            ));
        }
    }
    Ok(())
}

fn backends(spec: &VipSpec) -> Result<(), String> {
    let all = spec.ports.keys().find(|port| port.port == 0);
    let mut last: Option<&Endpoint> = None;
    for (endpoint, Backend { weight, node }) in &spec.backends {
        let Endpoint { address, port } = *endpoint;
        if let Some(what) = unfit(address) {
            return Err(format!("has backend {endpoint}, which is {what}"));
        }
        if address.is_loopback() {
            on_loopback(spec, endpoint, node.as_ref())?;
        }
        if spec.addresses.contains(&address) {
            return Err(format!(
                "has backend {endpoint}, which is an address of its own"
            ));
        }
        if *weight > Backend::MAX_WEIGHT {
            return Err(format!(
                "gives backend {endpoint} weight {weight}: 0 to {} can be",
                Backend::MAX_WEIGHT
            ));
        }
        if let Some(all) = all.filter(|_| port != 0) {
            return Err(format!(
                "has backend {endpoint} with a port, but {all} are kept as they are"
            ));
        }
        // In their order the one without a port comes first.
        if let Some(last) = last.filter(|last| last.address == address && last.port == 0) {
            return Err(format!(
                "names backend {last} with a port ({port}) and without one"
            ));
        }
        last = Some(endpoint);
    }
    Ok(())
}

/// A backend at a loopback address is a program on whichever node holds the VIP: what it accepts are connections of the VIP.
fn on_loopback(spec: &VipSpec, at: &Endpoint, node: Option<&Name>) -> Result<(), String> {
    let udp = |port: &&Port| port.protocol == Protocol::Udp;
    let all = |port: &&Port| port.port == 0;
    if spec.mode == Mode::Dsr {
        Err(format!(
            "has backend {at}, but its mode is dsr: backends at loopback addresses are for mode nat"
        ))
    } else if let Some(node) = node {
        Err(format!(
            "has backend {at} on node {node}, but a loopback address is that of whichever node holds the VIP: name an address of {node} that \
             others see"
        ))
    } else if let Some(port) = spec.ports.keys().find(udp) {
        Err(format!(
            "has backend {at} and port {port}, but a loopback address can't answer by UDP beyond its host: name the host's address that \
             others see, or a VIP of its own for {port}"
        ))
    } else if let Some(all) = spec.ports.keys().find(all) {
        Err(format!(
            "has backend {at} and {all}: of a loopback address name each port that others shall reach"
        ))
    } else {
        Ok(())
    }
}

fn sources(spec: &VipSpec) -> Result<(), String> {
    let is_network = |prefix: &&Prefix| {
        let net = ipnet::IpNet::new(prefix.address, prefix.len);
        net.is_ok_and(|net| net.network() == prefix.address)
    };
    match spec.sources.iter().find(|prefix| !is_network(prefix)) {
        Some(prefix) => Err(format!(
            "has source range {prefix}, which is no network such as 10.0.0.0/8 or fd00::/8"
        )),
        None => Ok(()),
    }
}

/// Why no host can be reached at an address.
fn unfit(address: IpAddr) -> Option<&'static str> {
    let broadcast = match address {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
    };
    let link_local = match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_unspecified() {
        Some("no address of a host")
    } else if address.is_multicast() || broadcast {
        Some("not the address of one host")
    } else if link_local {
        Some("a link-local address, which means another host on each interface")
    } else {
        None
    }
}

impl State {
    /// Refuses backends that are VIPs: what came for one would go to another, or round in a ring.
    pub(super) fn check_backends(&self, name: &Name, spec: &VipSpec) -> Result<(), Rejection> {
        for endpoint in spec.backends.keys() {
            if let Some(of) = self.allocations.get(&endpoint.address) {
                return Err(Rejection::Invalid {
                    why: format!(
                        "VIP {name} has backend {endpoint}, which is an address of VIP {}: name the hosts behind it",
                        of.vip
                    ),
                });
            }
        }
        Ok(())
    }
}
