//! What is balanced, read from the maps.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aya::maps::{HashMap, MapData, PerCpuHashMap};
use vipd_datapath_common::{
    AddressKey,
    balance::{
        AffinityKey, Backend, Direction, Flow, FlowKey, Member, Reason, Service, ServiceKey, Table,
        Tally, TallyKey, backend_flags, flow_flags, service_flags, slot_of_client,
    },
    name,
};

use super::{
    affinity::Clients,
    flows::{Door, FlowTable},
    maps::failed,
    news::News,
    records::{Numbers, SharedNumbers},
};
use crate::{
    Affine, BackendSeen, Bounds, DatapathError, Elements, FlowFilter, FlowSeen, Flows, Forward,
    Frontend, HookSeen, LeftOut, Lens, MapSeen, Packet, Protocol, ServiceSeen, TableSeen, Times,
    Trace, Traffic,
    balance::{
        Spot,
        collect::{State, ns},
    },
    kernel::{boottime_ns, dump::Atlas, short::Hooks},
};

pub(super) struct KernelLens {
    pub(super) door: Door,
    pub(super) clients: Clients,
    pub(super) members: HashMap<MapData, Member, u32>,
    pub(super) services: HashMap<MapData, ServiceKey, Service>,
    pub(super) tables: HashMap<MapData, u32, Table>,
    pub(super) backends: HashMap<MapData, u32, Backend>,
    pub(super) tally: PerCpuHashMap<MapData, TallyKey, Tally>,
    pub(super) left_out: Arc<Mutex<Arc<[LeftOut]>>>,
    pub(super) numbers: SharedNumbers,
    pub(super) program: Arc<OwnedFd>,
    pub(super) news: News,
    pub(super) bounds: Bounds,
    pub(super) aside: Aside,
}

/// What is shown beside.
pub(in crate::kernel) struct Aside {
    /// The maps.
    pub(in crate::kernel) atlas: Atlas,
    /// What interfaces have.
    pub(in crate::kernel) hooks: Hooks,
}

impl Lens for KernelLens {
    fn services(&self, of: Option<Frontend>) -> Result<Vec<ServiceSeen>, DatapathError> {
        let services = match of {
            Some(frontend) => self
                .service(frontend)?
                .map(|it| (frontend, it))
                .into_iter()
                .collect(),
            None => self.all_services()?,
        };
        let mut backends = BTreeMap::<u32, Vec<u32>>::new();
        for key in self.tally.keys() {
            let key = key.map_err(failed(name::TALLY, "list the counters"))?;
            backends.entry(key.service).or_default().push(key.backend);
        }
        // Many services share a table.
        let mut shares = BTreeMap::new();
        let left_out = Arc::clone(&self.left_out.lock().unwrap_or_else(PoisonError::into_inner));
        let mut seen: Vec<ServiceSeen> = services
            .into_iter()
            .map(|(frontend, service)| {
                let numbers = backends.remove(&service.id).unwrap_or_default();
                let shares = match shares.entry(service.table) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(table) => table.insert(self.shares(service.table)?),
                };
                self.seen(frontend, &service, numbers, shares, &left_out)
            })
            .collect::<Result<_, _>>()?;
        seen.sort_by_key(|service| service.frontend);
        Ok(seen)
    }

    fn table(&self, of: Frontend) -> Result<Option<TableSeen>, DatapathError> {
        let Some(service) = self.service(of)? else {
            return Ok(None);
        };
        let Some(table) = self.slots(service.table)? else {
            return Ok(None); // It has just been replaced.
        };
        let mut places = BTreeMap::new();
        let mut backends = Vec::new();
        let mut slots = Vec::with_capacity(table.slots.len());
        for number in &table.slots {
            let place = match places.get(number) {
                Some(place) => *place,
                None => {
                    let spot = self.backend(*number)?.as_ref().map(Spot::of);
                    let place = spot.map(|spot| {
                        backends.push((spot.address, spot.port));
                        (backends.len() - 1) as u16 // fewer than slots
                    });
                    places.insert(*number, place);
                    place
                }
            };
            slots.push(place);
        }
        Ok(Some(TableSeen {
            number: service.table,
            slots,
            backends,
        }))
    }

    fn flows(&self, filter: &FlowFilter, at_most: usize) -> Result<Flows, DatapathError> {
        let table = self.door.open()?;
        let now = boottime_ns();
        let mut found = Flows::default();
        let mut shown = Vec::new();
        let numbers = Numbers::of(&self.numbers);
        table.read(|key, flow| {
            if flow.has(flow_flags::REVERSE) {
                return true;
            }
            found.known += 1;
            if lets_through(filter, key, flow, &numbers) {
                found.matching += 1;
                if shown.len() < at_most {
                    shown.push((*key, *flow));
                }
            }
            true
        })?;
        for (key, flow) in shown {
            let times = &self.bounds.times;
            found
                .flows
                .extend(flow_seen(&table, times, &key, &flow, &numbers, now)?);
        }
        Ok(found)
    }

    fn maps(&self) -> Result<Vec<MapSeen>, DatapathError> {
        self.aside.atlas.list()
    }

    fn map(
        &self,
        name: &str,
        key: Option<&str>,
        at_most: usize,
    ) -> Result<Option<Elements>, DatapathError> {
        self.aside.atlas.read(name, key, at_most)
    }

    fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn hooks(&self) -> Vec<HookSeen> {
        let hooks = self.aside.hooks.lock();
        hooks.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn affinity(&self, client: IpAddr) -> Result<Vec<Affine>, DatapathError> {
        let mut affine = Vec::new();
        let now = boottime_ns();
        for (frontend, service) in self.all_services()? {
            let keeps = service.flags & service_flags::BY_CLIENT != 0;
            if !keeps || frontend.address.is_ipv4() != client.is_ipv4() {
                continue;
            }
            if let Some((backend, left)) = self.kept(&service, client, false, now)? {
                let spot = Spot::of(&backend);
                affine.push(Affine {
                    frontend,
                    backend: Some((spot.address, spot.port)),
                    left: Some(left),
                });
                continue;
            }
            if frontend.port == 0 {
                continue;
            }
            let ServiceKey {
                address,
                port,
                protocol,
                reserved: _,
            } = frontend.into();
            let slot = slot_of_client(&FlowKey {
                source: client.into(),
                destination: address,
                source_port: [0; 2],
                destination_port: port,
                protocol,
                reserved: [0; 3],
            });
            let table = self.slots(service.table)?;
            let number = table.and_then(|table| table.slots.get(slot as usize).copied());
            let backend = self.backend(number.unwrap_or(0))?;
            let spot = backend.as_ref().map(Spot::of);
            affine.push(Affine {
                frontend,
                backend: spot.map(|spot| (spot.address, spot.port)),
                left: None,
            });
        }
        affine.sort_by_key(|it| it.frontend);
        Ok(affine)
    }

    fn trace(&self, packet: &Packet) -> Result<Trace, DatapathError> {
        self.follow(&self.program, packet)
    }
}

