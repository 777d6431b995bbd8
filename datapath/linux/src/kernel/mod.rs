//! The real datapath: eBPF maps and programs, rtnetlink, a packet socket.

mod balance;
mod batch;
mod capability;
mod dump;
mod former;
mod gate;
mod links;
mod maps;
mod meter;
mod object;
mod observe;
mod options;
mod pins;
mod release;
mod run;
mod settle;
mod short;
mod sockets;
mod steps;
mod sys;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
};

use aya::Ebpf;
use vipd_datapath_common::name;

pub use gate::boottime_ns;
pub use links::Attach;
pub use object::verified;
pub use options::Options;
pub use release::OLDEST_KERNEL;
pub(crate) use release::running;

use self::dump::Atlas;
use self::{
    balance::{Aside, Balancer},
    former::Former,
    gate::Deadline,
    links::Links,
    maps::Maps,
    pins::Pins,
    settle::{Job, Settler},
    short::ShortWay,
    sockets::Sockets,
    steps::Later,
};
use crate::{
    Datapath, DatapathError, Gate, Interface, Lens, Lost, Meter, NodeGate, Observed, Prober,
    Records, Wanted,
    announce::Announcer,
    netlink::{self, Batch, Mirror, News},
    plan::{Actual, Presence, oversteps, plan},
    probe::Link,
};

/// The datapath of this host, or rather of the network namespace of the thread that opened it.
///
/// Dropping it changes nothing in the kernel: programs, entries and addresses stay, fenced by the
/// deadline alone, until the next daemon takes them over. [`Datapath::remove`] is the way out.
pub struct Kernel {
    ebpf: Ebpf,
    maps: Maps,
    gate: Deadline,
    links: Links,
    sockets: Sockets,
    pins: Pins,
    former: Former,
    mirror: Mirror,
    batch: Batch,
    balancer: Balancer,
    short: ShortWay,
    settler: Settler,
    announcer: Announcer,
    /// The last known state.
    actual: Actual,
    interfaces: Vec<Interface>,
    carriers: BTreeMap<u32, u32>,
    /// Interfaces that lack the programs although they were to get them.
    unfenced: BTreeSet<u32>,
    lost: Vec<Lost>,
    /// Filters went since [`Kernel::mend_links`] last looked at them.
    filters_changed: bool,
    /// [`Datapath::apply`] got to its end once.
    applied: bool,
    /// What it last made so without a failure, while nothing has changed since: nothing to plan then.
    settled: Option<Wanted>,
    /// No programs of another version are left.
    alone: bool,
}

impl Kernel {
    /// Loads the datapath with its pins under `pin_dir`, or takes over what is pinned there.
    /// Within a tokio runtime.
    ///
    /// # Errors
    /// With what is missing and how to give it: a capability, a BPF file system, a kernel that can.
    pub async fn open(pin_dir: impl AsRef<Path>) -> Result<Self, DatapathError> {
        Self::open_with(Options {
            pin_dir: pin_dir.as_ref().to_owned(),
            ..Options::default()
        })
        .await
    }

    /// As [`Kernel::open`], with all options.
    ///
    /// # Errors
    /// As [`Kernel::open`].
    pub async fn open_with(options: Options) -> Result<Self, DatapathError> {
        capability::check()?;
        release::check();
        let pins = Pins::open(&options.pin_dir)?;
        let mut ebpf = object::load(&pins, options.bounds.flows)?;
        // Loads the programs; after that the maps may be taken out.
        let links = Links::new(&mut ebpf, pins.clone(), options.attach)?;
        let short = ShortWay::load(&mut ebpf, pins.clone(), options.xdp)?;
        let sockets = Sockets::load(&mut ebpf, pins.clone());
        let gate = Deadline::new(&maps::take(&mut ebpf, name::GATE)?)?;
        let maps = Maps::take(&mut ebpf)?;
        let balancer = Balancer::open(&mut ebpf, maps.addresses_map(), &options)?;
        let conflicts = maps::take(&mut ebpf, name::CONFLICTS)?
            .try_into()
            .map_err(|source| DatapathError::Map {
                doing: "use it".to_owned(),
                map: name::CONFLICTS,
                source,
            })?;
        let mut kernel = Self {
            ebpf,
            maps,
            gate,
            links,
            short,
            sockets,
            former: Former::read(&pins)?,
            pins,
            mirror: Mirror::open()?,
            batch: Batch::open()?,
            balancer,
            settler: Settler::spawn()?,
            announcer: Announcer::spawn(conflicts, options.refresh)?,
            actual: Actual::default(),
            interfaces: Vec::new(),
            carriers: BTreeMap::new(),
            unfenced: BTreeSet::new(),
            lost: Vec::new(),
            filters_changed: false,
            applied: false,
            settled: None,
            alone: false,
        };
        // What the daemon before this one had only routed yet.
        let routed = kernel.mirror.our_routes().await?;
        let put = |(address, ifindex)| (address, Job::Put(ifindex));
        kernel.settler.add(routed.into_iter().map(put));
        kernel.read_back().await?;
        Ok(kernel)
    }

