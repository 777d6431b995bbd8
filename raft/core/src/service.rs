//! Services: the ports of a VIP, and the backends that its holder spreads their connections over.

use alloc::collections::BTreeMap;
use core::fmt;
use core::net::IpAddr;

use crate::block::Family;
use crate::codec::{wire_enum, wire_struct};
use crate::name::Name;
use crate::node::Node;
use crate::time::Millis;

/// How the holder serves a VIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The address is put on the holder's interface; programs on the holder serve it.
    #[default]
    Local,
    /// The holder spreads connections over backends and rewrites their packets both ways: answers come back through it.
    Nat,
    /// The holder spreads connections over backends that have the address too and answer clients by themselves. How packets
    /// come to them is [`Dispatch`]'s.
    Dsr,
}

wire_enum!(Mode { 0 => Local, 1 => Nat, 2 => Dsr });

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Nat => "nat",
            Self::Dsr => "dsr",
        })
    }
}

/// How packets travel to a backend of [`Mode::Dsr`], which gets them as clients sent them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dispatch {
    /// To its MAC: it is on a link of the holder.
    #[default]
    L2,
    /// Inside a packet of IP in IP: it may be behind routers.
    Ipip,
    /// The same inside UDP (GUE).
    Gue,
}

wire_enum!(Dispatch { 0 => L2, 1 => Ipip, 2 => Gue });

impl fmt::Display for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::L2 => "l2",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
        })
    }
}

/// Whom a backend of [`Mode::Nat`] sees as the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAddress {
    /// The VIP: whatever its routes, its answers come back to the holder.
    #[default]
    Vip,
    /// The client itself: the backend's way back leads through the holder, whose VIPs are its router.
    Keep,
}

wire_enum!(ClientAddress { 0 => Vip, 1 => Keep });

/// Which nodes a VIP may be on, and which backends its holder uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// Any node; all backends.
    #[default]
    Cluster,
    /// Nodes that have a backend of their own; that one alone, which sees the clients' addresses.
    Local,
}

wire_enum!(TrafficPolicy { 0 => Cluster, 1 => Local });

/// What connections are kept together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    /// None: each goes where its address and port lead.
    #[default]
    None,
    /// All of a client's address, on all nodes: where its last one within [`crate::vip::VipSpec::affinity_timeout`] went.
    Client,
}

impl Affinity {
    /// How long after its last connection began a client is kept, where nothing is said: as Kubernetes has it.
    pub const TIMEOUT: Millis = Millis(3 * 3_600_000);
    /// The shortest that can be said.
    pub const SHORTEST: Millis = Millis(1_000);
    /// The longest.
    pub const LONGEST: Millis = Millis(24 * 3_600_000);
}

wire_enum!(Affinity { 0 => None, 1 => Client });

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

wire_enum!(Protocol { 0 => Tcp, 1 => Udp });

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// A port that a VIP claims of its addresses. A VIP that names none claims all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// The protocol.
    pub protocol: Protocol,
    /// The port; 0 is all ports of the protocol.
    pub port: u16,
}

wire_struct!(Port { protocol, port });

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            0 => write!(f, "{} all ports", self.protocol),
            port => write!(f, "{} {port}", self.protocol),
        }
    }
}

/// What else is said of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSpec {
    /// What people call it.
    pub name: Option<Name>,
    /// The port on backends that name none of their own; 0 is the port itself.
    pub target: u16,
}

wire_struct!(PortSpec { name, target });

/// The ports of a VIP: no two claim the same.
pub type Ports = BTreeMap<Port, PortSpec>;

/// Where a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Its port; 0 is what the VIP's port says.
    pub port: u16,
}

wire_struct!(Endpoint { address, port });

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.port) {
            (address, 0) => write!(f, "{address}"),
            (IpAddr::V4(v4), port) => write!(f, "{v4}:{port}"),
            (IpAddr::V6(v6), port) => write!(f, "[{v6}]:{port}"),
        }
    }
}