impl KernelLens {
    fn all_services(&self) -> Result<Vec<(Frontend, Service)>, DatapathError> {
        let items = self.services.iter().filter_map(|item| {
            item.map(|(key, service)| Some((Frontend::of(&key)?, service)))
                .transpose()
        });
        items
            .collect::<Result<_, _>>()
            .map_err(failed(name::SERVICES, "list the services"))
    }

    pub(super) fn service(&self, frontend: Frontend) -> Result<Option<Service>, DatapathError> {
        optional(self.services.get(&ServiceKey::from(frontend), 0))
            .map_err(failed(name::SERVICES, format!("read {frontend}")))
    }

    /// The backend that a service keeps a client with `now`, as the programs see it, and for how long if it does not come back. `open`: in
    /// the sight of a connection that has begun before.
    pub(super) fn kept(
        &self,
        service: &Service,
        client: IpAddr,
        open: bool,
        now: u64,
    ) -> Result<Option<(Backend, Duration)>, DatapathError> {
        let key = affinity_key(service, client);
        let Some(known) = self.clients.get(&key)? else {
            return Ok(None);
        };
        let member = Member {
            table: service.table,
            backend: known.backend,
        };
        if !(open || known.holds(service.timeout, now)) || !self.is_member(&member)? {
            return Ok(None);
        }
        let age = u64::try_from(known.age(now)).unwrap_or(0);
        let left = u64::from(service.timeout) * 1_000_000;
        let left = Duration::from_nanos(left.saturating_sub(age));
        Ok(self.backend(known.backend)?.map(|backend| (backend, left)))
    }

    fn is_member(&self, member: &Member) -> Result<bool, DatapathError> {
        let found = optional(self.members.get(member, 0));
        let found = found.map_err(failed(name::MEMBERS, "read who takes new connections"))?;
        Ok(found.is_some())
    }

    fn slots(&self, table: u32) -> Result<Option<Box<Table>>, DatapathError> {
        let found = optional(self.tables.get(&table, 0));
        Ok(found
            .map_err(failed(name::TABLES, "read a table"))?
            .map(Box::new))
    }

    fn backend(&self, number: u32) -> Result<Option<Backend>, DatapathError> {
        if number == 0 {
            return Ok(None);
        }
        optional(self.backends.get(&number, 0)).map_err(failed(name::BACKENDS, "read a backend"))
    }

    /// The slots that each backend has in a table.
    fn shares(&self, table: u32) -> Result<BTreeMap<u32, usize>, DatapathError> {
        let mut shares = BTreeMap::new();
        if let Some(table) = self.slots(table)? {
            for number in &table.slots {
                *shares.entry(*number).or_default() += 1;
            }
        }
        Ok(shares)
    }

