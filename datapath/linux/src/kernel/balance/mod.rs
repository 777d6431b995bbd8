//! Keeps the programs' services, tables and backends as they are wanted.
//!
//! Every node that may hold an address has its services all the time, so this has nothing to do in
//! a takeover. Nobody else writes the maps: what was written is known, and is read back once.

mod maps;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use aya::Ebpf;
use vipd_datapath_common::{
    balance::{Balance, balance_flags},
    max_entries,
};

use self::maps::Maps;
use super::{Kernel, steps::Later};
use crate::{
    DatapathError, LeftOut, Services, Wanted,
    balance::{Actual, Goal, Reaches, goal, plan},
    netlink::Routes,
    plan,
};

/// Backends that are looked for again at a time (about 10 µs each): nobody who claims waits for more.
const AT_ONCE: usize = 256;
/// All backends are looked for again as often as this, in case the kernel did not tell (rules, for
/// one, are not listened to).
const TRUST: Duration = Duration::from_secs(30);
/// Steps done before others of this thread have their turn.
const TOGETHER: usize = 32;

/// What is balanced, in the kernel.
pub(super) struct Balancer {
    maps: Maps,
    routes: Routes,
    wanted: Arc<Services>,
    reaches: Reaches,
    /// Backends to look for again, and when all of them were begun with.
    stale: VecDeque<IpAddr>,
    looked: Option<Instant>,
    goal: Goal,
    marks: Arc<BTreeMap<IpAddr, u32>>,
    left_out: Arc<[LeftOut]>,
    actual: Actual,
    balance: Balance,
    /// The maps may not be at the goal.
    unsettled: bool,
}

impl Balancer {
    /// With what an earlier daemon left in the maps.
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        let maps = Maps::take(ebpf)?;
        let actual = maps.read_back()?;
        Ok(Self {
            unsettled: actual != Actual::default(),
            maps,
            routes: Routes::open()?,
            wanted: Arc::default(),
            reaches: Reaches::new(),
            stale: VecDeque::new(),
            looked: None,
            goal: Goal::default(),
            marks: Arc::default(),
            left_out: Arc::default(),
            actual,
            balance: Balance::default(),
        })
    }

    /// What the entries of addresses shall say of balancing, see [`Goal::marks`].
    pub(super) fn marks(&self) -> &Arc<BTreeMap<IpAddr, u32>> {
        &self.marks
    }

    /// Backends that get nothing from this host.
    pub(super) fn left_out(&self) -> Arc<[LeftOut]> {
        Arc::clone(&self.left_out)
    }

    /// Whether the services are others than those of the last call of [`Self::follow`].
    pub(super) fn is_news(&self, services: &Arc<Services>) -> bool {
        self.wanted != *services
    }

    /// Makes the maps so. What fails is tried again at the next call.
    pub(super) async fn follow(&mut self, services: &Arc<Services>) -> Vec<DatapathError> {
        let mut errors = Vec::new();
        let mut aim = false;
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
        if self.unsettled {
            errors.extend(self.round().await);
        }
        errors
    }

    /// Looks for backends that it has not looked for yet, and forgets those that nobody names.
    fn look_for_new_ones(&mut self) -> Vec<DatapathError> {
        let services = self.wanted.values();
        let backends = services.flat_map(|service| &service.backends);
        let named: BTreeSet<IpAddr> = backends.map(|backend| backend.address).collect();
        self.reaches.retain(|address, _| named.contains(address));
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
        self.goal = goal(&self.wanted, &self.reaches);
        if *self.marks != self.goal.marks {
            self.marks = Arc::new(self.goal.marks.clone());
        }
        let before: BTreeSet<&LeftOut> = self.left_out.iter().collect();
        for left in self
            .goal
            .left_out
            .iter()
            .filter(|left| !before.contains(left))
        {
            let LeftOut {
                frontend,
                backend,
                why,
            } = left;
            tracing::warn!(service = %frontend, %backend, "a backend gets nothing from this host: {why}");
        }
        if self.left_out[..] != self.goal.left_out[..] {
            self.left_out = self.goal.left_out.clone().into();
        }
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
        errors
    }

    /// Before anything that needs it is written.
    fn balance(&mut self) -> Result<(), DatapathError> {
        let local = self.goal.local || (self.balance.flags != 0 && !self.goal.services.is_empty());
        let balance = Balance {
            flags: if local {
                balance_flags::LOCAL_BACKENDS
            } else {
                0
            },
            new_flows: guard(self.maps.cpus()),
        };
        if balance != self.balance {
            self.maps.set_balance(balance)?;
            self.balance = balance;
        }
        Ok(())
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
        errors.extend(self.balancer.follow(&wanted.services).await);
        if !Arc::ptr_eq(&self.actual.marks, self.balancer.marks()) {
            self.actual.marks = Arc::clone(self.balancer.marks());
            self.settled = None;
        }
        errors
    }
}

/// New flows that a CPU may record in a second. A flood of connections that never open fills three
/// quarters of the table at most, for these stay 10 s, in two halves each. A CPU gets 5,000 at
/// least: network cards do not spread evenly.
fn guard(cpus: usize) -> u32 {
    const OPENING_S: usize = 10;
    const ALL: usize = max_entries::FLOWS / 4 * 3 / 2 / OPENING_S;
    const LEAST: usize = 5_000;
    u32::try_from((ALL / cpus.max(1)).max(LEAST)).unwrap_or(u32::MAX)
}
