//! The simulation as a whole: hosts, the wire, the judge; power, crashes and calls.

use std::fmt;
use std::future::pending;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use openraft::AsyncRuntime;
use tokio::sync::oneshot;
use vipd_core::id::NodeId;
use vipd_core::lease::{Profile, Timing};

use crate::daemon::Process;
use crate::dice::Dice;
use crate::disk::{Disk, Health};
use crate::host::Host;
use crate::judge::Judge;
use crate::kernel::Kernel;
use crate::lock;
use crate::mutant::Mutant;
use crate::net::{HostId, Net};
use crate::outsider::Outsider;
use crate::plan::Plan;
use crate::raft::{Request, Response};
use crate::runtime::{Clock, NodeRuntime, spawn_in, true_now};
use crate::trace::Trace;

/// systemd starts a daemon that ended by itself again after this.
pub(crate) const RESTART: u64 = 1_000_000_000;
/// A peer that owes an answer and is heard no more is given up after this, in nanoseconds: the daemon's lanes ask it each second.
pub(crate) const NOTICED: u64 = 2_000_000_000;
/// A lane whose peer owes an answer is closed when a call is over and nothing was heard for this long, in nanoseconds.
const GIVEN_UP: u64 = 500_000_000;
/// The wall clock at the beginning, in milliseconds since 1970.
const TODAY: u64 = 1_790_000_000_000;

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// It was certainly not taken.
    Unreachable,
    /// It may have been.
    Unknown,
}

/// The simulation.
pub(crate) struct World {
    /// What is simulated.
    pub(crate) plan: Plan,
    /// The rule that is left out.
    pub(crate) mutant: Mutant,
    /// The wire.
    pub(crate) net: Arc<Net>,
    /// A host that belongs to nobody.
    pub(crate) outsider: Outsider,
    /// Who sees it all.
    pub(crate) judge: Arc<Judge>,
    /// What happened.
    pub(crate) trace: Arc<Trace>,
    /// What tasks have panicked with.
    pub(crate) panics: Arc<Mutex<Vec<String>>>,
    recoveries: Mutex<Vec<u64>>,
    hosts: Mutex<Vec<Arc<Host>>>,
    dice: Mutex<Dice>,
    /// For the packets that are handed on: with or without them, the rest of a seed is the same.
    frames: Mutex<Dice>,
}

impl World {
    /// Hosts without a cluster.
    #[must_use]
    pub(crate) fn new(plan: Plan, mutant: Mutant) -> Arc<Self> {
        let trace = Arc::new(Trace::default());
        let seed = plan.seed;
        let world = Arc::new(Self {
            net: Arc::new(Net::new(Dice::new(seed, 2))),
            outsider: Outsider::default(),
            judge: Arc::new(Judge::new(trace.clone(), plan.compare_every)),
            trace,
            panics: Arc::default(),
            recoveries: Mutex::default(),
            hosts: Mutex::default(),
            dice: Mutex::new(Dice::new(seed, 3)),
            frames: Mutex::new(Dice::new(seed, 4)),
            mutant,
            plan,
        });
        for n in 0..world.plan.voters + world.plan.agents + world.plan.spares {
            world.add_host(n, Arc::downgrade(&world));
        }
        world
    }

    fn add_host(&self, n: usize, me: Weak<Self>) {
        let id = HostId(n);
        let seed = |purpose: u64| Dice::new(self.plan.seed, 1000 * purpose + n as u64);
        let (shown, ppm) =
            self.dice(|dice| (dice.between(10, 100_000) * 1_000_000_000, drift(dice)));
        let clock = Arc::new(Clock::new(shown, ppm));
        self.judge.add_host(clock.clone());
        let disk = Arc::new(Disk::new(seed(1), self.mutant == Mutant::DiskLies));
        let judge = self.judge.clone();
        let kernel = Kernel::new(id, me, self.mutant, clock.clone(), judge, seed(2));
        lock(&self.hosts).push(Arc::new(Host {
            id,
            clock,
            disk,
            kernel,
            powered: true.into(),
            carrier: true.into(),
            second_subnet: n % 3 != 1,
            wanted: true.into(),
            identity: Mutex::default(),
            process: Mutex::default(),
            joins: Mutex::new(0),
        }));
    }

