//! Puts many addresses on an interface, or takes them off, without anybody waiting for it.
//!
//! The kernel's work for one address grows with the number of those that are on the interface already: 10,000 take
//! seconds (IPv4 2.5 s, IPv6 20 s), during which nobody would answer. A route that delivers the address to this host
//! costs ten microseconds, whatever their number. So a claim of many makes routes first, answers, and this thread
//! then puts the address itself there, as any program expects to find it; the route goes once the kernel has told that
//! the address is in use (IPv6 takes that step in a work queue). Giving up many is the other way round: they are shut
//! at once, and taken off here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    DatapathError,
    netlink::{Batch, Change},
};

/// Jobs done under one lock: whoever wants one back waits no longer than these take.
const AT_ONCE: usize = 8;
/// Between them: the lock, and the kernel's own of its interfaces, are for others too.
const BREATH: Duration = Duration::from_micros(100);

/// What is to become of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// It has a route, and shall be on this interface.
    Put(u32),
    /// It is on this interface, and its route shall go.
    Unroute(u32),
    /// It shall leave this interface, and its route with it.
    Take(u32),
}

/// The thread, as the datapath holds it.
pub(crate) struct Settler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: BTreeMap<IpAddr, Job>,
    /// What has a route in place of an address, or beside it.
    routed: BTreeMap<IpAddr, u32>,
    taken: Vec<(IpAddr, u32)>,
    failures: Vec<DatapathError>,
    stopped: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves whole jobs: each is one insertion or removal.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settler {
    /// Starts the thread, in the network namespace of this one.
    pub(crate) fn spawn() -> Result<Self, DatapathError> {
        let shared = Arc::new(Shared::default());
        let batch = Batch::open()?;
        let thread = thread::Builder::new()
            .name("vipd-settle".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || run(&shared, batch)
            })
            .map_err(|source| DatapathError::system("start the settling thread", source))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Adds jobs; one of the same address that is waiting is forgotten.
    pub(crate) fn add(&self, jobs: impl IntoIterator<Item = (IpAddr, Job)>) {
        let mut state = self.shared.state();
        for (address, job) in jobs {
            if let Job::Put(ifindex) = job {
                state.routed.insert(address, ifindex);
            }
            state.jobs.insert(address, job);
        }
        self.shared.work.notify_one();
    }

    /// Adds jobs for addresses that have none: for those that failed, and those that are in use.
    pub(crate) fn settle(&self, jobs: Vec<(IpAddr, Job)>) {
        let mut state = self.shared.state();
        for (address, job) in jobs {
            state.jobs.entry(address).or_insert(job);
        }
        self.shared.work.notify_one();
    }

    /// Forgets an address; the interface of its route, if it has one.
    pub(crate) fn forget(&self, address: IpAddr) -> Option<u32> {
        let mut state = self.shared.state();
        state.jobs.remove(&address);
        state.routed.remove(&address)
    }

    /// Takes back the removal of those that `stay` accepts.
    pub(crate) fn keep(&self, stay: impl Fn(&IpAddr) -> bool) {
        let State { jobs, routed, .. } = &mut *self.shared.state();
        jobs.retain(|address, job| {
            if matches!(job, Job::Put(_) | Job::Unroute(_)) || !stay(address) {
                return true;
            }
            // It may never have come further than its route.
            let route = routed.get(address).copied();
            *job = Job::Put(route.unwrap_or_default());
            route.is_some()
        });
    }

    /// Addresses that have a route in place of an address, or beside it, with their interfaces.
    pub(crate) fn routed(&self) -> BTreeMap<IpAddr, u32> {
        self.shared.state().routed.clone()
    }

    /// What was taken off, and what failed, since the last call.
    pub(crate) fn done(&self) -> (Vec<(IpAddr, u32)>, Vec<DatapathError>) {
        let mut state = self.shared.state();
        (
            std::mem::take(&mut state.taken),
            std::mem::take(&mut state.failures),
        )
    }
}

impl Drop for Settler {
    /// Jobs that are left stay undone: the entries fence the addresses, and the next daemon finds the routes.
    fn drop(&mut self) {
        self.shared.state().stopped = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn run(shared: &Shared, mut batch: Batch) {
    loop {
        {
            let idle = |state: &mut State| state.jobs.is_empty() && !state.stopped;
            let mut state = shared
                .work
                .wait_while(shared.state(), idle)
                .unwrap_or_else(PoisonError::into_inner);
            if state.stopped {
                return;
            }
            do_some(&mut state, &mut batch);
        }
        thread::sleep(BREATH);
    }
}

/// The lock is held meanwhile, so that a job that was cancelled is not being done.
fn do_some(state: &mut State, batch: &mut Batch) {
    let jobs: Vec<_> = state
        .jobs
        .iter()
        .take(AT_ONCE)
        .map(|(address, job)| (*address, *job))
        .collect();
    let mut changes = Vec::new();
    for (address, job) in &jobs {
        match *job {
            Job::Put(ifindex) => changes.push(Change::Put(*address, ifindex)),
            Job::Unroute(ifindex) => changes.push(Change::Unroute(*address, ifindex)),
            Job::Take(ifindex) => {
                changes.push(Change::Take(*address, ifindex));
                changes.push(Change::Unroute(*address, ifindex));
            }
        }
    }
    let mut failed = BTreeSet::new();
    for (place, error) in batch.run(&changes) {
        let change = changes[place];
        let there = error.raw_os_error() == Some(nix::libc::EEXIST);
        if !(there && matches!(change, Change::Put(..))) {
            failed.insert(change.address());
            state
                .failures
                .push(change.failed(error).of(change.address()));
        }
    }
    for (address, job) in jobs {
        state.jobs.remove(&address);
        if failed.contains(&address) {
            continue; // The audit meets it again.
        }
        match job {
            Job::Put(_) => {}
            Job::Unroute(_) => drop(state.routed.remove(&address)),
            Job::Take(ifindex) => {
                state.routed.remove(&address);
                state.taken.push((address, ifindex));
            }
        }
    }
}