    /// Catches up with the kernel's state; announces again on interfaces that have come up.
    async fn read_back(&mut self) -> Result<News, DatapathError> {
        // Asked first: what is settled in between is then either here or in what is read.
        let routed = self.settler.routed();
        let news = self.mirror.refresh().await?;
        if news.all {
            // Nobody else writes it: the folder is locked. Read for the sake of a mistake of ours.
            self.actual.entries = self.maps.addresses()?;
            self.balancer.audit()?;
        }
        if news.any() {
            self.settled = None;
            self.take_over_news(&routed);
        }
        self.filters_changed |= news.filters;
        Ok(news)
    }

    fn take_over_news(&mut self, routed: &BTreeMap<IpAddr, u32>) {
        let mut interfaces = self.mirror.links.interfaces.clone();
        let mut present = BTreeMap::<_, Vec<_>>::new();
        self.former.forget_gone(&self.mirror.addresses);
        for ((address, ifindex, prefix), ours) in &self.mirror.addresses {
            let (address, ifindex) = (*address, *ifindex);
            let ours = *ours || self.former.added(address, ifindex);
            let at = Presence { ifindex, ours };
            present.entry(address).or_default().push(at);
            let ours = ours || self.is_added(&self.actual.entries, address, ifindex);
            let interface = interfaces.iter_mut().find(|i| i.index == ifindex);
            if let (Some(interface), false) = (interface, ours) {
                interface.prefixes.push((address, *prefix));
            }
        }
        let mut settled = Vec::new();
        for (address, ifindex) in routed {
            let (ifindex, ours) = (*ifindex, true);
            let there: &mut Vec<_> = present.entry(*address).or_default();
            if there.iter().any(|at| at.ifindex == ifindex) {
                settled.push((*address, Job::Unroute(ifindex)));
            } else {
                there.push(Presence { ifindex, ours });
                settled.push((*address, Job::Put(ifindex)));
            }
        }
        self.settler.settle(settled);
        // A link that was lost and is back; the first time all links, so that a new daemon goes on
        // announcing what the one before it left open.
        let carriers = self.mirror.links.carriers.clone();
        let lost = |index: &u32| self.carriers.get(index) != carriers.get(index);
        let back: BTreeSet<u32> = interfaces
            .iter()
            .filter(|interface| interface.up)
            .map(|interface| interface.index)
            .filter(lost)
            .collect();
        self.actual.present = present;
        self.interfaces = interfaces;
        self.carriers = carriers;
        self.set_links();
        self.announce_on(&back);
    }

    /// The links that addresses may be on: nothing fences those on the others.
    fn set_links(&mut self) {
        let there = |index: &u32| self.carriers.contains_key(index);
        self.unfenced.retain(there);
        for interface in &mut self.interfaces {
            interface.up &= !self.unfenced.contains(&interface.index);
        }
        self.actual.links = netlink::links(&self.interfaces);
        let unfenced = &self.unfenced;
        let links = &mut self.actual.links;
        links.retain(|_, link| !unfenced.contains(&link.index));
    }

