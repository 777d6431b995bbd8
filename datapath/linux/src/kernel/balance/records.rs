//! The flows of this node, for other nodes, and theirs for this one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc::Receiver;
use vipd_datapath_common::{
    AddressKey,
    balance::{Flow, FlowKey, FlowRecord, Progress, flow_flags, protocol},
};

use super::{
    affinity::Clients,
    flows::{Door, FlowTable},
    news::Reporter,
};
use crate::{
    DatapathError, FlowNews, Frontend, Kept, Protocol, Records,
    balance::{Reach, Spot},
    kernel::boottime_ns,
    netlink::Routes,
};

/// The numbers that the programs count under, which are this node's own.
#[derive(Default)]
pub(super) struct Numbers {
    pub(super) services: BTreeMap<Frontend, u32>,
    pub(super) backends: BTreeMap<Spot, u32>,
    frontends: BTreeMap<u32, Frontend>,
    spots: BTreeMap<u32, Spot>,
}

/// As whoever changes them shares them with those who read.
pub(super) type SharedNumbers = Arc<Mutex<Arc<Numbers>>>;

impl Numbers {
    pub(super) fn new(services: BTreeMap<Frontend, u32>, backends: BTreeMap<Spot, u32>) -> Self {
        Self {
            frontends: services
                .iter()
                .map(|(its, number)| (*number, *its))
                .collect(),
            spots: backends
                .iter()
                .map(|(its, number)| (*number, *its))
                .collect(),
            services,
            backends,
        }
    }

    /// As they are now.
    pub(super) fn of(shared: &SharedNumbers) -> Arc<Self> {
        Arc::clone(&shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The backend of a flow: what goes to a loopback address has the virtual IP as its destination.
    pub(super) fn backend_of(&self, flow: &Flow) -> AddressKey {
        let spot = self.spots.get(&flow.backend);
        let loopback = spot.filter(|_| flow.has(flow_flags::LOOPBACK));
        loopback.map_or(flow.destination, |spot| spot.address.into())
    }

    /// The service and the backend that have these.
    pub(super) fn named(&self, service: u32, backend: u32) -> Option<(Frontend, Spot)> {
        let frontend = self.frontends.get(&service)?;
        Some((*frontend, *self.spots.get(&backend)?))
    }
}

pub(super) struct KernelRecords {
    pub(super) door: Door,
    pub(super) reporter: Arc<Reporter>,
    pub(super) numbers: SharedNumbers,
    pub(super) table: Mutex<Installer>,
    pub(super) clients: Mutex<Clients>,
}

/// Writes flows of other nodes.
pub(super) struct Installer {
    table: FlowTable,
    routes: Routes,
}

impl Installer {
    pub(super) fn open(door: &Door) -> Result<Mutex<Self>, DatapathError> {
        Ok(Mutex::new(Self {
            table: door.open()?,
            routes: Routes::open()?,
        }))
    }
}

impl Records for KernelRecords {
    fn news(&self) -> Option<Receiver<Vec<FlowNews>>> {
        self.reporter.start()
    }

    fn all(
        &self,
        of: &BTreeSet<IpAddr>,
        each: &mut dyn FnMut(FlowNews),
    ) -> Result<(), DatapathError> {
        let keys: BTreeSet<AddressKey> = of.iter().copied().map(AddressKey::from).collect();
        self.door.open()?.read(|key, flow| {
            if is_told(flow) && keys.contains(&key.destination) {
                each(FlowNews::Made(FlowRecord {
                    key: *key,
                    flow: *flow,
                }));
            }
            true
        })?;
        let clients = self.clients().again()?;
        let numbers = Numbers::of(&self.numbers);
        clients.read(of, &numbers, |kept| each(FlowNews::Kept(kept)))
    }

    fn install(&self, flows: &[FlowRecord]) -> Result<usize, DatapathError> {
        let numbers = Numbers::of(&self.numbers);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let Installer { table, routes } = &mut *table;
        let mut here = Here {
            table,
            routes,
            numbers: &numbers,
            backends: BTreeMap::new(),
            addresses: BTreeMap::new(),
            now: boottime_ns(),
        };
        let mut installed = 0;
        for record in flows.iter().filter(|record| is_told(&record.flow)) {
            installed += usize::from(here.install(record)?);
        }
        Ok(installed)
    }

    fn keep(&self, clients: &[Kept]) -> Result<usize, DatapathError> {
        let numbers = Numbers::of(&self.numbers);
        let mut known = self.clients();
        let mut taken = 0;
        for kept in clients {
            taken += usize::from(known.keep(kept, &numbers)?);
        }
        Ok(taken)
    }

    fn forget(&self, flows: &[FlowKey]) -> Result<(), DatapathError> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let table = &mut table.table;
        for key in flows {
            if table.serves(&key.destination)? {
                continue; // Who told it no longer holds the address.
            }
            if let Some(flow) = table.get(key)?.filter(is_told) {
                table.forget(key, &flow)?;
            }
        }
        Ok(())
    }
}

impl KernelRecords {
    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Flows that other nodes cannot work out by themselves, or only as long as the backends stay and the client speaks first: client's
/// halves of nat to other hosts.
pub(super) fn is_told(flow: &Flow) -> bool {
    use flow_flags::{DSR, LOCAL, REVERSE};
    flow.flags & (REVERSE | DSR | LOCAL) == 0
}

/// What this node makes of the records of another, looked up once for all of them.
struct Here<'a> {
    table: &'a mut FlowTable,
    routes: &'a mut Routes,
    numbers: &'a Numbers,
    backends: BTreeMap<AddressKey, Option<Reach>>,
    /// The interface of a virtual IP, and whether this node serves it.
    addresses: BTreeMap<AddressKey, Option<(u32, bool)>>,
    now: u64,
}

impl Here<'_> {
    /// Records both halves of a flow; whether it is new.
    fn install(&mut self, record: &FlowRecord) -> Result<bool, DatapathError> {
        let Some((client_side, serves)) = self.address(&record.key.destination)? else {
            return Ok(false); // This node is no candidate, or does not know the address yet.
        };
        let reach = self.reach(&record.flow.destination)?;
        let Some(reach) = reach.filter(|reach| !reach.local) else {
            return Ok(false); // What another node sends on is not what this one would.
        };
        let client = Flow {
            ifindex: reach.ifindex,
            ..self.own(&record.key, &record.flow)
        };
        if let Some(before) = self.table.get(&record.key)? {
            if serves {
                return Ok(false);
            }
            // The same one too: written again it is as young as what was told.
            self.table.forget(&record.key, &before)?;
        }
        let other = client.other(record.key.protocol);
        let backend = Flow {
            source: record.key.destination,
            source_port: record.key.destination_port,
            destination: record.key.source,
            destination_port: record.key.source_port,
            flags: client.flags | flow_flags::REVERSE,
            ifindex: client_side,
            progress: Progress {
                established: u8::from(record.key.protocol == protocol::TCP),
                ..Progress::default()
            },
            ..client
        };
        if !self.table.add(&other, &backend)? {
            if serves {
                return Ok(false); // Another client of this node has that port by now.
            }
            if let Some(stale) = self.table.get(&other)? {
                self.table.forget_half(&stale.other(record.key.protocol))?;
            }
            self.table.forget_half(&other)?;
            if !self.table.add(&other, &backend)? {
                return Ok(false);
            }
        }
        self.table.add(&record.key, &client)
    }

