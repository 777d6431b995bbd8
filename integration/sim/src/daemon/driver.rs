//! The daemon's loop: executes [`Steward`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::AsyncRuntime;
use vipd_core::command::Command;
use vipd_core::id::{Epoch, NodeId};
use vipd_core::lease::{Event, View};
use vipd_core::name::Labels;
use vipd_core::node::Interface;
use vipd_core::proof::{Answer, Question};
use vipd_core::state::State;
use vipd_core::steward::{About, Came, Decision, Duty, Facts, Gates, Purpose, Steward};
use vipd_core::time::{Instant, Millis, Span};

use super::{Process, Told, heartbeats};
use crate::host::host_at;
use crate::lock;
use crate::mutant::Mutant;
use crate::net::HostId;
use crate::outsider;
use crate::raft::{Request, Response};
use crate::runtime::{NodeRuntime, sleep, spawn};

/// Between looks at what the kernel really has.
const AUDIT: Duration = Duration::from_secs(1);
/// How long the datapath may take: thousands of addresses on a busy host.
const SLOW_DATAPATH: Duration = Duration::from_millis(200);
/// How long the link is asked for.
const ASKING: Duration = Duration::from_millis(200);
/// Before a failed catching up is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// How long to try to pass on the lead before a reload.
const LEAD: Duration = Duration::from_secs(1);
/// How long to ask for a longer lease before a reload.
const STRETCH: Duration = Duration::from_millis(500);
/// What must be left of it.
const RELOAD: Duration = Duration::from_millis(1500);

struct Driver {
    process: Arc<Process>,
    steward: Steward,
    interfaces: Vec<Interface>,
    told: Option<(View, BTreeMap<NodeId, HostId>)>,
    gates: Option<Gates>,
    reload: bool,
}

/// Runs until the process is to end, and has given its addresses back.
pub(super) async fn run(process: Arc<Process>) {
    let about = About {
        version: "sim".into(),
        labels: Labels::new(),
    };
    let now = Instant(process.host.clock.now());
    let mut driver = Driver {
        steward: Steward::new(
            process.me(),
            process.timing,
            about,
            now,
            Instant(process.host.kernel.deadline()),
        ),
        interfaces: process.host.interfaces(),
        process: process.clone(),
        told: None,
        gates: None,
        reload: false,
    };
    spawn(catch_up(process.clone()));
    let mut audit = now;
    loop {
        driver.take_inbox();
        if driver.reload {
            return driver.leave_for_a_moment().await;
        }
        if driver.now() >= audit {
            audit = driver.now().after(Span::millis(1000));
            driver.interfaces = process.host.interfaces();
            if let Some(gates) = &driver.gates {
                process.host.kernel.apply(gates).await;
            }
        }
        driver.look().await;
        if driver.with_facts(|steward, facts, _| steward.may_go(facts)) {
            return driver.leave().await;
        }
        driver.wait().await;
    }
}

/// Until a majority has confirmed that this node knows all that was committed when it started.
async fn catch_up(process: Arc<Process>) {
    if process.world.mutant != Mutant::NoStartRead {
        while process.linearizable().await.is_err() {
            sleep(RETRY).await;
        }
    }
    lock(&process.inbox).caught_up = true;
    process.wake.notify_one();
}

impl Driver {
    fn now(&self) -> Instant {
        Instant(self.process.host.clock.now())
    }

    async fn wait(&self) {
        let next = self.steward.next_look();
        let span = next.map_or(AUDIT, |at| {
            Duration::from_nanos(at.since(self.now()).0).min(AUDIT)
        });
        tokio::select! {
            biased;
            () = self.process.wake.notified() => {}
            () = sleep(span) => {}
        }
    }