    /// Puts back the programs that somebody took off. Where they cannot be put back, nothing would stop the kernel from
    /// answering by itself and for ever: such an interface counts as down, and the plan takes the addresses off it.
    async fn mend_links(&mut self) -> Vec<DatapathError> {
        let mut filters = BTreeMap::new();
        if std::mem::take(&mut self.filters_changed) {
            for ifindex in self.links.by_clsact() {
                let there = self
                    .mirror
                    .has_filters(ifindex, links::FILTER.1.into())
                    .await;
                filters.insert(ifindex, there);
            }
        }
        let lost = self.links.verify(&filters);
        let mut errors = Vec::new();
        let mut unfenced = BTreeSet::new();
        for interface in &self.interfaces {
            let (name, index) = (&interface.name, interface.index);
            let lost = lost.contains(name);
            if !lost && !self.unfenced.contains(&index) {
                continue;
            }
            let attached = self.links.attach(&mut self.ebpf, index, name);
            let back = attached.is_ok();
            if lost || back {
                let interface = name.clone();
                self.lost.push(Lost { interface, back });
            }
            if let Err(error) = attached {
                errors.push(error);
                unfenced.insert(index);
            }
        }
        if unfenced != self.unfenced {
            self.unfenced = unfenced;
            for (interface, found) in self
                .interfaces
                .iter_mut()
                .zip(&self.mirror.links.interfaces)
            {
                interface.up = found.up;
            }
            self.set_links();
        }
        errors
    }

    /// Attaches the programs wherever they are missing.
    fn attach(&mut self, wanted: &Wanted) -> Vec<DatapathError> {
        let mut errors = Vec::new();
        for name in interfaces_of(wanted) {
            let Some(link) = self.actual.links.get(name) else {
                if wanted.interfaces.contains(name) {
                    errors.push(no_interface(name));
                }
                continue;
            };
            if !self.links.has(link.index) {
                errors.extend(self.links.attach(&mut self.ebpf, link.index, name).err());
            }
        }
        errors
    }

    /// One round: attach, plan, do.
    async fn round(&mut self, wanted: &Wanted) -> Vec<DatapathError> {
        let plan = plan(wanted, &self.actual);
        let mut errors = self.run(plan.shut, Later::Nothing).await;
        errors.extend(self.attach(wanted));
        errors.extend(self.run(plan.open, Later::Puts).await);
        // Whoever is leaving does not come back to tidy up.
        let later = if wanted.leaving || wanted.addresses.is_empty() {
            Later::Nothing
        } else {
            Later::Takes
        };
        errors.extend(self.run(plan.tidy, later).await);
        for (address, interface) in plan.homeless {
            let unfenced = self.interfaces.iter().any(|found| found.name == interface);
            let error = if unfenced {
                let reason = "has lost vipd's programs, and they could not be put back";
                DatapathError::Interface { interface, reason }
            } else {
                no_interface(&interface)
            };
            errors.push(error.of(address));
        }
        errors
    }

    /// No entry is open that is not wanted so: only then may the lease be prolonged.
    fn nothing_stays_open_by_mistake(&self, wanted: &Wanted) -> bool {
        self.actual.entries.iter().all(|(address, entry)| {
            let wanted = wanted.addresses.get(address);
            !oversteps(entry, wanted.map(|wanted| wanted.gate))
        })
    }

    /// Learns what the settling thread has done; what is to be taken off but wanted again stays.
    fn look_at_the_settler(&mut self, wanted: &Wanted) -> Vec<DatapathError> {
        let open = |address: &IpAddr| {
            let wanted = wanted.addresses.get(address);
            wanted.is_some_and(|wanted| matches!(wanted.gate, Gate::Open | Gate::Take { .. }))
        };
        self.settler.keep(open);
        let (taken, failures) = self.settler.done();
        if !taken.is_empty() || !failures.is_empty() {
            self.settled = None;
        }
        for (address, ifindex) in taken {
            if let Some(present) = self.actual.present.get_mut(&address) {
                present.retain(|at| at.ifindex != ifindex);
            }
        }
        failures
    }

