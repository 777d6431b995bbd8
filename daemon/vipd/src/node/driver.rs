//! The daemon's one loop: carries out what [`Steward`] decides whenever anything happened.
//!
//! ```text
//!   applied index ──┐
//!   beat events ────┤                  ┌─> datapath.apply   what to answer for
//!   interfaces ─────┼─> steward.look ──┼─> beats.set_view   what to beat for
//!   answers ────────┤                  ├─> probing.ask      who has an address that is new
//!   finished ───────┤                  └─> propose, elect
//!   timer, stop ────┘
//! ```
//! The rules are [`vipd_core::steward`]'s; here are clocks, channels and tasks only.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, sleep, timeout};
use tracing::{debug, error, info, warn};
use vipd_core::command::{Command, Outcome};
use vipd_core::id::{Epoch, NodeId};
use vipd_core::node::Interface;
use vipd_core::notice::Notice;
use vipd_core::rejection::Rejection;
use vipd_core::state::State;
use vipd_core::steward::{About, Came, Facts, Purpose, Steward};
use vipd_core::time::Instant;
use vipd_datapath::{Datapath, Services, Wanted};
use vipd_raft::beat::{Beats, Event, View, now};
use vipd_raft::{ProposeError, RaftNode, wall_clock};

use super::health::Down;
use super::probing::Probing;
use super::services::Balanced;
use super::shared::Shared;
use super::signals::{asked_to_end, catch_up, failure};
use super::{Ask, Ended, RELOAD};
use super::{lateness, wanted};
use crate::config::Checked;

/// Between looks at what the kernel really has.
const AUDIT: Duration = Duration::from_secs(1);

/// How often a notice is told that the cluster does not take, and after how long: for a minute or more.
const TELL_TRIES: u32 = 60;
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// How long to try to pass on the lead before a reload.
const LEAD: Duration = Duration::from_secs(1);
/// How long to ask for a longer lease before a reload.
const STRETCH: Duration = Duration::from_millis(500);

struct Finished {
    purpose: Purpose,
    result: Result<Outcome, ProposeError>,
}

/// What the loop has to do with the tasks beside it.
pub(super) struct Beside {
    /// The services that the datapath was last told.
    pub(super) balances: watch::Sender<Arc<Services>>,
    /// Backends that are to get no new connections.
    pub(super) down: watch::Receiver<Arc<Down>>,
    /// Asks the link who has an address.
    pub(super) probing: Probing,
}

/// Everything the loop owns.
pub(super) struct Driver<D> {
    config: Arc<Checked>,
    raft: RaftNode,
    beats: Beats,
    datapath: D,
    shared: Arc<Shared>,
    steward: Steward,
    interfaces: Vec<Interface>,
    names: BTreeSet<String>,
    view: View,
    /// What it shall balance.
    balanced: Balanced,
    beside: Beside,
    /// What the datapath last was told, once it was told anything.
    wanted: Option<Wanted>,
    finished: (
        mpsc::UnboundedSender<Finished>,
        mpsc::UnboundedReceiver<Finished>,
    ),
}

impl<D: Datapath> Driver<D> {
    pub(super) fn new(
        config: Arc<Checked>,
        raft: RaftNode,
        beats: Beats,
        datapath: D,
        shared: Arc<Shared>,
        inherited: Instant,
        beside: Beside,
    ) -> Self {
        let about = About {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            labels: config.labels.clone(),
        };
        let mut steward = Steward::new(raft.id(), config.timing, about, now(), inherited);
        steward.set_rule(config.in_use);
        Self {
            steward,
            beside,
            config,
            raft,
            beats,
            datapath,
            shared,
            interfaces: Vec::new(),
            names: BTreeSet::new(),
            view: View::default(),
            balanced: Balanced::default(),
            wanted: None,
            finished: mpsc::unbounded_channel(),
        }
    }