    /// All hosts.
    #[must_use]
    pub(crate) fn hosts(&self) -> Vec<Arc<Host>> {
        lock(&self.hosts).clone()
    }

    /// One host.
    #[must_use]
    pub(crate) fn host(&self, id: HostId) -> Arc<Host> {
        lock(&self.hosts)[id.0].clone()
    }

    /// The daemons that run.
    #[must_use]
    pub(crate) fn processes(&self) -> Vec<Arc<Process>> {
        let hosts = self.hosts();
        hosts
            .iter()
            .filter_map(|host| host.process())
            .filter(|process| !process.is_over())
            .collect()
    }

    /// Chance that is nobody's in particular.
    pub(crate) fn dice<R>(&self, roll: impl FnOnce(&mut Dice) -> R) -> R {
        roll(&mut lock(&self.dice))
    }

    /// Chance of the packets that are handed on.
    pub(crate) fn frames<R>(&self, roll: impl FnOnce(&mut Dice) -> R) -> R {
        roll(&mut lock(&self.frames))
    }

    /// How late a thread wakes, in nanoseconds: a little, and once in a while as on a busy host.
    #[must_use]
    pub(crate) fn lateness(&self) -> u64 {
        self.dice(|dice| {
            let usual = dice.between(5_000, 100_000);
            usual
                + if dice.one_in(2_000) {
                    dice.below(15_000_000)
                } else {
                    0
                }
        })
    }

    /// Wall-clock time on a host, in milliseconds since 1970: a second off, at most.
    #[must_use]
    pub(crate) fn wall_clock(&self, host: HostId) -> u64 {
        TODAY + true_now() / 1_000_000 + (host.0 as u64 * 377) % 1000
    }

    fn timing(&self, host: HostId) -> Timing {
        if self.plan.mixed && host.0 % 3 == 1 {
            Profile::Safe.timing()
        } else {
            self.plan.timing
        }
    }

    /// Starts the daemon of `host`, if it has joined, has power and does not run already.
    pub(crate) fn start(self: &Arc<Self>, host: &Arc<Host>) {
        let Some(identity) = host.identity() else {
            return;
        };
        if !host.is_powered() || host.process().is_some() {
            return;
        }
        self.say(format_args!("{} n{}: starts", host.id, identity.node));
        let process = Process::start(self, host, identity, self.timing(host.id));
        *lock(&host.process) = Some(process);
    }

    /// `kill -9`; systemd starts it again, if it is wanted.
    pub(crate) fn kill(self: &Arc<Self>, host: &Arc<Host>) {
        self.end_process(host, RESTART);
    }

    /// Its daemon ends where it stands; what supervises it starts it again after `pause` nanoseconds, if it is wanted.
    pub(crate) fn end_process(self: &Arc<Self>, host: &Arc<Host>, pause: u64) {
        let Some(process) = lock(&host.process).take() else {
            return;
        };
        process.daemon.kill();
        process.beating.kill();
        host.disk.crash();
        let (world, host) = (self.clone(), host.clone());
        let again = move || {
            if host.wanted.load(Ordering::Relaxed) {
                world.start(&host);
            }
        };
        self.net.after(pause, Box::new(again));
    }

    /// The plug is pulled.
    pub(crate) fn power_off(self: &Arc<Self>, host: &Arc<Host>) {
        host.powered.store(false, Ordering::Relaxed);
        self.kill(host);
        host.kernel.lose();
    }

    /// The host boots.
    pub(crate) fn power_on(self: &Arc<Self>, host: &Arc<Host>) {
        if host.powered.swap(true, Ordering::Relaxed) {
            return;
        }
        host.disk.set_health(Health::Good);
        host.clock
            .reboot(self.dice(|dice| dice.between(10, 40)) * 1_000_000_000);
        self.start(host);
    }

