//! From the services that are wanted, and where their backends are, to what the programs shall know.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use vipd_datapath_common::{balance::service_flags, flags};

use super::{Dispatch, Forward, Frontend, Protocol, Services, WantedBackend, WantedService};

/// How this host reaches an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Out of this interface.
    pub(crate) ifindex: u32,
    /// It is an address of this host.
    pub(crate) local: bool,
    /// No router is in between.
    pub(crate) on_link: bool,
    /// The address of this host that it is reached from.
    pub(crate) source: Option<IpAddr>,
    /// How long the prefix of its link is, if no router is in between and the route says so.
    pub(crate) link: Option<u8>,
    /// What its route carries at a time, bytes of IP, if that says so.
    pub(crate) mtu: Option<u32>,
}

/// Where the backends are; those that nothing leads to are `None`.
pub(crate) type Reaches = BTreeMap<IpAddr, Option<Reach>>;

/// A backend as one of the kernel's: two services that name the same address and port share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            0 => self.address.fmt(f),
            port => SocketAddr::new(self.address, port).fmt(f),
        }
    }
}

/// What a table is made of, in order, each with its weight above 0. Services that want the same
/// share a table.
pub(crate) type Recipe = Arc<[(Spot, u32)]>;

/// A prefix of clients' addresses, the bits behind it being 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prefix {
    pub(crate) address: IpAddr,
    pub(crate) length: u8,
}

/// A service as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    /// Of [`service_flags`].
    pub(crate) flags: u32,
    /// How long a client is kept, in ms, if [`service_flags::BY_CLIENT`] is set.
    pub(crate) timeout: u32,
    pub(crate) recipe: Recipe,
    /// Who may begin a connection, if [`service_flags::RANGES`] is set.
    pub(crate) ranges: BTreeSet<Prefix>,
    /// All its backends, in the table or not: what goes on there is counted.
    pub(crate) spots: BTreeSet<Spot>,
}

/// Why a backend is in no table although it has a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// No route leads to it.
    Unreachable,
    /// dsr by MAC needs it on a link of this host, and a router is in between.
    BehindRouter,
    /// Packets for it are to be encapsulated, and this host has no address of its own to do so from.
    NoSource,
    /// It is reached through an interface without vipd's programs, which would not see its answers.
    NoPrograms,
    /// Its address is of the other family than that of the service.
    OtherFamily,
    /// It is at a loopback address, and nothing from outside may go to that port there.
    Loopback,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "no route of this host leads to it: see `ip route get`",
            Self::BehindRouter => {
                "a router is between it and this host, and dsr needs it on a link of this host: use dispatch ipip or gue, or mode nat"
            }
            Self::NoSource => {
                "this host has no address of its family to send encapsulated packets from: see `ip route get`"
            }
            Self::NoPrograms => {
                "it is reached through an interface that vipd has no programs on (only Ethernet gets them, and no port of a bridge or bond)"
            }
            Self::OtherFamily => "its address is not of the service's family",
            Self::Loopback => {
                "vipd.toml of this node lets nothing in to that port of loopback addresses: see loopback_ports under [balance]"
            }
        })
    }
}

/// A backend that gets nothing from this host, whatever its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// Of which service.
    pub frontend: Frontend,
    /// The backend.
    pub backend: IpAddr,
    /// Its port; 0: that of the service.
    pub port: u16,
    /// Why.
    pub why: Why,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Goal {
    pub(crate) services: BTreeMap<Frontend, Want>,
    /// All backends that a service names and that are of its family.
    pub(crate) spots: BTreeMap<Spot, Option<Reach>>,
    /// What the entries of addresses say of balancing: bits of [`flags`].
    pub(crate) marks: BTreeMap<IpAddr, u32>,
    /// A nat service has a backend on this host.
    pub(crate) local: bool,
    /// A service has [`service_flags::KEEP`].
    pub(crate) keeps: bool,
    /// Where backends of such services serve, and for whom: `None` where that is more than one.
    pub(crate) answers: BTreeMap<Frontend, Option<(Frontend, Spot)>>,
    /// The backends of services with [`service_flags::ALL_PORTS`].
    pub(crate) answering: BTreeSet<Prefix>,
    pub(crate) left_out: Vec<LeftOut>,
}

/// What this host has for balancing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    /// The interfaces that have the programs.
    pub(crate) covered: BTreeSet<u32>,
    /// The ports at which backends may be at loopback addresses.
    pub(crate) loopback: BTreeSet<u16>,
}

