//! Looks after backends: asks those of the VIPs that this node holds or would hold next, and tells the loop who is down.
//!
//! ```text
//!   state ──> patients ──> a task for each: ask, wait, ask ──> Health (vipd_core) ──> down ──> the loop: services
//!                                                                   │└──> status, log, events
//!                                                                   └──> sights: "all are down", for VIPs that leave then
//! ```
//! Each node judges by itself, by what it sees from where it would serve. Who nobody has asked counts as up.

mod ask;
mod patients;
mod sights;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};
use vipd_api::LocalBackend;
use vipd_core::command::Command;
use vipd_core::health::{Health, Question, RATE, no_more_often_than};
use vipd_core::name::Name;
use vipd_core::notice::Notice;
use vipd_core::service::Endpoint;
use vipd_core::time::Millis;
use vipd_raft::{RaftNode, wall_clock};

use super::shared::Shared;
use ask::{Asker, Call};
use patients::{Patient, Patients, Who, patients};
use sights::Sights;

/// Backends that get no new connections, by VIP.
pub(super) type Down = BTreeMap<Name, BTreeSet<Endpoint>>;

/// Between two looks at whom to look after; a first change is looked at at once.
const LOOKS: Duration = Duration::from_millis(500);
/// Questions under way at a time, so that thousands of backends do not take all file descriptors.
const AT_ONCE: usize = 256;
/// Programs running at a time: each is a process. They take no turns from other questions, however long they run.
const PROGRAMS: usize = 16;
/// The same for one VIP: the silence of its backends takes no turns from others.
const AT_ONCE_OF_ONE: usize = 32;
/// First questions are spread over so much time.
const SPREAD: u64 = 1000;
/// Events a minute: they go through the log, and a broken network takes all backends down at a time.
const EVENTS: usize = 32;
const MINUTE: Duration = Duration::from_secs(60);

/// What a task found.
struct Answer {
    who: Who,
    said: Result<String, String>,
}

/// One backend under observation; its task ends with it.
struct Watched {
    patient: Patient,
    health: Health,
    /// What its task is to know of changes: it goes on, and what is known of the backend stays known.
    way: watch::Sender<Way>,
    _task: AbortOnDropHandle<()>,
}

/// How a task asks, which may change while it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Way {
    /// The VIP's address to ask from, while that is here.
    from: Option<IpAddr>,
    /// No more often than this.
    least: Millis,
}

/// Looks after backends until it is dropped. `exec_dir`: where programs may be run from that do.
pub(super) async fn keep(
    raft: RaftNode,
    shared: Arc<Shared>,
    down: watch::Sender<Arc<Down>>,
    exec_dir: Option<PathBuf>,
    loopback: BTreeSet<u16>,
) {
    let mut applied = raft.applied();
    let mut ward = Ward::new(raft, shared, down, Asker::new(exec_dir, loopback));
    let (mut changed, mut look) = (true, Instant::now());
    loop {
        tokio::select! {
            Some(answer) = ward.answers.1.recv() => ward.take(answer),
            result = applied.changed(), if !changed => match result {
                Ok(()) => changed = true,
                Err(_) => return,
            },
            () = sleep_until(look), if changed => {
                changed = false;
                look = Instant::now() + LOOKS;
                applied.borrow_and_update();
                ward.look().await;
            }
            () = sleep_until(ward.sights.due()), if ward.sights.any() => ward.tell_sights(),
        }
    }
}

struct Ward {
    raft: RaftNode,
    shared: Arc<Shared>,
    down: watch::Sender<Arc<Down>>,
    asker: Arc<Asker>,
    watched: BTreeMap<Who, Watched>,
    sights: Sights,
    /// Nobody is asked more often than this: 0 while there is room.
    least: Millis,
    answers: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    turns: Arc<Semaphore>,
    turns_of_programs: Arc<Semaphore>,
    turns_of: BTreeMap<Name, Arc<Semaphore>>,
    /// When the last events were told.
    told: Vec<Instant>,
}