/// What is said of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// How many new connections it gets relative to the others, at most [`Backend::MAX_WEIGHT`]. At 0 it drains: what it
    /// has it keeps, and nothing new comes.
    pub weight: u16,
    /// The node it runs on, if on one.
    pub node: Option<Name>,
}

wire_struct!(Backend { weight, node });

impl Backend {
    /// The greatest weight.
    pub const MAX_WEIGHT: u16 = 256;
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            weight: 1,
            node: None,
        }
    }
}

impl Backend {
    /// Whether it runs on this node: it says so, or it is where the node is. One at a loopback address runs on whichever node asks.
    #[must_use]
    pub fn is_on(&self, at: &Endpoint, node: &Node) -> bool {
        self.node.as_ref() == Some(&node.name) || node.owns(at.address) || at.address.is_loopback()
    }
}

/// The backends of a VIP.
pub type Backends = BTreeMap<Endpoint, Backend>;

/// Whether there are backends that take new connections to a VIP's addresses of this family. None can translate between
/// families.
#[must_use]
pub fn serves(backends: &Backends, family: Family) -> bool {
    let mut backends = backends.iter();
    backends.any(|(at, backend)| backend.weight > 0 && Family::of(at.address) == family)
}

/// A port that both claim, if there is one.
#[must_use]
pub fn both_claim(a: &Ports, b: &Ports) -> Option<Port> {
    let all = |protocol| Port { protocol, port: 0 };
    let named = a.keys().find(|port| b.contains_key(port)).copied();
    named.or_else(|| {
        let (a_all, b_all) = (
            |port: &&Port| b.contains_key(&all(port.protocol)),
            |port: &&Port| a.contains_key(&all(port.protocol)),
        );
        let taken = a.keys().find(a_all);
        taken.or_else(|| b.keys().find(b_all)).copied()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    const fn tcp(port: u16) -> Port {
        let protocol = Protocol::Tcp;
        Port { protocol, port }
    }

    const fn udp(port: u16) -> Port {
        let protocol = Protocol::Udp;
        Port { protocol, port }
    }

    fn ports(of: &[Port]) -> Ports {
        of.iter().map(|port| (*port, PortSpec::default())).collect()
    }

    #[test]
    fn port_0_is_all_ports_of_its_protocol_and_of_no_other() {
        let table: [(&[Port], &[Port], Option<Port>); 7] = [
            (&[tcp(80)], &[tcp(443)], None),
            (&[tcp(80)], &[udp(80)], None),
            (&[tcp(1), tcp(80)], &[tcp(80)], Some(tcp(80))),
            (&[tcp(80)], &[tcp(0)], Some(tcp(80))),
            (&[udp(80), tcp(443)], &[tcp(0)], Some(tcp(443))),
            (&[udp(0)], &[tcp(0)], None),
            (&[udp(0)], &[udp(0)], Some(udp(0))),
        ];
        for (a, b, wanted) in table {
            let (a, b) = (ports(a), ports(b));
            assert_eq!(both_claim(&a, &b), wanted, "{a:?} {b:?}");
            assert_eq!(both_claim(&b, &a), wanted, "{b:?} {a:?}");
        }
    }

    #[test]
    fn endpoints_are_shown_as_people_write_them() {
        let table = [
            ("10.0.0.1", 0, "10.0.0.1"),
            ("10.0.0.1", 80, "10.0.0.1:80"),
            ("fd00::1", 0, "fd00::1"),
            ("fd00::1", 80, "[fd00::1]:80"),
        ];
        let shown: Vec<_> = table
            .iter()
            .map(|(address, port, _)| Endpoint {
                address: address.parse().unwrap(),
                port: *port,
            })
            .map(|endpoint| endpoint.to_string())
            .collect();
        assert_eq!(shown, table.map(|(_, _, wanted)| wanted));
    }
}