    fn seen(
        &self,
        frontend: Frontend,
        service: &Service,
        numbers: Vec<u32>,
        shares: &BTreeMap<u32, usize>,
        left_out: &[LeftOut],
    ) -> Result<ServiceSeen, DatapathError> {
        let mut all = Tally::default();
        let mut backends = Vec::new();
        for number in numbers {
            let tally = self.tally(service.id, number)?;
            all.add(&tally);
            let Some(backend) = self.backend(number)? else {
                continue;
            };
            let Spot { address, port } = Spot::of(&backend);
            let left = left_out
                .iter()
                .find(|left| (left.frontend, left.backend, left.port) == (frontend, address, port));
            backends.push(BackendSeen {
                address,
                port,
                share: shares.get(&number).copied().unwrap_or(0),
                ifindex: backend.ifindex,
                local: backend.flags & backend_flags::LOCAL != 0,
                left_out: left.map(|left| left.why),
                traffic: traffic(&tally),
            });
        }
        backends.sort_by_key(|backend| (backend.address, backend.port));
        Ok(ServiceSeen {
            frontend,
            mode: Forward::of_service(service.flags),
            keeps: service.flags & service_flags::KEEP != 0,
            table: service.table,
            traffic: traffic(&all),
            backends,
        })
    }

    pub(super) fn tally(&self, service: u32, backend: u32) -> Result<Tally, DatapathError> {
        let key = TallyKey { service, backend };
        let mut sum = Tally::default();
        let cpus =
            optional(self.tally.get(&key, 0)).map_err(failed(name::TALLY, "read counters"))?;
        cpus.iter()
            .flat_map(|cpus| cpus.iter())
            .for_each(|cpu| sum.add(cpu));
        Ok(sum)
    }
}

fn optional<T>(found: Result<T, aya::maps::MapError>) -> Result<Option<T>, aya::maps::MapError> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(aya::maps::MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn affinity_key(service: &Service, client: IpAddr) -> AffinityKey {
    AffinityKey {
        client: client.into(),
        service: service.id,
    }
}

fn traffic(tally: &Tally) -> Traffic {
    let (forward, reverse) = (Direction::Forward as usize, Direction::Reverse as usize);
    Traffic {
        packets_in: tally.packets[forward],
        bytes_in: tally.bytes[forward],
        packets_out: tally.packets[reverse],
        bytes_out: tally.bytes[reverse],
        flows: tally.flows,
        drops: Reason::ALL
            .map(|reason| (reason.name(), tally.dropped(reason)))
            .into(),
    }
}

fn lets_through(filter: &FlowFilter, key: &FlowKey, flow: &Flow, numbers: &Numbers) -> bool {
    let is = |wanted: Option<IpAddr>, found: &AddressKey| {
        wanted.is_none_or(|wanted| AddressKey::from(wanted) == *found)
    };
    is(filter.client, &key.source)
        && is(filter.vip, &key.destination)
        && is(filter.backend, &numbers.backend_of(flow))
        && !(filter.nat && flow.has(flow_flags::DSR))
        && filter
            .port
            .is_none_or(|port| port.to_be_bytes() == key.destination_port)
}

/// `None` for a protocol that is not balanced: there is none.
fn flow_seen(
    table: &FlowTable,
    times: &Times,
    key: &FlowKey,
    flow: &Flow,
    numbers: &Numbers,
    now: u64,
) -> Result<Option<FlowSeen>, DatapathError> {
    let Some(protocol) = Protocol::of(key.protocol) else {
        return Ok(None);
    };
    let dsr = flow.has(flow_flags::DSR);
    let other = if dsr {
        None
    } else {
        table.get(&flow.other(key.protocol))?
    };
    let seen = flow.seen.max(other.map_or(0, |other| other.seen));
    let state = State::of(key.protocol, flow);
    let patience = if table.serves(&key.destination)? {
        state.patience(times)
    } else {
        ns(times.standby())
    };
    let idle_ns = now.saturating_sub(seen);
    let end =
        |address: &AddressKey, port: [u8; 2]| (IpAddr::from(*address), u16::from_be_bytes(port));
    let rewritten = !dsr && flow.source != key.source;
    Ok(Some(FlowSeen {
        client: end(&key.source, key.source_port),
        vip: end(&key.destination, key.destination_port),
        protocol,
        backend: end(&numbers.backend_of(flow), flow.destination_port),
        source: rewritten.then(|| end(&flow.source, flow.source_port)),
        mode: Forward::of_flow(flow),
        local: flow.has(flow_flags::LOCAL),
        state: state.name(),
        idle_ns,
        left_ns: patience.saturating_sub(idle_ns),
        from_client: (flow.packets, flow.bytes),
        to_client: other.map_or((0, 0), |other| (other.packets, other.bytes)),
    }))
}