    /// The client's half with the numbers of this node, as one that has been quiet from now on. It was recorded when it began,
    /// and may be over by now: its first packet here tells (`State::of`), and if that opens a connection it is another one.
    fn own(&self, key: &FlowKey, flow: &Flow) -> Flow {
        let [service, backend] = self.numbers(key, flow);
        Flow {
            progress: Progress::default(),
            // Nobody tells of it, since it shows.
            flags: if flow.source == key.source {
                flow_flags::KEEP
            } else {
                0
            },
            service,
            backend,
            seen: self.now,
            packets: 0,
            bytes: 0,
            ..*flow
        }
    }

    fn numbers(&self, key: &FlowKey, flow: &Flow) -> [u32; 2] {
        let port = u16::from_be_bytes(key.destination_port);
        let frontend = |port| {
            Some(Frontend {
                address: key.destination.into(),
                port,
                protocol: Protocol::of(key.protocol)?,
            })
        };
        let service = [port, 0].map(|port| self.numbers.services.get(&frontend(port)?));
        let port = u16::from_be_bytes(flow.destination_port);
        let address = flow.destination.into();
        let backend = [port, 0].map(|port| self.numbers.backends.get(&Spot { address, port }));
        let first = |found: [Option<&u32>; 2]| found.into_iter().flatten().next().copied();
        [service, backend].map(|found| first(found).unwrap_or(0))
    }

    fn reach(&mut self, backend: &AddressKey) -> Result<Option<Reach>, DatapathError> {
        if let Some(reach) = self.backends.get(backend) {
            return Ok(*reach);
        }
        let reach = self.routes.reach((*backend).into())?;
        self.backends.insert(*backend, reach);
        Ok(reach)
    }

    fn address(&mut self, vip: &AddressKey) -> Result<Option<(u32, bool)>, DatapathError> {
        if let Some(known) = self.addresses.get(vip) {
            return Ok(*known);
        }
        let entry = self.table.address(vip)?;
        let serves = self.table.serves(vip)?;
        let known = entry.map(|entry| (entry.ifindex, serves));
        self.addresses.insert(*vip, known);
        Ok(known)
    }
}
