//! Starting a daemon on a host's disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use vipd_core::id::NodeId;
use vipd_core::lease::Timing;
use vipd_core::steward::VoteMark;
use vipd_core::time::Span;
use vipd_raft::Settings;
use vipd_raft::parts::{Member, Words};

use super::{Process, Voter, agent, beats, driver, heartbeats, members};
use crate::host::{Host, Identity};
use crate::lock;
use crate::mutant::Mutant;
use crate::raft::{LogStore, Machine, Network, Shared};
use crate::runtime::{Scope, sleep, spawn, spawn_in};
use crate::world::World;

impl Process {
    /// Starts the daemon of `host`, which has joined as `identity`. It opens its store in the background.
    pub(crate) fn start(
        world: &Arc<World>,
        host: &Arc<Host>,
        identity: Identity,
        timing: Timing,
    ) -> Arc<Self> {
        let label = |part: &str| format!("{part} of n{} on {}", identity.node, host.id);
        let scope = |part: &str| Scope::new(&label(part), host.clock.clone(), world.panics.clone());
        let words = Arc::new(Words::new(heartbeat(timing)));
        let process = Arc::new(Self {
            words,
            given_up: std::sync::Mutex::default(),
            world: world.clone(),
            host: host.clone(),
            timing,
            daemon: scope("daemon"),
            beating: scope("beats"),
            shared: Shared::new(host.id, world.judge.clone(), world.mutant),
            voter: std::sync::OnceLock::new(),
            standing: std::sync::Mutex::default(),
            led: crate::bell::Bell::default(),
            heard: std::sync::Mutex::default(),
            inbox: std::sync::Mutex::default(),
            wake: Arc::default(),
            told: std::sync::Mutex::default(),
            socket: std::sync::Mutex::default(),
            beat_wake: Arc::default(),
            counted: std::sync::atomic::AtomicU64::new(0),
            beats_answered: std::sync::atomic::AtomicBool::new(false),
            deadline: std::sync::atomic::AtomicU64::new(0),
            ended: std::sync::atomic::AtomicBool::new(false),
            identity,
        });
        host.kernel.opened(world.mutant == Mutant::Unarmed);
        process.shared.news.wakes(&process.wake);
        spawn_in(&process.daemon, boot(process.clone()));
        process
    }
}

async fn boot(process: Arc<Process>) {
    // The binary is loaded, the store is read and verified.
    let pause = process.world.dice(|dice| dice.between(20, 120));
    sleep(Duration::from_millis(pause)).await;
    if process.role().votes()
        && let Err(why) = open_voter(&process).await
    {
        return process.fail(&why);
    }
    spawn(watch_removal(process.clone()));
    spawn_in(&process.beating, beats::run(process.clone()));
    if process.voter.get().is_none() {
        spawn(agent::follow(process.clone()));
    }
    driver::run(process).await;
}

fn span(span: Span) -> Duration {
    Duration::from_nanos(span.0)
}

/// As the daemon's.
fn heartbeat(timing: Timing) -> Duration {
    (3 * span(timing.beat)).min(span(timing.election_min) * 3 / 4)
}

async fn open_voter(process: &Arc<Process>) -> Result<(), String> {
    let (world, host, me) = (&process.world, &process.host, process.me().0);
    let timing = process.timing;
    let settings = Settings {
        heartbeat: heartbeat(timing),
        election_min: span(timing.election_min),
        election_max: span(timing.lease),
        snapshot_every: world.plan.snapshot_every,
        keep_behind: world.plan.snapshot_every / 5,
        ..Settings::new(PathBuf::new(), host.peer())
    };
    let config = settings
        .config(&[0; 16])
        .map_err(|error| error.to_string())?;
    let log = LogStore::open(host.disk.clone(), host.disk.recover())?;
    if world.mutant == Mutant::ForgetsFences {
        log.forget_fences();
    }
    if world.mutant == Mutant::ForgetsVote {
        log.forget_vote();
    }
    let machine = Machine::new(process.shared.clone(), host.disk.clone());
    let quiet = Arc::new(AtomicBool::new(false));
    let network = Network::new(
        me,
        host.id,
        world.clone(),
        quiet.clone(),
        process.words.clone(),
    );
    let own = process.clone();
    spawn(async move {
        let why = own.host.disk.work().await;
        own.fail(&why);
    });
    let raft = openraft::Raft::new(me, config, network, log.clone(), machine).await;
    let raft = raft.map_err(|error| format!("Raft does not start: {error}"))?;
    process.shared.news.ring();
    let initialized = raft
        .is_initialized()
        .await
        .map_err(|error| error.to_string())?;
    if me == 1 && !initialized && process.identity.hints.is_empty() {
        let members = BTreeMap::from([(1, Member { peer: host.peer() })]);
        raft.initialize(members)
            .await
            .map_err(|error| error.to_string())?;
    }
    if raft.voter_ids().eq([me]) {
        raft.trigger()
            .elect(true)
            .await
            .map_err(|error| error.to_string())?;
    }
    let voter = Voter {
        raft,
        log,
        leaving: std::sync::Mutex::new(BTreeSet::new()),
        quiet,
    };
    drop(process.voter.set(voter));
    spawn(follow_raft(process.clone()));
    spawn(members::keep(process.clone()));
    spawn(heartbeats::keep(process.clone(), heartbeat(timing)));
    Ok(())
}

/// Keeps the leader, the vote and Raft's health up to date.
async fn follow_raft(process: Arc<Process>) {
    let Some(voter) = process.voter.get() else {
        return;
    };
    let mut metrics = voter.raft.metrics();
    loop {
        let (leader, vote, fatal) = {
            let now = metrics.borrow_watched();
            let vote = VoteMark {
                term: now.vote.leader_id.term,
                candidate: now.vote.leader_id.voted_for,
                won: now.vote.committed,
            };
            let fatal = now.running_state.as_ref().err().map(ToString::to_string);
            (now.current_leader.map(NodeId), vote, fatal)
        };
        if leader == Some(process.me()) && process.leader() != leader {
            let host = process.host.id;
            process.world.trace.line(format_args!(
                "{host} n{}: leads, term {}",
                process.me(),
                vote.term
            ));
        }
        process.set_standing(leader, vote);
        if let Some(fatal) = fatal {
            return process.fail(&fatal);
        }
        if metrics.changed().await.is_err() {
            return process.fail("Raft has ended by itself");
        }
    }
}

/// A node that reads in its own replica that it was removed must stop.
async fn watch_removal(process: Arc<Process>) {
    let news = process.shared.news.listen();
    while !process.was_removed(process.me()) {
        news.notified().await;
    }
    process.removed();
}

impl Process {
    /// It was removed from the cluster, and must not be started again as what it was.
    pub(crate) fn removed(&self) {
        *lock(&self.host.identity) = None;
        self.fail("it was removed from the cluster");
    }
}
