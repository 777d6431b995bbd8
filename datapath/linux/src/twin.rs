//! A datapath in memory, for tests of the daemon.

mod balance;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    Conflict, Counts, Datapath, DatapathError, Gate, Heard, Interface, Lens, Lost, Meter, NodeGate,
    Observed, ObservedAddress, Probe, Prober, Records, Said, Wanted, boottime_ns,
};

/// Does what [`crate::Kernel`] does, without a kernel.
pub struct Twin(TwinHandle);

/// Looks into a [`Twin`], and makes things happen to it. Clones share it.
#[derive(Clone, Default)]
pub struct TwinHandle(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    interfaces: Vec<Interface>,
    wanted: Wanted,
    history: Vec<Wanted>,
    deadline_ns: u64,
    armed: bool,
    failure: Option<DatapathError>,
    conflicts: Vec<Conflict>,
    lost: Vec<Lost>,
    balance: balance::Balance,
    removed: bool,
    taken: BTreeMap<IpAddr, [u8; 6]>,
}

impl Twin {
    /// A host with these interfaces.
    #[must_use]
    pub fn new(interfaces: Vec<Interface>) -> (Self, TwinHandle) {
        let handle = TwinHandle::default();
        handle.set_interfaces(interfaces);
        (Self(handle.clone()), handle)
    }
}

impl TwinHandle {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host has these interfaces from now on.
    pub fn set_interfaces(&self, interfaces: Vec<Interface>) {
        self.inside().interfaces = interfaces;
    }

    /// The next `apply` fails with this and changes nothing.
    pub fn fail_next_apply(&self, error: DatapathError) {
        self.inside().failure = Some(error);
    }

    /// Somebody outside has an address, or (`None`) has it no more.
    pub fn take(&self, address: IpAddr, mac: Option<[u8; 6]>) {
        let taken = &mut self.inside().taken;
        match mac {
            Some(mac) => taken.insert(address, mac),
            None => taken.remove(&address),
        };
    }

    /// Somebody else claims an address.
    pub fn conflict(&self, conflict: Conflict) {
        self.inside().conflicts.push(conflict);
    }

    /// Somebody takes the programs off an interface.
    pub fn lose(&self, lost: Lost) {
        self.inside().lost.push(lost);
    }

    /// The state that is applied.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        self.inside().wanted.clone()
    }

    /// All states that were applied, without those equal to the one before.
    #[must_use]
    pub fn history(&self) -> Vec<Wanted> {
        self.inside().history.clone()
    }

    /// The node's deadline (CLOCK_BOOTTIME ns).
    #[must_use]
    pub fn deadline_ns(&self) -> u64 {
        self.inside().deadline_ns
    }

    /// Whether the address is answered for at this instant.
    #[must_use]
    pub fn answers(&self, address: IpAddr) -> bool {
        self.inside().answers(address, boottime_ns())
    }

    /// Whether `remove` was called.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.inside().removed
    }
}

impl Inside {
    fn interface(&self, name: &str) -> Result<(), DatapathError> {
        if self.interfaces.iter().any(|found| found.name == name) {
            return Ok(());
        }
        Err(DatapathError::Interface {
            interface: name.to_owned(),
            reason: "does not exist here",
        })
    }

    fn answers(&self, address: IpAddr, now: u64) -> bool {
        now < self.deadline_ns
            && self.wanted.addresses.get(&address).is_some_and(|wanted| {
                wanted.gate == Gate::Open && self.interface(&wanted.interface).is_ok()
            })
    }