/// What shall be. A backend whose reach is not known counts as out of reach.
pub(crate) fn goal(services: &Services, reaches: &Reaches, host: &Host) -> Goal {
    let mut goal = Goal::default();
    // Most services of an installation have the same few backends.
    let mut recipes = BTreeSet::new();
    for (frontend, service) in services {
        let marks = goal.marks.entry(frontend.address).or_default();
        *marks |= flags::BALANCED;
        let mut shares = Vec::new();
        let mut spots = BTreeSet::new();
        for backend in &service.backends {
            let reach = reaches.get(&backend.address).copied().flatten();
            let found = place(frontend, service.mode, backend, reach, host);
            if found != Err(Why::OtherFamily) {
                // Nobody is let in there, by a flow of earlier days either.
                let open = reach.filter(|_| found != Err(Why::Loopback));
                let known = goal.spots.entry(backend.spot()).or_insert(None);
                *known = open.or(*known);
                spots.insert(backend.spot());
            }
            let backend_here = reach.is_some_and(|reach| reach.local);
            match service.mode {
                Forward::Dsr(_) if backend_here => *marks |= flags::BACKEND,
                Forward::Nat if backend_here => goal.local = true,
                Forward::Dsr(_) | Forward::Nat => {}
            }
            match found {
                _ if backend.is_draining() => {}
                Ok(()) => shares.push((backend.spot(), backend.weight)),
                Err(why) => goal.left_out.push(LeftOut {
                    frontend: *frontend,
                    backend: backend.address,
                    port: backend.port,
                    why,
                }),
            }
        }
        shares.sort_unstable();
        shares.dedup_by_key(|(spot, _)| *spot);
        let recipe: Recipe = shares.into();
        let recipe = match recipes.get(&recipe) {
            Some(same) => Arc::clone(same),
            None => {
                recipes.insert(Arc::clone(&recipe));
                recipe
            }
        };
        let flags = flags_of(frontend, service);
        if flags & service_flags::ALL_PORTS != 0 {
            let ours = spots.iter().map(|spot| Prefix::new(spot.address, 128));
            goal.answering.extend(ours);
        }
        if flags & service_flags::KEEP != 0 {
            goal.keeps = true;
            goal.note_answers(frontend, &spots);
        }
        let want = Want {
            flags,
            timeout: service.timeout_ms(),
            recipe,
            ranges: ranges(frontend, service),
            spots,
        };
        goal.services.insert(*frontend, want);
    }
    goal
}

impl Goal {
    /// The backends of a service answer for it, unless they do so for another one from the same port.
    fn note_answers(&mut self, frontend: &Frontend, spots: &BTreeSet<Spot>) {
        for spot in spots {
            let end = Frontend {
                address: spot.address,
                port: if spot.port == 0 {
                    frontend.port
                } else {
                    spot.port
                },
                ..*frontend
            };
            let whose = Some((*frontend, *spot));
            let known = self.answers.entry(end).or_insert(whose);
            if *known != whose {
                *known = None;
            }
        }
    }
}

fn flags_of(frontend: &Frontend, service: &WantedService) -> u32 {
    let all_ports = frontend.port == 0 && frontend.protocol == Protocol::Tcp;
    let mode = service.mode.flags();
    let set = |flag, yes| if yes { flag } else { 0 };
    mode | set(service_flags::BY_CLIENT, service.affinity.is_some())
        | set(service_flags::RANGES, !service.ranges.is_empty())
        | set(
            service_flags::KEEP,
            service.keep && service.mode == Forward::Nat,
        )
        | set(
            service_flags::ALL_PORTS,
            all_ports && service.mode == Forward::Nat,
        )
}

/// Those of the frontend's family: no other client can come.
fn ranges(frontend: &Frontend, service: &WantedService) -> BTreeSet<Prefix> {
    let ours = service.ranges.iter();
    ours.filter(|(address, _)| address.is_ipv4() == frontend.address.is_ipv4())
        .map(|(address, length)| Prefix::new(*address, *length))
        .collect()
}

impl Prefix {
    /// Without the bits behind `length`; all of them count at most.
    pub(crate) fn new(address: IpAddr, length: u8) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let length = length.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                let address = Ipv4Addr::from(u32::from(v4) & mask).into();
                Self { address, length }
            }
            IpAddr::V6(v6) => {
                let length = length.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                let address = Ipv6Addr::from(u128::from(v6) & mask).into();
                Self { address, length }
            }
        }
    }
}

/// Whether packets of the service can be sent to the backend.
fn place(
    frontend: &Frontend,
    mode: Forward,
    backend: &WantedBackend,
    reach: Option<Reach>,
    host: &Host,
) -> Result<(), Why> {
    if backend.address.is_ipv4() != frontend.address.is_ipv4() {
        return Err(Why::OtherFamily);
    }
    if backend.address.is_loopback() {
        let port = match backend.port {
            0 => frontend.port,
            own => own,
        };
        let can = mode == Forward::Nat && frontend.protocol == Protocol::Tcp;
        if !can || !host.loopback.contains(&port) {
            return Err(Why::Loopback);
        }
    }
    let reach = reach.ok_or(Why::Unreachable)?;
    if reach.local {
        return Ok(());
    }
    if !host.covered.contains(&reach.ifindex) {
        return Err(Why::NoPrograms);
    }
    match mode {
        Forward::Dsr(Dispatch::L2) if !reach.on_link => Err(Why::BehindRouter),
        Forward::Dsr(Dispatch::Ipip | Dispatch::Gue) if reach.source.is_none() => {
            Err(Why::NoSource)
        }
        Forward::Dsr(_) | Forward::Nat => Ok(()),
    }
}

impl WantedBackend {
    pub(crate) fn spot(&self) -> Spot {
        Spot {
            address: self.address,
            port: self.port,
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining || self.weight == 0
    }
}

#[cfg(test)]
#[path = "goal_tests.rs"]
mod tests;