impl Ward {
    fn new(
        raft: RaftNode,
        shared: Arc<Shared>,
        down: watch::Sender<Arc<Down>>,
        asker: Arc<Asker>,
    ) -> Self {
        Self {
            raft,
            shared,
            down,
            asker,
            sights: Sights::default(),
            least: Millis(0),
            watched: BTreeMap::new(),
            answers: mpsc::channel(AT_ONCE),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            turns_of_programs: Arc::new(Semaphore::new(PROGRAMS)),
            turns_of: BTreeMap::new(),
            told: Vec::new(),
        }
    }

    /// Whom to look after may have changed.
    async fn look(&mut self) {
        let (state, me) = {
            let state = self.raft.state();
            let state = state.read();
            let nobody = state.vips().values().all(|vip| vip.spec.health.is_none());
            if nobody && self.watched.is_empty() {
                return;
            }
            (state.clone(), self.raft.id())
        };
        // On a copy and aside: entries wait for neither, and it works out what others' loss would do.
        let Ok(wanted) = spawn_blocking(move || patients(&state, me)).await else {
            return;
        };
        let Patients {
            all: mut wanted,
            leaving,
        } = wanted;
        self.sights.follow(leaving);
        self.keep_the_rate(&wanted);
        let before = self.watched.len();
        self.watched.retain(|who, watched| {
            let Some(patient) = wanted.remove(who) else {
                return false;
            };
            // These change with the holder, and what is known of the backend does not.
            (watched.patient.holds, watched.patient.from) = (patient.holds, patient.from);
            watched.patient.counts = patient.counts;
            let same = watched.patient == patient;
            if !same {
                wanted.insert(who.clone(), patient);
            }
            same
        });
        let gone = before != self.watched.len();
        let new = !wanted.is_empty();
        for (who, patient) in wanted {
            let of_one = || Arc::new(Semaphore::new(AT_ONCE_OF_ONE));
            let of_one = self.turns_of.entry(who.0.clone()).or_insert_with(of_one);
            let (way, known) = watch::channel(Way::default());
            let task = Task {
                who: who.clone(),
                patient: patient.clone(),
                asker: self.asker.clone(),
                way: known,
                answers: self.answers.0.clone(),
            };
            let of_all = match patient.check.question {
                Question::Exec { .. } => &self.turns_of_programs,
                Question::Tcp | Question::Http { .. } | Question::Udp { .. } => &self.turns,
            };
            let task = tokio::spawn(task.run([of_one.clone(), of_all.clone()]));
            let watched = Watched {
                patient,
                health: Health::default(),
                way,
                _task: AbortOnDropHandle::new(task),
            };
            self.watched.insert(who, watched);
        }
        for watched in self.watched.values() {
            let way = Way {
                from: watched.patient.from,
                least: self.least,
            };
            watched
                .way
                .send_if_modified(|known| std::mem::replace(known, way) != way);
        }
        if gone || new {
            let watched = &self.watched;
            let names: BTreeSet<&Name> = watched.keys().map(|(name, _)| name).collect();
            self.turns_of.retain(|name, _| names.contains(name));
            let stays = |who: &Who| watched.contains_key(who);
            self.shared.backends().retain(|name, of| {
                of.retain(|at, _| stays(&(name.clone(), *at)));
                !of.is_empty()
            });
            self.tell_the_loop();
        }
        self.tell_sights();
    }

    /// Bounds how often all of them are asked together.
    fn keep_the_rate(&mut self, wanted: &BTreeMap<Who, Patient>) {
        let intervals = wanted.values().map(|patient| patient.check.interval);
        let least = no_more_often_than(intervals, RATE);
        if least > self.least {
            warn!(
                "backends are asked each {} ms at most: this node asks {RATE} times a second. Next: longer intervals",
                least.0
            );
        }
        self.least = least;
        let slowed = wanted.iter();
        let slowed = slowed.filter(|(_, patient)| patient.check.interval < least);
        let slowed = slowed.map(|((name, _), _)| (name.clone(), least));
        self.shared.set_slowed(slowed.collect());
    }

