//! The words in which the daemon says what is to be balanced.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc, time::Duration};

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its number in an IP header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The protocol of this number; `None` if it is none that is balanced.
    #[must_use]
    pub const fn of(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// What clients talk to: a port of a virtual IP. Ordered by address first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The virtual IP.
    pub address: IpAddr,
    /// The port; 0 is each port that has no service of its own.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            port,
            protocol,
        } = self;
        match (address, port) {
            (address, 0) => write!(f, "{address} {protocol}, all ports"),
            (IpAddr::V4(address), port) => write!(f, "{address}:{port}/{protocol}"),
            (IpAddr::V6(address), port) => write!(f, "[{address}]:{port}/{protocol}"),
        }
    }
}

/// How packets come to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forward {
    /// Their addresses and ports are rewritten, and answers come back by this host.
    Nat,
    /// They are sent to the backend as they are; it has the virtual IP on an interface that does not
    /// answer ARP, and answers the client itself.
    Dsr(Dispatch),
}

/// How packets travel to a backend that gets them as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dispatch {
    /// To its MAC. It must be on a link of this host.
    #[default]
    L2,
    /// Inside a packet of IP in IP to its address, which may be behind routers.
    Ipip,
    /// The same inside UDP, by GUE to port 6080.
    Gue,
}

impl fmt::Display for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::L2 => "l2",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
        })
    }
}

/// A host that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WantedBackend {
    /// Where it is. One of the other family than the frontend is left out.
    pub address: IpAddr,
    /// The port that packets are sent to; 0: the one that they came for. Always 0 with
    /// [`Forward::Dsr`].
    pub port: u16,
    /// How much it gets, in relation to the others of its service; 0: nothing new.
    pub weight: u32,
    /// It gets nothing new, whatever its weight: what has begun there goes on.
    pub draining: bool,
}

/// What is behind a frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedService {
    /// How packets come to the backends.
    pub mode: Forward,
    /// The backends, in any order; each (address, port) once. Without any that can be used, packets
    /// are dropped.
    pub backends: Vec<WantedBackend>,
    /// With [`Forward::Nat`]: backends see clients' own addresses, since this host is their router and so their answers come
    /// back through it.
    pub keep: bool,
    /// All connections of a client go to the backend where its last one within this time went (whole ms, at most 49 days), as long as that
    /// takes new ones; else its address alone chooses.
    pub affinity: Option<Duration>,
    /// Only clients in one of these prefixes may begin a connection; empty: everybody may. One that names no prefix of
    /// the frontend's family admits nobody.
    pub ranges: Vec<(IpAddr, u8)>,
}

impl WantedService {
    /// For how many ms a client is kept; 0: not at all.
    pub(crate) fn timeout_ms(&self) -> u32 {
        self.affinity.map_or(0, |time| {
            u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
        })
    }
}

/// All services. Shared, so that a state that is wanted again and again is compared and kept for
/// the price of pointers: change what changed and keep the `Arc` of the rest.
pub type Services = BTreeMap<Frontend, Arc<WantedService>>;