    fn with_facts<R>(&mut self, ask: impl FnOnce(&mut Steward, &Facts<'_>, &State) -> R) -> R {
        let replica = self.process.shared.read();
        let newest = || replica.state.voters().map_or(0, |(index, _)| index);
        let facts = Facts {
            now: Instant(self.process.host.clock.now()),
            wall: Millis(self.process.world.wall_clock(self.process.host.id)),
            leader: self.process.leader(),
            vote: self.process.vote(),
            answered: self.process.majority_answers()
                || self.process.beats_answered.load(Ordering::Relaxed),
            counted: match self.process.world.mutant {
                Mutant::ReportsVotersEarly => newest(),
                _ => self.process.counted.load(Ordering::Relaxed),
            },
            interfaces: &self.interfaces,
        };
        ask(&mut self.steward, &facts, &replica.state)
    }

    fn take_inbox(&mut self) {
        let inbox = std::mem::take(&mut *lock(&self.process.inbox));
        for event in inbox.events {
            if let Event::Fencing { node, epoch } = event {
                self.write_fence(node, epoch);
                heartbeats::give_up(&self.process, node);
            }
            self.with_facts(|steward, facts, state| steward.on_event(facts, state, event));
            if let (Event::Certified { node, epoch, .. }, Mutant::OneCertificate) =
                (event, self.process.world.mutant)
            {
                self.with_facts(|steward, facts, state| {
                    for voter in state
                        .voters()
                        .map(|(_, sets)| sets.voters())
                        .into_iter()
                        .flatten()
                    {
                        steward.on_event(facts, state, Event::Certified { voter, node, epoch });
                    }
                });
            }
        }
        let now = self.now();
        for (purpose, came) in inbox.finished {
            self.steward.finished(now, purpose, came);
        }
        if !inbox.answers.is_empty() {
            self.steward.answered(now, &inbox.answers);
        }
        if inbox.caught_up {
            self.steward.caught_up();
        }
        self.reload |= inbox.reload;
        if inbox.stop {
            self.steward.stop(now);
        }
    }

    fn write_fence(&self, node: NodeId, epoch: Epoch) {
        let process = self.process.clone();
        let Process { host, .. } = &*process;
        let (who, me) = (host.id, process.me());
        process
            .world
            .trace
            .line(format_args!("{who} n{me}: fences n{node} epoch {epoch}"));
        spawn(async move {
            let Some(voter) = process.voter.get() else {
                return;
            };
            if voter.log.persist_fence(node, epoch).await.is_ok() {
                lock(&process.told).push_back(Told::FenceOnDisk(node, epoch));
                process.beat_wake.notify_one();
            }
        });
    }

    async fn look(&mut self) {
        let decision = self.with_facts(|steward, facts, state| steward.look(facts, state));
        let Decision {
            gates,
            view,
            questions,
            proposals,
            elect,
            quiet,
        } = decision;
        let mutant = self.process.world.mutant;
        let mut proposals = proposals;
        if mutant == Mutant::BeatsBeforeDatapath && gates.is_some() {
            self.tell_beats(view.clone());
            sleep(SLOW_DATAPATH).await;
        }
        let releases = proposals.iter().any(|(it, _)| *it == Purpose::Release);
        if mutant == Mutant::ReleaseBeforeShut && releases {
            self.propose(std::mem::take(&mut proposals));
            sleep(SLOW_DATAPATH).await;
        }
        if let Some(gates) = gates {
            self.process.host.kernel.apply(&gates).await;
            self.gates = Some(gates);
        }
        if mutant == Mutant::TakesTooSoon
            && let Some(gates) = self.take_at_once()
        {
            self.process.host.kernel.apply(&gates).await;
        }
        self.tell_beats(view);
        self.ask_the_link(questions);
        self.propose(proposals);
        self.process.keep_quiet(quiet);
        if elect && let Some(voter) = self.process.voter.get() {
            let process = &self.process;
            process.world.trace.line(format_args!(
                "{} n{}: stands for election",
                process.host.id,
                process.me()
            ));
            let raft = voter.raft.clone();
            spawn(async move { drop(raft.trigger().elect(true).await) });
        }
    }

    /// A planted fault: what is to come to this node it takes from the holder, however lately it had it itself.
    fn take_at_once(&self) -> Option<Gates> {
        let mut gates = self.gates.clone()?;
        let me = self.process.me();
        let replica = self.process.shared.read();
        for (address, stance) in &mut gates {
            let rests = matches!(stance.duty, Duty::Shut | Duty::Hand { leased: false, .. });
            let of = replica.state.allocations().get(address);
            let comes = of.filter(|of| rests && of.vacating.is_some() && of.next == Some(me));
            let from = comes.and_then(|of| replica.state.node(of.holder?));
            if let Some(from) = from.and_then(|node| node.mac_of(&stance.interface)) {
                stance.duty = Duty::Take { from };
            }
        }
        Some(gates)
    }

    /// Somebody outside has an address if he has it when the asking begins or when it ends.
    fn ask_the_link(&self, questions: Vec<Question>) {
        if questions.is_empty() {
            return;
        }
        let process = self.process.clone();
        spawn(async move {
            let had = |it: &Question| process.world.outsider.has(it.address);
            let before: Vec<bool> = questions.iter().map(had).collect();
            sleep(ASKING + Duration::from_nanos(process.world.lateness())).await;
            let up = process.host.carrier.load(Ordering::Relaxed);
            let answers = questions.iter().zip(before).map(|(question, before)| {
                let answer = match (up, before || had(question)) {
                    (false, _) => Answer::Unasked,
                    (true, false) => Answer::Free,
                    (true, true) => Answer::Taken(outsider::MAC),
                };
                (question.address, answer)
            });
            let answers: Vec<_> = answers.collect();
            lock(&process.inbox).answers.extend(answers);
            process.wake.notify_one();
        });
    }

    fn propose(&self, proposals: Vec<(Purpose, Command)>) {
        for (purpose, command) in proposals {
            let process = self.process.clone();
            let (host, me) = (process.host.id, process.me());
            let line = format_args!("{host} n{me}: proposes {purpose:?}");
            process.world.trace.line(line);
            spawn(async move {
                let came = match process.propose(command).await {
                    Ok(outcome) => Came::of(&outcome),
                    Err(_) => Came::Nothing,
                };
                lock(&process.inbox).finished.push((purpose, came));
                process.wake.notify_one();
            });
        }
    }

    fn tell_beats(&mut self, view: View) {
        let peers: BTreeMap<NodeId, HostId> = {
            let replica = self.process.shared.read();
            let nodes = replica.state.nodes().values();
            nodes.map(|node| (node.id, host_at(node.peer))).collect()
        };
        if self
            .told
            .as_ref()
            .is_none_or(|told| told.0 != view || told.1 != peers)
        {
            lock(&self.process.told).push_back(Told::View(view.clone(), peers.clone()));
            self.process.beat_wake.notify_one();
            self.told = Some((view, peers));
        }
    }

    /// Leaves everything as it is, with the longest lease that is to be had, for the next life of this node.
    async fn leave_for_a_moment(&self) {
        let process = &self.process;
        if process.leader() == Some(process.me()) {
            let hand = process.answer(process.me(), Request::Handover);
            drop(NodeRuntime::timeout(LEAD, hand).await);
        }
        process.stretch();
        let reload = u64::try_from(RELOAD.as_nanos()).unwrap_or(u64::MAX);
        let stretched = async {
            while process.deadline() < self.now().0 + reload {
                sleep(Duration::from_millis(1)).await;
            }
        };
        drop(NodeRuntime::timeout(STRETCH, stretched).await);
        // Requests and Raft are given a moment to end.
        let pause = process.world.dice(|dice| dice.between(5, 600));
        let line = format_args!("{} n{}: reloads", process.host.id, process.me());
        process.world.trace.line(line);
        process.over(pause * 1_000_000);
    }

    async fn leave(&mut self) {
        self.process.host.kernel.apply(&Gates::new()).await;
        if self.process.leader() == Some(self.process.me()) {
            let handed = self
                .process
                .answer(self.process.me(), Request::Handover)
                .await;
            if let Response::Failed(why) = handed {
                self.process.world.trace.line(format_args!(
                    "n{}: keeps the lead: {why}",
                    self.process.me()
                ));
            }
        }
        self.process.host.kernel.set_deadline(0, false);
        if let Some(voter) = self.process.voter.get() {
            drop(voter.raft.shutdown().await);
        }
        self.process.fail("stopped as asked");
    }
}
