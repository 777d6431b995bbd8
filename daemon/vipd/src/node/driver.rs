//! The daemon's one loop: looks at the whole state whenever anything happened, and makes it so.
//!
//! ```text
//!   applied index ──┐
//!   beat events ────┤             ┌─> beats.set_view        what to beat for
//!   interfaces ─────┼─> refresh ──┼─> datapath.apply        what to answer for
//!   finished ───────┤             └─> propose               NodeUp, NodeReport, Released, NodeDown, NodeRetire
//!   timer, stop ────┘
//! ```
//! Nothing here is a delta: a missed event heals with the next one. Proposals run beside the loop; each kind is
//! under way at most once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, error, info, warn};
use vipd_core::command::{Command, Outcome};
use vipd_core::id::{Epoch, NodeId};
use vipd_core::lease::Takeover;
use vipd_core::name::Labels;
use vipd_core::node::{Interface, Lease};
use vipd_core::rejection::Rejection;
use vipd_core::state::State;
use vipd_datapath::{Datapath, Gate, Wanted};
use vipd_raft::beat::{Beats, Event, View};
use vipd_raft::{ProposeError, RaftNode};

use super::election::Election;
use super::shared::Shared;
use super::signals::{asked_to_stop, catch_up, failure};
use super::wanted;
use crate::config::Checked;

/// Between looks at what the kernel really has.
const AUDIT: Duration = Duration::from_secs(1);
/// How long a stopping node waits for others to take its addresses.
const LET_GO: Duration = Duration::from_secs(5);
/// The same while nobody leads, so that nobody can be told.
const LET_GO_ALONE: Duration = Duration::from_secs(1);
/// After this a deadline that an earlier life of this daemon left in the kernel is over: the longest lease there is.
const EARLIER_LIFE: Duration = Duration::from_secs(2);
/// Before a failed proposal is made again.
const RETRY: Duration = Duration::from_millis(100);

/// What a proposal was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    Up,
    Report,
    Release,
    Retire,
    Down(NodeId, Epoch),
}

struct Finished {
    purpose: Purpose,
    result: Result<Outcome, ProposeError>,
}

/// Everything the loop owns.
pub(super) struct Driver<D> {
    me: NodeId,
    config: Arc<Checked>,
    raft: RaftNode,
    beats: Beats,
    datapath: D,
    shared: Arc<Shared>,
    takeover: Takeover,
    election: Election,
    interfaces: Vec<Interface>,
    names: BTreeSet<String>,
    view: View,
    /// What the datapath last was told, once it was told anything.
    wanted: Option<Wanted>,
    supported: bool,
    /// This node's own lease is fenced by some voter: renew it.
    fenced: Option<Epoch>,
    /// Whether this node knows everything that was committed before it started. Until then it may not announce: its
    /// own log, or the voter that an agent follows, may lack the entry that took an address away from it.
    caught_up: watch::Receiver<bool>,
    /// Addresses that this node has said, or is saying, to have given back, with their tokens: never opened
    /// again under the same.
    given_back: BTreeMap<IpAddr, Epoch>,
    under_way: BTreeSet<Purpose>,
    finished: (
        mpsc::UnboundedSender<Finished>,
        mpsc::UnboundedReceiver<Finished>,
    ),
    began: Instant,
    /// When it must be gone, once it was asked to stop.
    stop_by: Option<Instant>,
    retired: bool,
}

impl<D: Datapath> Driver<D> {
    pub(super) fn new(
        config: Arc<Checked>,
        raft: RaftNode,
        beats: Beats,
        datapath: D,
        shared: Arc<Shared>,
    ) -> Self {
        let caught_up = catch_up(raft.clone());
        Self {
            me: raft.id(),
            election: Election::new(raft.clone(), config.timing),
            config,
            raft,
            beats,
            datapath,
            shared,
            takeover: Takeover::default(),
            interfaces: Vec::new(),
            names: BTreeSet::new(),
            view: View::default(),
            wanted: None,
            supported: false,
            fenced: None,
            caught_up,
            given_back: BTreeMap::new(),
            under_way: BTreeSet::new(),
            finished: mpsc::unbounded_channel(),
            began: Instant::now(),
            stop_by: None,
            retired: false,
        }
    }