    async fn make_so(&mut self, wanted: &Wanted) -> Result<(), DatapathError> {
        let failures = self.look_at_the_settler(wanted);
        // Against the last known state: quick. What fails here the audit meets again.
        let mut clean = self.applied;
        if self.settled.as_ref() != Some(wanted) {
            self.settled = None;
        }
        let unbalanced = self.balance(wanted).await;
        self.sockets
            .follow(&mut self.ebpf, !wanted.services.is_empty());
        if self.applied && self.settled.is_none() {
            for error in self.round(wanted).await {
                tracing::debug!(%error, "the quick path failed, the audit will tell");
                clean = false;
            }
        }
        let news = self.read_back().await?;
        let mut errors = failures;
        errors.extend(unbalanced);
        let before = self.lost.len();
        errors.extend(self.mend_links().await);
        if !clean || news.any() || self.lost.len() != before || !errors.is_empty() {
            errors.extend(self.round(wanted).await);
        }
        errors.extend(self.detach(wanted).err());
        if let Err(error) = self.maps.make_all_counters() {
            tracing::warn!(%error, "some addresses are not counted yet");
        }
        // The programs of another version would go on dropping by a deadline that nobody moves any more. Ours have taken
        // over as soon as they sit everywhere, whatever else failed.
        if !self.alone && self.covers(wanted) {
            match self.former.remove(&self.links.by_clsact()) {
                Ok(()) => self.alone = true,
                Err(error) => errors.push(error),
            }
        }
        // Last of all, and when no programs of another version are in the way.
        if self.alone {
            let have = self.interfaces.iter();
            let have = have.filter(|it| self.links.has(it.index));
            errors.extend(self.short.follow(&mut self.ebpf, have).err());
        }
        self.applied = true;
        if !errors.is_empty() {
            self.settled = None;
        } else if self.settled.is_none() {
            self.settled = Some(wanted.clone());
        }
        DatapathError::all(errors)
    }

    /// Whether our programs sit on every interface that is there and shall have them.
    fn covers(&self, wanted: &Wanted) -> bool {
        interfaces_of(wanted)
            .filter_map(|name| self.actual.links.get(name))
            .all(|link| self.links.has(link.index))
    }

    /// Takes the programs off interfaces that no longer need them.
    fn detach(&mut self, wanted: &Wanted) -> Result<(), DatapathError> {
        let index = |name| self.actual.links.get(name).map(|link| link.index);
        let keep: BTreeSet<u32> = interfaces_of(wanted).filter_map(index).collect();
        self.links.retain(&|ifindex| keep.contains(&ifindex))
    }
}

fn interfaces_of(wanted: &Wanted) -> impl Iterator<Item = &str> {
    let carrying = wanted.addresses.values().map(|address| &address.interface);
    let names: BTreeSet<&str> = wanted
        .interfaces
        .iter()
        .chain(carrying)
        .map(String::as_str)
        .collect();
    names.into_iter()
}

fn no_interface(name: &str) -> DatapathError {
    DatapathError::Interface {
        interface: name.to_owned(),
        reason: "does not exist here or is not Ethernet: see `ip link`",
    }
}

impl Datapath for Kernel {
    async fn interfaces(&mut self) -> Result<Vec<Interface>, DatapathError> {
        self.read_back().await?;
        Ok(self.interfaces.clone())
    }

    async fn apply(&mut self, wanted: &Wanted) -> Result<(), DatapathError> {
        let result = self.make_so(wanted).await;
        if !self.nothing_stays_open_by_mistake(wanted) {
            // An entry that cannot be shut: then all of this node is silent.
            self.gate.shut();
        } else if self.applied {
            self.gate.arm();
        }
        result
    }

    fn node_gate(&mut self) -> Result<Box<dyn NodeGate>, DatapathError> {
        Ok(Box::new(self.gate.clone()))
    }

    fn meter(&mut self) -> Result<Box<dyn Meter>, DatapathError> {
        Ok(Box::new(self.maps.meter()?))
    }

    fn records(&mut self) -> Result<Box<dyn Records>, DatapathError> {
        self.balancer.records()
    }

    fn prober(&mut self) -> Result<Box<dyn Prober>, DatapathError> {
        Ok(Box::new(Link::new()))
    }

    fn lens(&mut self) -> Result<Box<dyn Lens>, DatapathError> {
        self.balancer.lens(Aside {
            atlas: Atlas::new(self.pins.dir()),
            hooks: self.short.hooks(),
        })
    }

    async fn observe(&mut self) -> Result<Observed, DatapathError> {
        self.read_back().await?;
        Ok(self.observed())
    }

    async fn remove(mut self) -> Result<(), DatapathError> {
        self.gate.shut();
        let mut errors = Vec::new();
        errors.extend(self.read_back().await.err());
        errors.extend(self.round(&Wanted::default()).await);
        errors.extend(self.short.remove().err());
        errors.extend(self.links.retain(&|_| false).err());
        errors.extend(self.sockets.detach().err());
        // Those of a version that was replaced while no daemon ran.
        errors.extend(self.former.remove(&[]).err());
        errors.extend(self.pins.remove_all().err());
        DatapathError::all(errors)
    }
}
