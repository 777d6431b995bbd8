//! What a host's kernel holds for vipd: a gate per address, one deadline. It outlives the daemon, not the power.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use vipd_core::id::Epoch;
use vipd_core::node::Mac;
use vipd_core::steward::{Duty, Gates};
use vipd_datapath_common::handing::SERVES_NS;

use crate::dice::Dice;
use crate::frames;
use crate::judge::Judge;
use crate::lock;
use crate::mutant::Mutant;
use crate::net::HostId;
use crate::runtime::{Clock, sleep, true_now};
use crate::world::World;

/// Steps between two pauses of whoever writes them.
const BATCH: usize = 16;
/// Between looks at whether it goes on.
const STALLED: Duration = Duration::from_millis(2);

/// What it does about one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gate {
    duty: Duty,
    epoch: Epoch,
}

/// The twin of the pinned maps, and of the programs that read them.
pub(crate) struct Kernel {
    host: HostId,
    world: Weak<World>,
    mutant: Mutant,
    clock: Arc<Clock>,
    judge: Arc<Judge>,
    deadline: AtomicU64,
    gates: Mutex<BTreeMap<IpAddr, Gate>>,
    /// When a packet to each address was last handed to this host.
    handed: Mutex<BTreeMap<IpAddr, u64>>,
    /// Whether the present daemon has said what is to be: until then its deadlines have no effect, so that what an earlier
    /// one left open does not come alive by the lease of a later one.
    armed: AtomicBool,
    /// Whoever writes gates waits until this true time: thousands of addresses, a busy host.
    stalled: AtomicU64,
    /// Whether somebody writes gates.
    busy: AtomicBool,
    dice: Mutex<Dice>,
}

impl Kernel {
    /// Without any address. `world` is where the other hosts are.
    #[must_use]
    pub(crate) fn new(
        host: HostId,
        world: Weak<World>,
        mutant: Mutant,
        clock: Arc<Clock>,
        judge: Arc<Judge>,
        dice: Dice,
    ) -> Self {
        Self {
            host,
            world,
            mutant,
            clock,
            judge,
            deadline: AtomicU64::new(0),
            gates: Mutex::default(),
            handed: Mutex::default(),
            armed: AtomicBool::new(false),
            stalled: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            dice: Mutex::new(dice),
        }
    }

    /// A daemon starts; what an earlier one has left stays.
    pub(crate) fn opened(&self, armed: bool) {
        self.armed.store(armed, Ordering::Relaxed);
    }

    /// Writes the deadline, in nanoseconds of the host's clock; whether no majority has granted it (`frozen`) is for the judge
    /// alone.
    pub(crate) fn set_deadline(&self, boottime: u64, frozen: bool) {
        if self.armed.load(Ordering::Relaxed) {
            self.deadline.store(boottime, Ordering::Relaxed);
            self.judge.deadline(self.host, boottime, frozen);
        }
    }

    /// The deadline that was last written.
    pub(crate) fn deadline(&self) -> u64 {
        self.deadline.load(Ordering::Relaxed)
    }

    /// From now on whoever writes gates gets no further before this true time.
    pub(crate) fn stall(&self, until: u64) {
        self.stalled.store(until, Ordering::Relaxed);
    }

    /// Whether somebody is writing gates.
    #[must_use]
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    fn silence(&self) {
        self.deadline.store(0, Ordering::Relaxed);
        self.judge.deadline(self.host, 0, false);
    }

    /// Makes the gates so: first what is to be shut, then what is to be opened, and not all in one instant.
    pub(crate) async fn apply(&self, wanted: &Gates) {
        let steps = self.plan(wanted);
        self.busy.store(!steps.is_empty(), Ordering::Relaxed);
        // As in the real one, a failed step would not arm; here none fails.
        for batch in steps.chunks(BATCH) {
            for (address, gate) in batch {
                self.set(*address, *gate);
            }
            let pause = lock(&self.dice).between(5_000, 60_000);
            sleep(Duration::from_nanos(pause)).await;
            while self.stalled.load(Ordering::Relaxed) > true_now() {
                sleep(STALLED).await;
            }
        }
        self.busy.store(false, Ordering::Relaxed);
        self.armed.store(true, Ordering::Relaxed);
    }