    /// Runs until `stop` says so and the addresses are given back, or until the store fails.
    pub(super) async fn run(
        mut self,
        mut events: mpsc::UnboundedReceiver<Event>,
        mut links: watch::Receiver<u64>,
        mut stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let mut applied = self.raft.applied();
        let mut leader = self.raft.leader();
        let mut failed = self.raft.failed();
        let mut caught_up = self.caught_up.clone();
        let mut timer = tokio::time::interval(AUDIT);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.look_at_interfaces().await;
        loop {
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Some(event) => self.on_beat_event(event),
                    None => anyhow::bail!("the beat thread has ended: the lease cannot be kept; see the log before this"),
                },
                Some(finished) = self.finished.1.recv() => self.on_finished(finished),
                _ = applied.changed() => {}
                _ = leader.changed() => {}
                Ok(()) = caught_up.changed() => {}
                why = failure(&mut failed) => anyhow::bail!("{why}"),
                _ = links.changed() => self.look_at_interfaces().await,
                _ = timer.tick() => self.audit().await,
                () = asked_to_stop(&mut stop), if self.stop_by.is_none() => {
                    info!("stopping: giving the VIPs back");
                    self.stop_by = Some(Instant::now() + LET_GO);
                }
            }
            // Whatever else is there already is looked at together.
            while let Ok(event) = events.try_recv() {
                self.on_beat_event(event);
            }
            applied.borrow_and_update();
            self.refresh().await;
            if self.may_go() {
                return self.leave().await;
            }
        }
    }

    fn on_beat_event(&mut self, event: Event) {
        match event {
            Event::Support { held } => {
                self.supported = held;
                if held {
                    info!("supported by a majority")
                } else {
                    warn!("support lost: silent until it is regained")
                }
            }
            Event::OwnLeaseFenced { epoch } => self.fenced = Some(epoch),
            Event::Certified { voter, node, epoch } => {
                debug!(%voter, %node, %epoch, "lease certified to be over");
                self.takeover.on_certificate(voter, node, epoch);
            }
            Event::Fencing { node, epoch } => {
                warn!(%node, %epoch, "nothing heard: lease fenced");
                self.election.on_fencing(node);
                self.write_fence(node, epoch);
            }
        }
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
        self.under_way.remove(&purpose);
        match (purpose, result) {
            (Purpose::Retire, Ok(_)) => self.retired = true,
            (_, Ok(Ok(_))) => {}
            // Overtaken by a newer lease: what it was for has happened.
            (_, Ok(Err(Rejection::StaleLease { .. } | Rejection::VotersChanged { .. }))) => {}
            (_, Ok(Err(rejection))) => warn!("{purpose:?}: {rejection}"),
            (_, Err(error)) => debug!("{purpose:?}: {error}; will be tried again"),
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

    async fn audit(&mut self) {
        self.look_at_interfaces().await;
        if let Some(wanted) = self.wanted.clone() {
            self.tell_datapath(wanted).await;
        }
        self.observe().await;
    }

    async fn observe(&mut self) {
        match self.datapath.observe().await {
            Ok(observed) => self.shared.set_observed(observed),
            Err(error) => warn!("the datapath cannot be observed: {error}"),
        }
    }

    async fn refresh(&mut self) {
        let shared_state = self.raft.state();
        let (caught_up, view, mut wanted, vacating, due, membership, own) = {
            let state = &*shared_state.read();
            let caught_up = *self.caught_up.borrow();
            self.takeover.forget_settled(state);
            self.given_back
                .retain(|address, epoch| wanted::held_under(state, self.me, *address, *epoch));
            (
                caught_up,
                wanted::view(state, self.me, caught_up, &mut self.shared.heard()),
                wanted::wanted(state, self.me, self.supported, &self.names),
                wanted::vacating(state, self.me),
                self.takeover.due(state),
                state.voters().map_or(0, |(index, _)| index),
                self.own(state),
            )
        };
        for address in self.given_back.keys() {
            if let Some(entry) = wanted.addresses.get_mut(address) {
                entry.gate = Gate::Shut;
            }
        }
        // What an earlier life of this daemon left open stays open until it is known to be wrong: a restart
        // within the lease loses nothing.
        let known = caught_up && (self.supported || self.began.elapsed() > 4 * self.lease());
        let changed = known && self.wanted.as_ref() != Some(&wanted);
        if changed {
            self.tell_datapath(wanted).await;
        }
        // Only then a new lease may gather support: it must not open what was lost with the last one.
        if view != self.view {
            self.view = view.clone();
            self.beats.set_view(view);
        }
        if self.leads() {
            for (node, epoch) in due {
                self.propose(
                    Purpose::Down(node, epoch),
                    Command::NodeDown {
                        node,
                        epoch,
                        membership,
                    },
                );
            }
        }
        if let (true, Some(own)) = (caught_up, own) {
            self.keep_own_record(&own, vacating);
        }
        if changed {
            self.observe().await;
        }
    }

    async fn tell_datapath(&mut self, wanted: Wanted) {
        match self.datapath.apply(&wanted).await {
            Ok(()) => {
                self.shared.set_fault(None);
                self.wanted = Some(wanted);
            }
            Err(error) => {
                error!("datapath: {error}");
                self.shared.set_fault(Some(error.to_string()));
                // Kept, so that the timer tries again; an address that failed is shut in the kernel.
                self.wanted = Some(wanted);
            }
        }
    }

    fn own(&self, state: &State) -> Option<Own> {
        let node = state.node(self.me)?;
        // What the beat thread counts by; and in a node's first seconds, what its earlier life did: the kernel may
        // still hold the deadline that those voters granted.
        let young = self.began.elapsed() < EARLIER_LIFE;
        let counted = if young {
            0
        } else {
            self.beats.stats().membership()
        };
        let membership = node.membership.max(counted);
        Some(Own {
            lease: node.lease,
            epoch: node.epoch,
            retiring: node.retiring,
            outdated: node.interfaces != self.interfaces || node.membership < membership,
            membership,
            holds: state.held_by(self.me).next().is_some(),
            stuck: state
                .held_by(self.me)
                .all(|(address, _)| state.runner_up(address).is_none()),
        })
    }

    /// Says to the cluster what it should know of this node and does not.
    fn keep_own_record(&mut self, own: &Own, vacating: Vec<(IpAddr, Epoch)>) {
        if self.stop_by.is_some() {
            if own.lease != Lease::Up || !own.holds || (self.retired && own.stuck) {
                self.stop_by = Some(Instant::now());
            } else if !self.retired {
                self.propose(
                    Purpose::Retire,
                    Command::NodeRetire {
                        node: self.me,
                        epoch: own.epoch,
                    },
                );
            }
        } else if own.lease != Lease::Up || own.retiring || self.fenced == Some(own.epoch) {
            let version = env!("CARGO_PKG_VERSION").to_owned();
            let labels: Labels = self.config.labels.clone();
            let interfaces = self.interfaces.clone();
            self.propose(
                Purpose::Up,
                Command::NodeUp {
                    node: self.me,
                    version,
                    interfaces,
                    labels,
                },
            );
        } else if own.outdated {
            let (interfaces, membership) = (self.interfaces.clone(), own.membership);
            self.propose(
                Purpose::Report,
                Command::NodeReport {
                    node: self.me,
                    interfaces,
                    membership,
                },
            );
        }
        // Only what the datapath has been told to shut may be given back.
        let shut = |address: &IpAddr| {
            self.wanted.as_ref().is_some_and(|wanted| {
                wanted
                    .addresses
                    .get(address)
                    .is_none_or(|wanted| wanted.gate == Gate::Shut)
            })
        };
        let addresses: Vec<_> = vacating
            .into_iter()
            .filter(|(address, _)| shut(address))
            .collect();
        if !addresses.is_empty() {
            self.given_back.extend(addresses.iter().copied());
            self.propose(
                Purpose::Release,
                Command::Released {
                    node: self.me,
                    addresses,
                },
            );
        }
    }

    fn propose(&mut self, purpose: Purpose, command: Command) {
        if !self.under_way.insert(purpose) {
            return;
        }
        debug!(?purpose, "proposing");
        let (raft, done) = (self.raft.clone(), self.finished.0.clone());
        tokio::spawn(async move {
            let result = raft.propose(command).await;
            if result.is_err() {
                tokio::time::sleep(RETRY).await;
            }
            let _going_down = done.send(Finished { purpose, result });
        });
    }

    fn may_go(&self) -> bool {
        let alone = self.raft.leader().borrow().is_none();
        let spared = if alone {
            LET_GO - LET_GO_ALONE
        } else {
            Duration::ZERO
        };
        self.stop_by.is_some_and(|by| Instant::now() + spared >= by)
    }

    async fn leave(mut self) -> anyhow::Result<()> {
        let nothing = Wanted {
            interfaces: self.names.clone(),
            ..Wanted::default()
        };
        if let Err(error) = self.datapath.apply(&nothing).await {
            warn!("datapath: {error}; what is left is fenced by the deadline");
        }
        if self.leads()
            && self.view.peers.len() > 1
            && let Err(error) = self.raft.transfer_leader(None).await
        {
            debug!("leadership not passed on: {error}");
        }
        drop(self.beats);
        Ok(())
    }

    fn leads(&self) -> bool {
        *self.raft.leader().borrow() == Some(self.me)
    }

    fn lease(&self) -> Duration {
        Duration::from_nanos(self.config.timing.lease.0)
    }
}

/// What the cluster knows of this node.
struct Own {
    lease: Lease,
    epoch: Epoch,
    /// An earlier life of it was shutting down, and its lease has outlived that.
    retiring: bool,
    /// Its interfaces or its membership have changed since it reported.
    outdated: bool,
    membership: u64,
    holds: bool,
    /// Nobody else can take what it holds.
    stuck: bool,
}
