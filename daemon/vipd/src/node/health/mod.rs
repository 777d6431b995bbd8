//! Looks after backends: asks those of the VIPs that this node holds or would hold next, and tells the loop who is down.
//!
//! ```text
//!   state ──> patients ──> a task for each: ask, wait, ask ──> Health (vipd_core) ──> down ──> the loop: services
//!                                                                   └──> status, log, events
//! ```
//! Each node judges by itself, by what it sees from where it would serve. Who nobody has asked counts as up.

mod ask;
mod patients;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};
use vipd_api::LocalBackend;
use vipd_core::command::Command;
use vipd_core::health::Health;
use vipd_core::name::Name;
use vipd_core::notice::Notice;
use vipd_core::service::Endpoint;
use vipd_raft::{RaftNode, wall_clock};

use super::shared::Shared;
use patients::{Patient, Who, patients};

/// Backends that get no new connections, by VIP.
pub(super) type Down = BTreeMap<Name, BTreeSet<Endpoint>>;

/// Between two looks at whom to look after; a first change is looked at at once.
const LOOKS: Duration = Duration::from_millis(500);
/// Questions under way at a time, so that thousands of backends do not take all file descriptors.
const AT_ONCE: usize = 256;
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
    _task: AbortOnDropHandle<()>,
}

/// Looks after backends until it is dropped.
pub(super) async fn keep(raft: RaftNode, shared: Arc<Shared>, down: watch::Sender<Arc<Down>>) {
    let mut applied = raft.applied();
    let mut ward = Ward::new(raft, shared, down);
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
        }
    }
}

struct Ward {
    raft: RaftNode,
    shared: Arc<Shared>,
    down: watch::Sender<Arc<Down>>,
    watched: BTreeMap<Who, Watched>,
    answers: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    turns: Arc<Semaphore>,
    turns_of: BTreeMap<Name, Arc<Semaphore>>,
    /// When the last events were told.
    told: Vec<Instant>,
}

impl Ward {
    fn new(raft: RaftNode, shared: Arc<Shared>, down: watch::Sender<Arc<Down>>) -> Self {
        Self {
            raft,
            shared,
            down,
            watched: BTreeMap::new(),
            answers: mpsc::channel(AT_ONCE),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
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
        let Ok(mut wanted) = spawn_blocking(move || patients(&state, me)).await else {
            return;
        };
        let before = self.watched.len();
        self.watched.retain(|who, watched| {
            let Some(patient) = wanted.remove(who) else {
                return false;
            };
            watched.patient.holds = patient.holds;
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
            let task = tokio::spawn(ask_for_ever(
                who.clone(),
                patient.clone(),
                self.answers.0.clone(),
                [of_one.clone(), self.turns.clone()],
            ));
            let watched = Watched {
                patient,
                health: Health::default(),
                _task: AbortOnDropHandle::new(task),
            };
            self.watched.insert(who, watched);
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
    }

    fn take(&mut self, Answer { who, said }: Answer) {
        let Some(watched) = self.watched.get_mut(&who) else {
            return;
        };
        let changed = watched.health.take(said.is_ok(), &watched.patient.check);
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
        if !changed {
            return;
        }
        if healthy {
            info!(%vip, %backend, "a backend is up: {reason}");
        } else {
            warn!(%vip, %backend, "a backend is down, and gets no new connections: {reason}");
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
async fn ask_for_ever(
    who: Who,
    patient: Patient,
    answers: mpsc::Sender<Answer>,
    [of_one, of_all]: [Arc<Semaphore>; 2],
) {
    let period = Duration::from_millis(patient.check.interval.0);
    let mut times = interval_at(Instant::now() + first(&patient), period);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        let said = {
            let (Ok(_of_one), Ok(_of_all)) = (of_one.acquire().await, of_all.acquire().await)
            else {
                return;
            };
            ask::ask(patient.at, &patient.check).await
        };
        let answer = Answer {
            who: who.clone(),
            said,
        };
        if answers.send(answer).await.is_err() {
            return;
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