    fn apply(&mut self, wanted: &Wanted) -> Result<(), DatapathError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        self.armed = true;
        if self.wanted != *wanted {
            self.wanted = wanted.clone();
            self.history.push(wanted.clone());
        }
        let mut errors = Vec::new();
        for interface in &wanted.interfaces {
            errors.extend(self.interface(interface).err());
        }
        for (address, entry) in &wanted.addresses {
            let found = self.interface(&entry.interface);
            errors.extend(found.map_err(|error| error.of(*address)).err());
        }
        DatapathError::all(errors)
    }

    fn observe(&mut self) -> Observed {
        let now_ns = boottime_ns();
        let observed = |(address, wanted): (&IpAddr, &crate::WantedAddress)| {
            let address_observed = ObservedAddress {
                interface: wanted.interface.clone(),
                gate: wanted.gate,
                epoch: wanted.epoch,
                present: matches!(wanted.gate, Gate::Open | Gate::Take { .. })
                    && self.interface(&wanted.interface).is_ok(),
                foreign: false,
                answering: self.answers(*address, now_ns),
            };
            (*address, address_observed)
        };
        Observed {
            now_ns,
            deadline_ns: self.deadline_ns,
            addresses: self.wanted.addresses.iter().map(observed).collect(),
            interfaces: self.wanted.interfaces.clone(),
            conflicts: std::mem::take(&mut self.conflicts),
            lost: std::mem::take(&mut self.lost),
            left_out: Default::default(),
        }
    }
}

impl NodeGate for TwinHandle {
    fn set_deadline(&mut self, boottime_ns: u64) {
        let mut inside = self.inside();
        if inside.armed {
            inside.deadline_ns = boottime_ns;
        }
    }

    fn deadline(&self) -> u64 {
        self.deadline_ns()
    }
}

/// No packets pass, so nothing is counted.
impl Meter for TwinHandle {
    fn counters(
        &self,
        _addresses: &mut dyn Iterator<Item = IpAddr>,
    ) -> Result<Counts, DatapathError> {
        Ok(Counts::new())
    }
}

/// Answers at once, as [`TwinHandle::take`] has it.
struct TwinProber {
    inside: TwinHandle,
    asked: Vec<Probe>,
}

impl Prober for TwinProber {
    fn ask(&mut self, probes: Vec<Probe>, _members: &BTreeSet<[u8; 6]>) {
        self.asked.extend(probes);
    }

    fn step(&mut self) -> Result<Option<Vec<Heard>>, DatapathError> {
        let inside = self.inside.inside();
        let heard = self.asked.drain(..).map(|Probe { address, .. }| Heard {
            address,
            said: match inside.taken.get(&address) {
                Some(mac) => Said::Taken(*mac),
                None => Said::Free,
            },
        });
        let heard: Vec<Heard> = heard.collect();
        Ok((!heard.is_empty()).then_some(heard))
    }
}

impl Datapath for Twin {
    async fn interfaces(&mut self) -> Result<Vec<Interface>, DatapathError> {
        Ok(self.0.inside().interfaces.clone())
    }

    async fn apply(&mut self, wanted: &Wanted) -> Result<(), DatapathError> {
        self.0.inside().apply(wanted)
    }

    fn node_gate(&mut self) -> Result<Box<dyn NodeGate>, DatapathError> {
        Ok(Box::new(self.0.clone()))
    }

    fn meter(&mut self) -> Result<Box<dyn Meter>, DatapathError> {
        Ok(Box::new(self.0.clone()))
    }

    fn records(&mut self) -> Result<Box<dyn Records>, DatapathError> {
        Ok(Box::new(self.0.clone()))
    }

    fn prober(&mut self) -> Result<Box<dyn Prober>, DatapathError> {
        Ok(Box::new(TwinProber {
            inside: self.0.clone(),
            asked: Vec::new(),
        }))
    }

    fn lens(&mut self) -> Result<Box<dyn Lens>, DatapathError> {
        Ok(Box::new(self.0.clone()))
    }

    async fn observe(&mut self) -> Result<Observed, DatapathError> {
        Ok(self.0.inside().observe())
    }

    async fn remove(self) -> Result<(), DatapathError> {
        let mut inside = self.0.inside();
        *inside = Inside {
            interfaces: std::mem::take(&mut inside.interfaces),
            history: std::mem::take(&mut inside.history),
            removed: true,
            ..Inside::default()
        };
        Ok(())
    }
}