    /// Runs until `stop` says so and the addresses are given back, or until the store fails.
    pub(super) async fn run(
        mut self,
        mut events: mpsc::UnboundedReceiver<Event>,
        mut links: watch::Receiver<u64>,
        mut asked: watch::Receiver<Ask>,
    ) -> anyhow::Result<Ended> {
        let mut applied = self.raft.applied();
        let mut leader = self.raft.leader();
        let mut failed = self.raft.failed();
        let mut caught_up = catch_up(self.raft.clone());
        let mut timer = tokio::time::interval(AUDIT);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.look_at_interfaces().await;
        loop {
            let next_look = until(self.steward.next_look());
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Some(event) => self.on_beat_event(event),
                    None => anyhow::bail!("the beat thread has ended: the lease cannot be kept; see the log before this"),
                },
                Some(finished) = self.finished.1.recv() => self.on_finished(finished),
                Ok(()) = caught_up.changed() => self.steward.caught_up(),
                why = failure(&mut failed) => anyhow::bail!("{why}"),
                ask = asked_to_end(&mut asked), if !self.steward.stopping() => match ask {
                    Ask::Nothing => {}
                    Ask::Stop => {
                        info!("stopping: giving the VIPs back");
                        self.steward.stop(now());
                    }
                    Ask::Reload => return self.leave_for_a_moment().await,
                },
                Ok(()) = links.changed() => self.look_at_interfaces().await,
                Ok(()) = self.beside.down.changed() => self.heed_the_down(),
                Some(answers) = self.beside.probing.answers() => self.steward.answered(now(), &answers),
                () = next_look => {}
                _ = timer.tick() => self.audit().await,
                // Last: many entries at a time must not starve the rest; all of them are looked at together anyway.
                _ = applied.changed() => {}
                _ = leader.changed() => {}
            }
            // Whatever else is there already is looked at together.
            while let Ok(event) = events.try_recv() {
                self.on_beat_event(event);
            }
            applied.borrow_and_update();
            self.look().await;
            if self.with_facts(|steward, facts, _| steward.may_go(facts)) {
                return self.leave().await;
            }
        }
    }

    fn heed_the_down(&mut self) {
        let down = self.beside.down.borrow_and_update().clone();
        self.balanced
            .heed(&self.raft.state().read(), self.raft.id(), &down);
    }

    /// Lets `ask` ask the steward something by what there is to see now. The state is locked meanwhile.
    fn with_facts<R>(&mut self, ask: impl FnOnce(&mut Steward, &Facts<'_>, &State) -> R) -> R {
        let shared = self.raft.state();
        // Before the clock is read: waiting for the lock must shorten no time that is counted from an entry.
        let state = shared.read();
        let facts = Facts {
            now: now(),
            wall: wall_clock(),
            leader: *self.raft.leader().borrow(),
            vote: self.raft.vote_mark(),
            answered: self.raft.majority_answers() || self.beats.stats().answered(),
            counted: self.beats.stats().membership(),
            interfaces: &self.interfaces,
        };
        ask(&mut self.steward, &facts, &state)
    }

    fn on_beat_event(&mut self, event: Event) {
        match event {
            Event::Support { held: true } => info!("supported by a majority"),
            Event::Support { held: false } => warn!("support lost: silent until it is regained"),
            Event::Certified { voter, node, epoch } => {
                debug!(%voter, %node, %epoch, "lease certified to be over");
            }
            Event::Fencing { node, epoch } => {
                warn!(%node, %epoch, "nothing heard: lease fenced");
                self.write_fence(node, epoch);
                self.raft.give_up(node);
            }
            Event::OwnLeaseFenced { epoch } => debug!(%epoch, "own lease fenced by a voter"),
            Event::Frozen { frozen } => {
                self.shared.set_frozen(frozen);
                if frozen {
                    error!(
                        "no majority, and answering all the same (lease.on_quorum_loss = \"freeze\"): if the majority is \
                         alive elsewhere, two nodes answer. Next: bring a majority of the voters back"
                    );
                } else {
                    info!("no longer answering without a majority");
                }
            }
            Event::OtherLease { node, lease } => {
                let (theirs, ours) = (lease.as_millis(), self.config.timing.lease.as_millis());
                warn!(%node, "its lease is {theirs} ms, ours {ours} ms: set [lease] alike on all nodes");
            }
        }
        self.with_facts(|steward, facts, state| steward.on_event(facts, state, event));
    }

    /// A fence counts once it is on the disk; a disk that fails is the end of this node, not of the promise.
    fn write_fence(&self, node: NodeId, epoch: Epoch) {
        let (raft, shared) = (self.raft.clone(), self.shared.clone());
        let on_disk = self.beats.on_disk();
        tokio::spawn(async move {
            match raft.persist_fence(node, epoch).await {
                Ok(()) => on_disk.tell(node, epoch),
                Err(error) => {
                    error!(%node, %epoch, "a fence cannot be written: {error}");
                    shared.set_fault(Some(format!("a fence cannot be written: {error}")));
                }
            }
        });
    }

    fn on_finished(&mut self, finished: Finished) {
        let Finished { purpose, result } = finished;
        let came = match &result {
            Ok(outcome) => Came::of(outcome),
            Err(_) => Came::Nothing,
        };
        self.steward.finished(now(), purpose, came);
        match result {
            Ok(Ok(_)) => debug!(?purpose, "done"),
            // Overtaken by a newer lease: what it was for has happened.
            Ok(Err(Rejection::StaleLease { .. } | Rejection::VotersChanged { .. })) => {}
            Ok(Err(rejection)) => warn!("{purpose:?}: {rejection}"),
            Err(error) => debug!("{purpose:?}: {error}; will be tried again"),
        }
    }

    async fn look_at_interfaces(&mut self) {
        match self.datapath.interfaces().await {
            Ok(found) => {
                self.interfaces = wanted::reported(&found, |name| self.config.announces_on(name));
                // Programs sit on all of them: Linux answers on any interface for an address on another.
                self.names = found.into_iter().map(|interface| interface.name).collect();
            }
            Err(error) => warn!("interfaces cannot be listed: {error}"),
        }
    }

    fn look_at_the_clock(&self) {
        let stats = self.beats.stats();
        let late = Duration::from_micros(stats.late_p9999_us());
        let lease = Duration::from_nanos(self.config.timing.lease.0);
        let late = lateness::complaint(late, lease, stats.realtime());
        if self.shared.set_late(late.clone()) {
            match late {
                Some(late) => warn!("{late}"),
                None => info!("beats are in time again"),
            }
        }
    }

    async fn audit(&mut self) {
        self.look_at_the_clock();
        let stood_still = self.beats.stats().standstills();
        let told = self.shared.notices().standstills(now(), stood_still);
        told.into_iter()
            .for_each(|notice| self.tell_cluster(notice));
        self.look_at_interfaces().await;
        if let Some(wanted) = self.wanted.take() {
            self.tell_datapath(wanted).await;
        }
        self.observe().await;
    }

    async fn observe(&mut self) {
        match self.datapath.observe().await {
            Ok(observed) => {
                let told = self.shared.notices().observe(now(), &observed);
                told.into_iter()
                    .for_each(|notice| self.tell_cluster(notice));
                self.shared.set_observed(observed);
            }
            Err(error) => warn!("the datapath cannot be observed: {error}"),
        }
    }

    /// Makes an event of it for everybody, as soon as the cluster can be told: what is worth a notice is often what keeps
    /// it from being told. The log of this node has it in any case.
    fn tell_cluster(&self, notice: Notice) {
        warn!("{notice}");
        let (raft, node) = (self.raft.clone(), self.raft.id());
        tokio::spawn(async move {
            for _ in 0..TELL_TRIES {
                let notice = notice.clone();
                match raft.propose(Command::Notice { node, notice }).await {
                    Ok(_) => return,
                    Err(error) => debug!("a notice was not told to the cluster: {error}"),
                }
                sleep(TELL_AGAIN).await;
            }
        });
    }

    /// Carries out, in its order, what is to be done now.
    async fn look(&mut self) {
        let decision = self.with_facts(|steward, facts, state| steward.look(facts, state));
        let told = decision.gates.is_some();
        let services = self
            .balanced
            .follow(&self.raft.state().read(), self.raft.id());
        if let Some(gates) = decision.gates {
            let wanted = wanted::wanted(gates, &self.names, services);
            self.tell_datapath(wanted).await;
        } else if let Some(told) = &self.wanted
            && (told.interfaces != self.names || !Arc::ptr_eq(&told.services, &services))
        {
            let wanted = Wanted {
                interfaces: self.names.clone(),
                services,
                ..told.clone()
            };
            self.tell_datapath(wanted).await;
        }
        let peers = wanted::peers(&self.raft.state().read(), &self.raft.words());
        let view = View {
            cluster: decision.view,
            peers,
        };
        if view != self.view {
            self.view = view.clone();
            self.beats.set_view(view);
        }
        if !decision.questions.is_empty() {
            let state = self.raft.state();
            self.beside
                .probing
                .ask(decision.questions, &self.interfaces, &state.read());
        }
        for (purpose, command) in decision.proposals {
            self.propose(purpose, command);
        }
        self.raft.keep_quiet(decision.quiet);
        if decision.elect {
            info!("the leader is gone: standing for election");
            let raft = self.raft.clone();
            tokio::spawn(async move { raft.elect().await });
        }
        if told {
            self.observe().await;
        }
    }

    async fn tell_datapath(&mut self, wanted: Wanted) {
        match self.datapath.apply(&wanted).await {
            Ok(()) => self.shared.set_fault(None),
            Err(error) => {
                error!("datapath: {error}");
                self.shared.set_fault(Some(error.to_string()));
            }
        }
        self.beside.balances.send_if_modified(|known| {
            let news = !Arc::ptr_eq(known, &wanted.services);
            known.clone_from(&wanted.services);
            news
        });
        // Kept even so, for the timer to try again; an address that failed is shut in the kernel.
        self.wanted = Some(wanted);
    }

    fn propose(&self, purpose: Purpose, command: Command) {
        debug!(?purpose, "proposing");
        let (raft, done) = (self.raft.clone(), self.finished.0.clone());
        tokio::spawn(async move {
            let result = raft.propose(command).await;
            let _going_down = done.send(Finished { purpose, result });
        });
    }

    /// Leaves everything as it is, with the longest lease that is to be had, for the next life of this node.
    async fn leave_for_a_moment(self) -> anyhow::Result<Ended> {
        info!("reloading: the VIPs stay here");
        if timeout(LEAD, self.pass_on_the_lead()).await.is_err() {
            debug!("the lead is not passed on in time: the others elect one");
        }
        self.beats.stretch();
        let stats = self.beats.stats();
        let stretched = async {
            while stats.deadline_ns() < now().0 + RELOAD.as_nanos() as u64 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        if timeout(STRETCH, stretched).await.is_err() {
            warn!(
                "no majority grants a longer lease: if this node is not back in time, its VIPs move"
            );
        }
        self.beats.leave();
        Ok(Ended::Reload)
    }

    async fn pass_on_the_lead(&self) {
        let leads = *self.raft.leader().borrow() == Some(self.raft.id());
        if leads
            && self.view.peers.len() > 1
            && let Err(error) = self.raft.transfer_leader(None).await
        {
            debug!("leadership not passed on: {error}");
        }
    }

    async fn leave(mut self) -> anyhow::Result<Ended> {
        let last = wanted::left_behind(self.wanted.as_ref(), &self.names);
        if let Err(error) = self.datapath.apply(&last).await {
            warn!("datapath: {error}; what is left is fenced by the deadline");
        }
        self.pass_on_the_lead().await;
        drop(self.beats);
        Ok(Ended::Stopped)
    }
}

/// Sleeps until an instant of the local clock; for ever without one.
async fn until(instant: Option<Instant>) {
    match instant {
        Some(at) => sleep(Duration::from_nanos(at.since(now()).0)).await,
        None => std::future::pending().await,
    }
}