    /// The power is gone, and all of it with it.
    pub(crate) fn lose(&self) {
        let lost = std::mem::take(&mut *lock(&self.gates));
        lock(&self.handed).clear();
        for (address, gate) in lost {
            self.judge.gate(self.host, address, false, gate.epoch);
            self.judge.serves(self.host, address, None);
        }
        self.silence();
    }

    /// To whom a packet for `address` that comes in now is handed on.
    pub(crate) fn hands_on(&self, address: IpAddr) -> Option<Mac> {
        let now = self.clock.now();
        match lock(&self.gates).get(&address)?.duty {
            Duty::Hand { to, until, leased } => {
                let leased = !leased || now < self.deadline();
                (now < until.0 && leased).then_some(to)
            }
            Duty::Open | Duty::Shut | Duty::Take { .. } => None,
        }
    }

    /// A packet for `address` comes in, handed on by the host with this MAC: from now on this host serves it in the right of
    /// its holder, for a while.
    pub(crate) fn is_handed(&self, address: IpAddr, by: Mac) {
        let now = self.clock.now();
        let duty = lock(&self.gates).get(&address).map(|gate| gate.duty);
        if duty == Some(Duty::Take { from: by }) && now < self.deadline() {
            lock(&self.handed).insert(address, now);
            self.judge
                .serves(self.host, address, self.serves_until(address));
        }
    }

    /// Until when this host serves what it was handed, by its own clock.
    fn serves_until(&self, address: IpAddr) -> Option<u64> {
        let handed = lock(&self.handed).get(&address).copied()?;
        Some(match self.mutant {
            Mutant::ServesForEver => u64::MAX,
            _ => handed + SERVES_NS,
        })
    }

    /// Whether the host answers and serves by a gate of its own, before the deadline.
    fn is_open(&self, duty: Duty) -> bool {
        match duty {
            Duty::Open => true,
            Duty::Hand { leased: true, .. } => self.mutant == Mutant::HandsWhileOpen,
            Duty::Hand { .. } | Duty::Shut | Duty::Take { .. } => false,
        }
    }

    fn plan(&self, wanted: &Gates) -> Vec<(IpAddr, Gate)> {
        let gates = lock(&self.gates);
        let gone = gates
            .iter()
            .filter(|(address, gate)| gate.duty != Duty::Shut && !wanted.contains_key(address));
        let shut = |gate: &Gate| Gate {
            duty: Duty::Shut,
            epoch: gate.epoch,
        };
        let mut steps: Vec<_> = gone.map(|(address, gate)| (*address, shut(gate))).collect();
        let stances = |open| {
            let gates = &gates;
            wanted.iter().filter_map(move |(address, stance)| {
                let gate = Gate {
                    duty: stance.duty,
                    epoch: stance.epoch,
                };
                let news = stance.is_open() == open && gates.get(address) != Some(&gate);
                news.then_some((*address, gate))
            })
        };
        steps.extend(stances(false));
        steps.extend(stances(true));
        steps
    }

    fn set(&self, address: IpAddr, gate: Gate) {
        let before = lock(&self.gates).insert(address, gate);
        let was = before.is_some_and(|before| self.is_open(before.duty));
        let is = self.is_open(gate.duty);
        let took = before.is_some_and(|before| matches!(before.duty, Duty::Take { .. }));
        let begins = before.is_none_or(|before| before.duty != gate.duty);
        let takes = matches!(gate.duty, Duty::Take { .. });
        if was || is {
            self.judge.gate(self.host, address, is, gate.epoch);
        }
        if takes && begins && self.mutant != Mutant::ServesForEver {
            lock(&self.handed).remove(&address);
        }
        if took || takes {
            let until = self.serves_until(address).filter(|_| takes);
            self.judge.serves(self.host, address, until);
        }
        if let (Duty::Hand { .. }, Some(world)) = (gate.duty, self.world.upgrade()) {
            frames::go_on(&world, self.host, address);
        }
    }
}
