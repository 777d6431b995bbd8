//! Keeps the programs' services, tables and backends as they are wanted.
//!
//! Every node that may hold an address has its services all the time, so this has nothing to do in
//! a takeover. Nobody else writes the maps: what was written is known, and is read back once.

mod affinity;
mod collector;
mod flows;
mod lens;
mod maps;
mod news;
mod records;
mod trace;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::{HashMap, IterableMap as _, MapData},
};
use vipd_datapath_common::{
    balance::{Balance, FlowKey, Half, balance_flags},
    name,
    program::INGRESS,
};

pub(super) use self::lens::Aside;
use self::{
    affinity::Clients,
    collector::Collector,
    flows::Door,
    maps::{Maps, failed, typed},
    news::{News, Reporter},
    records::{Installer, KernelRecords, Numbers, SharedNumbers},
};
use super::{Kernel, Options, interfaces_of, steps::Later};
use crate::{
    Bounds, DatapathError, LeftOut, Lens, Records, Services, Wanted,
    balance::{Actual, Goal, Host, Reaches, Spot, goal, plan},
    netlink::Routes,
    plan,
};

/// Backends that are looked for again at a time (about 10 µs each): nobody who claims waits for more.
const AT_ONCE: usize = 256;
/// All backends are looked for again as often as this, in case the kernel did not tell (rules, for
/// one, are not listened to).
const TRUST: Duration = Duration::from_secs(30);
/// What failed is tried again after so long: a full map would be filled anew at every audit.
const AGAIN: Duration = Duration::from_secs(5);
/// What flows of two kinds need, beyond the services that began them.
const FLAGS: [u32; 2] = [balance_flags::LOCAL_BACKENDS, balance_flags::KEPT_CLIENTS];
/// Steps done before others of this thread have their turn.
const TOGETHER: usize = 32;

/// What is balanced, in the kernel.
pub(super) struct Balancer {
    maps: Maps,
    routes: Routes,
    wanted: Arc<Services>,
    reaches: Reaches,
    host: Host,
    /// Backends to look for again, and when all of them were begun with.
    stale: VecDeque<IpAddr>,
    looked: Option<Instant>,
    goal: Goal,
    marks: Arc<BTreeMap<IpAddr, u32>>,
    /// Shared with those that look.
    left_out: Arc<Mutex<Arc<[LeftOut]>>>,
    numbers: SharedNumbers,
    door: Door,
    clients: Clients,
    collector: Collector,
    reporter: Arc<Reporter>,
    news: News,
    /// That of frames that enter.
    program: Arc<OwnedFd>,
    actual: Actual,
    balance: Balance,
    bounds: Bounds,
    /// Looks of the collector when each of [`FLAGS`] was last wanted.
    wanted_at: [u64; 2],
    /// The maps may not be at the goal.
    unsettled: bool,
    /// So many steps failed in the last round, and when that was.
    failed: Option<(usize, Instant)>,
}

impl Balancer {
    /// With what an earlier daemon left in the maps.
    pub(super) fn open(
        ebpf: &mut Ebpf,
        addresses: &MapData,
        options: &Options,
    ) -> Result<Self, DatapathError> {
        let maps = Maps::take(ebpf)?;
        let flows: HashMap<MapData, FlowKey, Half> = typed(ebpf, name::FLOWS)?;
        let bounds = bounds_here(&options.bounds, flows.map(), maps.cpus())?;
        let door = Door::new(flows, addresses)?;
        let program = ebpf.program(INGRESS).and_then(|program| program.fd().ok());
        let program = program
            .ok_or(DatapathError::Incomplete { what: INGRESS })?
            .as_fd();
        let program = program
            .try_clone_to_owned()
            .map_err(|error| DatapathError::system("open the program again", error))?;
        let news = News::default();
        let numbers = SharedNumbers::default();
        let ring = typed(ebpf, name::NEW_FLOWS)?;
        let reporter = Reporter::new(ring, news.clone(), Arc::clone(&numbers));
        let clients = Clients::new(typed(ebpf, name::AFFINITY)?);
        let actual = maps.read_back()?;
        let balance = maps.balance()?;
        Ok(Self {
            failed: None,
            unsettled: actual != Actual::default(),
            maps,
            routes: Routes::open()?,
            wanted: Arc::default(),
            reaches: Reaches::new(),
            host: Host {
                covered: BTreeSet::new(),
                loopback: options.loopback.clone(),
            },
            stale: VecDeque::new(),
            looked: None,
            goal: Goal::default(),
            marks: Arc::default(),
            left_out: Arc::default(),
            numbers,
            collector: Collector::spawn(&door, news.clone(), &bounds)?,
            door,
            clients,
            reporter: Arc::new(reporter),
            news,
            program: Arc::new(program),
            actual,
            balance,
            bounds,
            wanted_at: [0; 2],
        })
    }