    /// Tells the cluster of VIPs that leave when all backends are down whether they are.
    fn tell_sights(&mut self) {
        for (vip, down) in self.sights.look(&self.watched) {
            let (raft, node) = (self.raft.clone(), self.raft.id());
            match down {
                true => warn!(%vip, "all backends are down: the VIP goes elsewhere, if it can"),
                false => info!(%vip, "not all backends are down any more"),
            }
            tokio::spawn(async move {
                let told = Command::Sight { node, vip, down };
                match raft.propose(told).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(why)) => debug!("what is seen of backends is not heard: {why}"),
                    Err(error) => debug!("what is seen of backends was not told: {error}"),
                }
            });
        }
    }

    fn take(&mut self, Answer { who, said }: Answer) {
        let Some(watched) = self.watched.get_mut(&who) else {
            return;
        };
        let before = watched.health.is_known_up();
        let changed = watched.health.take(said.is_ok(), &watched.patient.check);
        let sight = changed || before != watched.health.is_known_up();
        let (healthy, holds) = (watched.health.is_up(), watched.patient.holds);
        let (Ok(reason) | Err(reason)) = said;
        let (vip, backend) = who;
        {
            let mut known = self.shared.backends();
            let known = known.entry(vip.clone()).or_default();
            let seen = known.entry(backend).or_insert_with(|| LocalBackend {
                healthy,
                since: wall_clock(),
                reason: String::new(),
            });
            if seen.healthy != healthy {
                (seen.healthy, seen.since) = (healthy, wall_clock());
            }
            seen.reason.clone_from(&reason);
        }
        if sight {
            self.tell_sights();
        }
        if !changed {
            return;
        }
        if healthy {
            info!(%vip, %backend, "a backend is up: {reason}");
        } else {
            warn!(%vip, %backend, "a backend is down: {reason}");
        }
        self.tell_the_loop();
        if holds {
            self.tell_the_cluster(Notice::Backend {
                vip,
                backend,
                up: healthy,
                why: reason,
            });
        }
    }

    fn tell_the_loop(&self) {
        let mut down = Down::new();
        for ((name, endpoint), watched) in &self.watched {
            if !watched.health.is_up() {
                down.entry(name.clone()).or_default().insert(*endpoint);
            }
        }
        self.down.send_if_modified(|known| {
            let news = **known != down;
            if news {
                *known = Arc::new(down);
            }
            news
        });
    }

    /// Makes an event of it, if there were not too many. Nothing waits for that: the log of this node has it in any case.
    fn tell_the_cluster(&mut self, notice: Notice) {
        self.told.retain(|at| at.elapsed() < MINUTE);
        if self.told.len() >= EVENTS {
            return;
        }
        self.told.push(Instant::now());
        let (raft, node) = (self.raft.clone(), self.raft.id());
        tokio::spawn(async move {
            if let Err(error) = raft.propose(Command::Notice { node, notice }).await {
                debug!("the health of a backend was not told to the cluster: {error}");
            }
        });
    }
}

/// Asks, and tells what came of it, again and again.
struct Task {
    who: Who,
    patient: Patient,
    asker: Arc<Asker>,
    way: watch::Receiver<Way>,
    answers: mpsc::Sender<Answer>,
}

impl Task {
    async fn run(self, [of_one, of_all]: [Arc<Semaphore>; 2]) {
        let check = &self.patient.check;
        let mut next = Instant::now() + first(&self.patient);
        loop {
            sleep_until(next).await;
            let Way { from, least } = *self.way.borrow();
            let call = Call {
                at: self.patient.at,
                from,
                vip: self.who.0.to_string(),
            };
            let said = {
                let (Ok(_of_one), Ok(_of_all)) = (of_one.acquire().await, of_all.acquire().await)
                else {
                    return;
                };
                // What was late is not made up for.
                next = Instant::now() + Duration::from_millis(check.interval.max(least).0);
                self.asker.ask(&call, check).await
            };
            let answer = Answer {
                who: self.who.clone(),
                said,
            };
            if self.answers.send(answer).await.is_err() {
                return;
            }
        }
    }
}

/// When to ask first: not all at a time, and soon.
fn first(patient: &Patient) -> Duration {
    let bytes = match patient.at.ip() {
        std::net::IpAddr::V4(v4) => u64::from(v4.to_bits()),
        std::net::IpAddr::V6(v6) => v6.to_bits() as u64,
    };
    let place = bytes.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(16);
    Duration::from_millis(place % SPREAD.min(patient.check.interval.0))
}
