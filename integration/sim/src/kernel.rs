//! What a host's kernel holds for vipd: a gate per address, one deadline. It outlives the daemon, not the power.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vipd_core::id::Epoch;
use vipd_core::steward::Gates;

use crate::dice::Dice;
use crate::judge::Judge;
use crate::lock;
use crate::net::HostId;
use crate::runtime::{sleep, true_now};

/// Steps between two pauses of whoever writes them.
const BATCH: usize = 16;
/// Between looks at whether it goes on.
const STALLED: Duration = Duration::from_millis(2);

/// The twin of the pinned maps.
pub(crate) struct Kernel {
    host: HostId,
    judge: Arc<Judge>,
    deadline: AtomicU64,
    gates: Mutex<BTreeMap<IpAddr, (bool, Epoch)>>,
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
    /// Without any address.
    #[must_use]
    pub(crate) fn new(host: HostId, judge: Arc<Judge>, dice: Dice) -> Self {
        Self {
            host,
            judge,
            deadline: AtomicU64::new(0),
            gates: Mutex::default(),
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

    /// Writes the deadline, in nanoseconds of the host's clock.
    pub(crate) fn set_deadline(&self, boottime: u64) {
        if self.armed.load(Ordering::Relaxed) {
            self.deadline.store(boottime, Ordering::Relaxed);
            self.judge.deadline(self.host, boottime);
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
        self.judge.deadline(self.host, 0);
    }

    /// Makes the gates so: first what is to be shut, then what is to be opened, and not all in one instant.
    pub(crate) async fn apply(&self, wanted: &Gates) {
        let steps = self.plan(wanted);
        self.busy.store(!steps.is_empty(), Ordering::Relaxed);
        // As in the real one, a failed step would not arm; here none fails.
        for batch in steps.chunks(BATCH) {
            for (address, open, epoch) in batch {
                self.set(*address, *open, *epoch);
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
        let open = std::mem::take(&mut *lock(&self.gates));
        for (address, (_, epoch)) in open {
            self.judge.gate(self.host, address, false, epoch);
        }
        self.silence();
    }

    fn plan(&self, wanted: &Gates) -> Vec<(IpAddr, bool, Epoch)> {
        let gates = lock(&self.gates);
        let gone = gates
            .iter()
            .filter(|(address, (open, _))| *open && !wanted.contains_key(address));
        let mut steps: Vec<_> = gone
            .map(|(address, (_, epoch))| (*address, false, *epoch))
            .collect();
        let stances = |open| {
            let gates = &gates;
            wanted.iter().filter_map(move |(address, stance)| {
                let news =
                    stance.is_open() == open && gates.get(address) != Some(&(open, stance.epoch));
                news.then_some((*address, open, stance.epoch))
            })
        };
        steps.extend(stances(false));
        steps.extend(stances(true));
        steps
    }

    fn set(&self, address: IpAddr, open: bool, epoch: Epoch) {
        let before = lock(&self.gates).insert(address, (open, epoch));
        if before.is_some_and(|(was, _)| was) || open {
            self.judge.gate(self.host, address, open, epoch);
        }
    }
}
