//! What is balanced at this moment, read from the kernel for people.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{Bounds, Forward, Frontend, Packet, Protocol, Trace, Why};
use crate::{DatapathError, Elements, HookSeen, MapSeen};

/// What was counted. Packets that were merged count as one each time the programs saw one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets from clients that went to a backend.
    pub packets_in: u64,
    /// Their bytes, with Ethernet headers.
    pub bytes_in: u64,
    /// Packets of answers that went to clients; none with dsr, where they do not come by.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Flows that began.
    pub flows: u64,
    /// Packets that were dropped, by the name of the reason; all reasons are there.
    pub drops: BTreeMap<&'static str, u64>,
}

/// A service as the programs have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSeen {
    /// What clients talk to.
    pub frontend: Frontend,
    /// How packets go on.
    pub mode: Forward,
    /// Backends see clients' addresses.
    pub keeps: bool,
    /// Number of its table.
    pub table: u32,
    /// Counted for it, in all backends and outside them.
    pub traffic: Traffic,
    /// Its backends.
    pub backends: Vec<BackendSeen>,
}

/// A backend of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSeen {
    /// Where it is.
    pub address: IpAddr,
    /// The port that packets are sent to; 0: the one that they came for.
    pub port: u16,
    /// Slots of the table that lead to it, of [`TableSeen::slots`].
    pub share: usize,
    /// The interface through which it is reached; 0: none.
    pub ifindex: u32,
    /// It is this host.
    pub local: bool,
    /// Why nothing new goes there although it has a weight.
    pub left_out: Option<Why>,
    /// Counted for it in this service.
    pub traffic: Traffic,
}

/// A look-up table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSeen {
    /// Its number.
    pub number: u32,
    /// For each slot the place in [`Self::backends`]; `None`: nobody.
    pub slots: Vec<Option<u16>>,
    /// The backends that are in it.
    pub backends: Vec<(IpAddr, u16)>,
}

/// One flow, both of its halves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowSeen {
    /// The client's address and port.
    pub client: (IpAddr, u16),
    /// The virtual IP and the port that the client talks to.
    pub vip: (IpAddr, u16),
    /// The protocol.
    pub protocol: Protocol,
    /// Where it goes.
    pub backend: (IpAddr, u16),
    /// The source that the backend sees; `None`: the client itself.
    pub source: Option<(IpAddr, u16)>,
    /// How packets go on.
    pub mode: Forward,
    /// The backend is this host.
    pub local: bool,
    /// How far it has come: opening, open, half_closed or closing; with UDP question (one packet of the client) or
    /// stream.
    pub state: &'static str,
    /// ns since the last packet of either half.
    pub idle_ns: u64,
    /// ns after which it is forgotten if no packet comes.
    pub left_ns: u64,
    /// Packets and bytes from the client.
    pub from_client: (u64, u64),
    /// Packets and bytes to the client; none with dsr.
    pub to_client: (u64, u64),
}

/// Which flows to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// Only those of this client.
    pub client: Option<IpAddr>,
    /// Only those to this virtual IP.
    pub vip: Option<IpAddr>,
    /// Only those to this port of it.
    pub port: Option<u16>,
    /// Only those that go to this backend.
    pub backend: Option<IpAddr>,
    /// Only those of mode nat.
    pub nat: bool,
}

/// Flows, not more than asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flows {
    /// In no order.
    pub flows: Vec<FlowSeen>,
    /// All that the filter lets through, also those that are not in `flows`.
    pub matching: usize,
    /// All that this node knows.
    pub known: usize,
}

/// Where a service that keeps a client with one backend sends a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affine {
    /// The service.
    pub frontend: Frontend,
    /// The backend; `None` while it has none.
    pub backend: Option<(IpAddr, u16)>,
    /// How long it is kept with this one, if it does not come back; `None`: it was not here within the service's time, or not
    /// with one that takes new connections, so the table leads it there.
    pub left: Option<Duration>,
}

/// Looks at what is balanced, on any thread, for whoever asks.
pub trait Lens: Send + Sync {
    /// All services, or the one of a frontend, with their backends and what was counted.
    ///
    /// # Errors
    /// If the kernel does not let a map be read.
    fn services(&self, of: Option<Frontend>) -> Result<Vec<ServiceSeen>, DatapathError>;

    /// The table of a service; `None` if there is no such service.
    ///
    /// # Errors
    /// If the kernel does not let a map be read.
    fn table(&self, of: Frontend) -> Result<Option<TableSeen>, DatapathError>;

    /// Flows, `at_most` so many. All flows are read for it, about 0.3 µs each.
    ///
    /// # Errors
    /// If the kernel does not let a map be read.
    fn flows(&self, filter: &FlowFilter, at_most: usize) -> Result<Flows, DatapathError>;

    /// The maps that the daemon and its programs share.
    ///
    /// # Errors
    /// If one of them can't be opened.
    fn maps(&self) -> Result<Vec<MapSeen>, DatapathError>;

    /// Elements of a map, decoded, `at_most` so many; only those whose key contains `key`, if one is given. `None` if there is no
    /// such map, or one that is not to be read.
    ///
    /// # Errors
    /// If the kernel does not let it be read.
    fn map(
        &self,
        name: &str,
        key: Option<&str>,
        at_most: usize,
    ) -> Result<Option<Elements>, DatapathError>;

    /// By which bounds it balances: `flows` is how large the table is in the kernel, and `new_flows` is always named.
    fn bounds(&self) -> Bounds;

    /// Where packets of open connections are sent on, by interface. Seconds old.
    fn hooks(&self) -> Vec<HookSeen>;

    /// Where each service that keeps a client with one backend sends new connections of `client`, as the programs do. Of those of
    /// all ports only where it is kept: else the port decides, too.
    ///
    /// # Errors
    /// If the kernel does not let a map be read.
    fn affinity(&self, client: IpAddr) -> Result<Vec<Affine>, DatapathError>;

    /// Where a packet would go: the loaded program runs on it, on the interface of its virtual IP. A flow that it begins
    /// is forgotten again (the runner-up may hear of it for a moment, and keep its client with that backend); the counters count the packet.
    ///
    /// # Errors
    /// If its addresses are of different families, or the kernel does not run the program.
    fn trace(&self, packet: &Packet) -> Result<Trace, DatapathError>;
}