    /// What the entries of addresses shall say of balancing, see [`Goal::marks`].
    pub(super) fn marks(&self) -> &Arc<BTreeMap<IpAddr, u32>> {
        &self.marks
    }

    /// Backends that get nothing from this host.
    pub(super) fn left_out(&self) -> Arc<[LeftOut]> {
        Arc::clone(&self.left_out.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// For whoever carries flows to other nodes.
    pub(super) fn records(&self) -> Result<Box<dyn Records>, DatapathError> {
        Ok(Box::new(KernelRecords {
            door: self.door.clone(),
            reporter: Arc::clone(&self.reporter),
            numbers: Arc::clone(&self.numbers),
            table: Installer::open(&self.door)?,
            clients: Mutex::new(self.clients.again()?),
        }))
    }

    /// For whoever shows what is balanced.
    pub(super) fn lens(&self, aside: Aside) -> Result<Box<dyn Lens>, DatapathError> {
        let (door, left_out) = (self.door.clone(), Arc::clone(&self.left_out));
        let (program, news) = (Arc::clone(&self.program), self.news.clone());
        let ways = (door, self.clients.again()?);
        let known = (left_out, Arc::clone(&self.numbers));
        let lens = self
            .maps
            .lens(ways, known, program, news, self.bounds, aside)?;
        Ok(Box::new(lens))
    }

    /// Whether the services are others than those of the last call of [`Self::follow`].
    pub(super) fn is_news(&self, services: &Arc<Services>) -> bool {
        self.wanted != *services
    }

    /// Makes the maps so, `covered` being the interfaces that have the programs or are about to. What fails is tried
    /// again at the next call.
    pub(super) async fn follow(
        &mut self,
        services: &Arc<Services>,
        covered: BTreeSet<u32>,
    ) -> Vec<DatapathError> {
        let mut errors = Vec::new();
        let mut aim = self.host.covered != covered;
        self.host.covered = covered;
        if self.is_news(services) {
            self.wanted = Arc::clone(services);
            errors.extend(self.look_for_new_ones());
            aim = true;
        }
        match self.look_again() {
            Ok(moved) => aim |= moved,
            Err(error) => errors.push(error),
        }
        if aim {
            self.aim();
        }
        if let Some((count, when)) = self.failed
            && !aim
            && when.elapsed() < AGAIN
        {
            let seconds = AGAIN.as_secs();
            errors.push(DatapathError::Postponed { count, seconds });
        } else if self.unsettled || self.balance.flags != self.flags() {
            let failures = self.round().await;
            self.failed = (!failures.is_empty()).then(|| (failures.len(), Instant::now()));
            errors.extend(failures);
        }
        errors
    }

    /// Compares what was written with what the maps hold: nobody else writes them, so this is for the sake of a mistake of
    /// ours.
    pub(super) fn audit(&mut self) -> Result<(), DatapathError> {
        let (services, backends) = (self.maps.services()?, self.maps.backends()?);
        if services != self.actual.services || backends != self.actual.backends {
            tracing::warn!(
                "services or backends in the kernel are not as they were written: they are written anew"
            );
            self.actual.services = services;
            self.actual.backends = backends;
            self.unsettled = true;
        }
        Ok(())
    }

    /// Looks for backends that it has not looked for yet, and forgets those that nobody names.
    fn look_for_new_ones(&mut self) -> Vec<DatapathError> {
        let services = self.wanted.values();
        let backends = services.flat_map(|service| &service.backends);
        let named: BTreeSet<IpAddr> = backends.map(|backend| backend.address).collect();
        self.reaches.retain(|address, _| named.contains(address));
        self.stale.retain(|address| named.contains(address));
        let mut errors = Vec::new();
        for address in named {
            if self.reaches.contains_key(&address) {
                continue;
            }
            match self.routes.reach(address) {
                Ok(reach) => drop(self.reaches.insert(address, reach)),
                Err(error) => {
                    errors.push(error);
                    self.stale.push_back(address);
                }
            }
        }
        errors
    }

    /// Looks for some of the backends again, if anything may have moved. Whether one has.
    fn look_again(&mut self) -> Result<bool, DatapathError> {
        if self.wanted.is_empty() {
            self.routes.stop_listening();
            self.stale.clear();
            return Ok(false);
        }
        let changed = self.routes.changed()?;
        if changed || self.looked.is_none_or(|looked| looked.elapsed() >= TRUST) {
            self.looked = Some(Instant::now());
            self.stale = self.reaches.keys().copied().collect();
        }
        let mut moved = false;
        for _ in 0..AT_ONCE {
            let Some(address) = self.stale.pop_front() else {
                break;
            };
            let reach = self.routes.reach(address);
            let reach = reach.inspect_err(|_| self.stale.push_back(address))?;
            let before = self.reaches.insert(address, reach);
            moved |= before != Some(reach);
        }
        Ok(moved)
    }

    fn aim(&mut self) {
        self.goal = goal(&self.wanted, &self.reaches, &self.host);
        if *self.marks != self.goal.marks {
            self.marks = Arc::new(self.goal.marks.clone());
        }
        let before = self.left_out();
        if before[..] != self.goal.left_out[..] {
            for left in self
                .goal
                .left_out
                .iter()
                .filter(|left| !before.contains(left))
            {
                let LeftOut { frontend, why, .. } = left;
                let backend = Spot {
                    address: left.backend,
                    port: left.port,
                };
                tracing::warn!(service = %frontend, %backend, "a backend gets nothing from this host: {why}");
            }
            let after = self.goal.left_out.clone().into();
            *self.left_out.lock().unwrap_or_else(PoisonError::into_inner) = after;
        }
        self.collector.want(!self.goal.services.is_empty());
        self.unsettled = true;
    }

    /// One plan. Whether it was the last shows when the next one is empty.
    async fn round(&mut self) -> Vec<DatapathError> {
        let mut errors = Vec::new();
        errors.extend(self.balance().err());
        let steps = plan(&self.goal, &self.actual);
        self.unsettled = !steps.is_empty() || !errors.is_empty();
        for (done, step) in steps.iter().enumerate() {
            if !self.actual.has_what_it_names(step) {
                continue; // Its error is told, and the next round tries again.
            }
            tracing::trace!(?step);
            match self.maps.carry_out(step) {
                Ok(()) => self.actual.note(step),
                Err(error) => errors.push(error),
            }
            if done % TOGETHER == TOGETHER - 1 {
                tokio::task::yield_now().await;
            }
        }
        let services = self.actual.services.iter();
        let backends = self.actual.backends.iter();
        let numbers = Numbers::new(
            services
                .map(|(frontend, service)| (*frontend, service.id))
                .collect(),
            backends
                .map(|(number, backend)| (Spot::of(backend), *number))
                .collect(),
        );
        *self.numbers.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(numbers);
        errors
    }

    /// Before anything that needs it is written.
    fn balance(&mut self) -> Result<(), DatapathError> {
        let balance = Balance {
            flags: self.flags(),
            new_flows: self.bounds.guard(self.bounds.flows, self.maps.cpus()),
        };
        if balance != self.balance {
            self.maps.set_balance(balance)?;
            self.balance = balance;
        }
        Ok(())
    }

    /// The programs look at what this host sends as long as any of it may be an answer of a backend: also one that is
    /// not wanted any more and still has flows. As long do they look at what is to others, where backends see clients' addresses.
    fn flags(&mut self) -> u32 {
        let found = self.collector.found();
        let wanted = [self.goal.local, self.goal.keeps];
        let left = [found.local, found.kept];
        let mut flags = 0;
        for (n, flag) in FLAGS.into_iter().enumerate() {
            if wanted[n] {
                self.wanted_at[n] = found.looks;
                flags |= flag;
            } else if left[n] != 0 || found.looks < self.wanted_at[n] + 2 {
                // A look that had begun before may have missed the last of them.
                flags |= self.balance.flags & flag;
            }
        }
        flags
    }
}

impl Kernel {
    /// Brings services up to what is wanted: an address is opened when its services are there. What must not be open
    /// does not wait for that.
    pub(super) async fn balance(&mut self, wanted: &Wanted) -> Vec<DatapathError> {
        let mut errors = Vec::new();
        if self.applied && self.balancer.is_news(&wanted.services) {
            let shut = plan::plan(wanted, &self.actual).shut;
            errors.extend(self.run(shut, Later::Nothing).await);
        }
        let mut covered = BTreeSet::new();
        if !wanted.services.is_empty() {
            let links = interfaces_of(wanted).filter_map(|name| self.actual.links.get(name));
            covered.extend(links.map(|link| link.index));
        }
        errors.extend(self.balancer.follow(&wanted.services, covered).await);
        if !Arc::ptr_eq(&self.actual.marks, self.balancer.marks()) {
            self.actual.marks = Arc::clone(self.balancer.marks());
            self.settled = None;
        }
        errors
    }
}

/// The bounds as they are: the table is as large as whoever made it wanted.
fn bounds_here(asked: &Bounds, flows: &MapData, cpus: usize) -> Result<Bounds, DatapathError> {
    let info = flows.info().map_err(failed(name::FLOWS, "read its size"))?;
    let elements = info.max_entries();
    if elements != asked.flows {
        tracing::warn!(
            "the table of flows in the kernel has room for {elements}, not for {} as it shall: a table that is there stays, so \
             that no connection breaks. Next: vipd clean while vipd is stopped, or a reboot",
            asked.flows
        );
    }
    let cpu = asked.guard(elements, cpus);
    let all = u64::from(cpu) * u64::try_from(cpus).unwrap_or(1);
    Ok(Bounds {
        flows: elements,
        new_flows: Some(u32::try_from(all).unwrap_or(u32::MAX)),
        ..*asked
    })
}