    /// Asks the daemon `target` on `to` something, over TCP, and waits for at most `patience`.
    ///
    /// What Raft says is on a lane that is closed soon after the peer falls silent, so that none of it arrives when all has
    /// changed: the heartbeats of a leader that is long gone would have voters wait for it.
    ///
    /// # Errors
    /// [`CallError`] without an answer.
    pub(crate) async fn call(
        self: &Arc<Self>,
        from: HostId,
        to: HostId,
        target: NodeId,
        request: Request,
        patience: Duration,
    ) -> Result<Response, CallError> {
        let (answer, answered) = oneshot::channel();
        let asker = self
            .host(from)
            .process()
            .map_or(NodeId(0), |process| process.me());
        let reply = Reply {
            world: self.clone(),
            route: (to, from),
            answer: Some(answer),
        };
        let closed = match request.is_raft() {
            true => true_now() + GIVEN_UP,
            false => u64::MAX,
        };
        let arrive = move || reply.world.clone().deliver(asker, target, request, reply);
        self.net.message_until(closed, from, to, Box::new(arrive));
        let wait = async {
            match answered.await {
                Ok(result) => result,
                // Nobody will ever answer; TCP does not know.
                Err(_) => pending().await,
            }
        };
        NodeRuntime::timeout(patience, wait)
            .await
            .unwrap_or(Err(CallError::Unknown))
    }

    fn deliver(&self, asker: NodeId, target: NodeId, request: Request, reply: Reply) {
        let host = self.host(reply.route.0);
        if !host.is_powered() {
            return;
        }
        match host.process().filter(|process| process.me() == target) {
            Some(process) if process.was_removed(asker) => {
                if let Some(removed) = self
                    .host(reply.route.1)
                    .process()
                    .filter(|it| it.me() == asker)
                {
                    removed.removed();
                }
            }
            Some(process) => {
                let work = process.clone();
                spawn_in(&process.daemon, async move {
                    let response = work.answer(asker, request).await;
                    reply.send(Ok(response));
                });
            }
            None => reply.send(Err(CallError::Unreachable)),
        }
    }

    /// Notes how long the cluster took to be well again, in milliseconds.
    pub(crate) fn note_recovery(&self, millis: u64) {
        lock(&self.recoveries).push(millis);
    }

    /// What was noted.
    #[must_use]
    pub(crate) fn recoveries(&self) -> Vec<u64> {
        lock(&self.recoveries).clone()
    }

    /// Ends everything; nothing of it runs again.
    pub(crate) fn end(&self) {
        for host in self.hosts() {
            if let Some(process) = lock(&host.process).take() {
                process.daemon.kill();
                process.beating.kill();
            }
        }
        lock(&self.hosts).clear();
    }

    /// Adds a line to the trace.
    pub(crate) fn say(&self, text: fmt::Arguments<'_>) {
        self.trace.line(text);
    }
}

/// A clock's rate, in parts per million off: within what NTP slews.
pub(crate) fn drift(dice: &mut Dice) -> i64 {
    i64::try_from(dice.below(1001)).unwrap_or(0) - 500
}

/// The way back of an answer. Dropped with its process, it resets the connection; without power nobody does, and the asker
/// has to notice.
struct Reply {
    world: Arc<World>,
    route: (HostId, HostId),
    answer: Option<oneshot::Sender<Result<Response, CallError>>>,
}

impl Reply {
    fn send(mut self, result: Result<Response, CallError>) {
        self.send_once(result);
    }

    fn send_once(&mut self, result: Result<Response, CallError>) {
        if let Some(answer) = self.answer.take() {
            let (from, to) = self.route;
            self.world
                .net
                .message(from, to, Box::new(move || drop(answer.send(result))));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.world.host_is_powered(self.route.0) {
            self.send_once(Err(CallError::Unknown));
        } else if let Some(answer) = self.answer.take() {
            let give_up = move || drop(answer.send(Err(CallError::Unknown)));
            self.world.net.after(NOTICED, Box::new(give_up));
        }
    }
}

impl World {
    fn host_is_powered(&self, id: HostId) -> bool {
        lock(&self.hosts)
            .get(id.0)
            .is_some_and(|host| host.is_powered())
    }
}
