//! What the scenes are made of: who is who, cuts between two hosts, waiting for what the log says.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vipd_core::command::Command;
use vipd_core::id::{Epoch, NodeId};
use vipd_core::name::Name;
use vipd_core::node::Lease;
use vipd_core::state::State;

use crate::clients::propose;
use crate::daemon::Process;
use crate::dice::Dice;
use crate::host::Host;
use crate::runtime::{sleep, spawn_in, true_now};
use crate::world::World;

/// Between two looks at whether something has come true.
const LOOK: Duration = Duration::from_millis(1);

/// A cluster that a scene is played on.
pub(super) struct Stage<'a> {
    pub(super) world: &'a Arc<World>,
    pub(super) dice: &'a mut Dice,
}

/// A host with its daemon, as both were when the scene began.
#[derive(Clone)]
pub(super) struct Actor {
    pub(super) host: Arc<Host>,
    pub(super) process: Arc<Process>,
}

impl Actor {
    pub(super) fn node(&self) -> NodeId {
        self.process.me()
    }
}

impl<'a> Stage<'a> {
    pub(super) fn new(world: &'a Arc<World>, dice: &'a mut Dice) -> Self {
        Self { world, dice }
    }

    /// The hosts whose daemons run.
    pub(super) fn actors(&self) -> Vec<Actor> {
        let hosts = self.world.hosts();
        let running = hosts.into_iter().filter_map(|host| {
            let process = host.process().filter(|process| !process.is_over())?;
            Some(Actor { host, process })
        });
        running.collect()
    }

    /// The one that leads.
    pub(super) fn leader(&self) -> Option<Actor> {
        let leads = |it: &Actor| it.process.leader() == Some(it.node());
        self.actors().into_iter().find(leads)
    }

    /// The voters by the log, in an order of chance, without those in `but`.
    pub(super) fn voters(&mut self, but: &[&Actor]) -> Vec<Actor> {
        let sets = self.look(|state| state.voters().map(|(_, sets)| sets.voters()));
        let sets = sets.unwrap_or_default();
        let mut found: Vec<Actor> = self
            .actors()
            .into_iter()
            .filter(|it| sets.contains(&it.node()))
            .filter(|it| but.iter().all(|other| other.host.id != it.host.id))
            .collect();
        for n in (1..found.len()).rev() {
            let other = usize::try_from(self.dice.below(n as u64 + 1)).unwrap_or(0);
            found.swap(n, other);
        }
        found
    }

    /// A node that announces something and is not `but`; an agent where `agents` asks for one.
    pub(super) fn holder(&mut self, but: &Actor, agents: bool) -> Option<Actor> {
        let able = |it: &Actor| {
            it.host.id != but.host.id
                && self.announces(it).is_some()
                && (!agents || !it.process.role().votes())
        };
        let able: Vec<Actor> = self.actors().into_iter().filter(able).collect();
        self.dice.pick(&able).cloned()
    }

    /// An address that `who` announces by the log and in truth, and its VIP.
    pub(super) fn announces(&self, who: &Actor) -> Option<(IpAddr, Name)> {
        self.look(|state| {
            let mut held = state.held_by(who.node());
            let (address, of) = held.find(|(address, of)| {
                of.vacating.is_none()
                    && !of.freeing
                    && self.world.judge.announcer(*address) == Some(who.host.id)
            })?;
            Some((address, of.vip.clone()))
        })
    }

    pub(super) fn look<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        self.world.judge.look(look)
    }

    /// The lease that is running by the log.
    pub(super) fn lease(&self, who: &Actor) -> Option<Epoch> {
        self.look(|state| {
            let node = state.node(who.node())?;
            (node.lease == Lease::Up).then_some(node.epoch)
        })
    }

    /// Cuts, or mends, both directions.
    pub(super) fn cut(&self, a: &Actor, b: &Actor, cut: bool) {
        self.cut_from(a, b, cut);
        self.cut_from(b, a, cut);
    }

    /// Cuts, or mends, what `from` sends to `to`.
    pub(super) fn cut_from(&self, from: &Actor, to: &Actor, cut: bool) {
        if from.host.id != to.host.id {
            self.world.net.set_cut(from.host.id, to.host.id, cut);
        }
    }

    /// Waits until `true_now`, for `millis` at most.
    pub(super) async fn until(&self, millis: u64, mut so: impl FnMut() -> bool) -> Option<()> {
        let end = true_now() + millis * 1_000_000;
        while !so() {
            if true_now() >= end {
                return None;
            }
            sleep(LOOK).await;
        }
        Some(())
    }

    /// Waits between `low` and `high` milliseconds.
    pub(super) async fn pause(&mut self, low: u64, high: u64) {
        sleep(Duration::from_millis(self.dice.between(low, high))).await;
    }

    /// Longer than any promise that voters have made to nodes whose leases nobody has stretched.
    pub(super) async fn promises_over(&self) {
        let longest = self
            .actors()
            .iter()
            .map(|it| it.process.timing.promise().0)
            .max();
        sleep(Duration::from_nanos(longest.unwrap_or(0)) + Duration::from_millis(20)).await;
    }

    /// Has `through` propose a command, and does not wait for an answer.
    pub(super) fn ask(&self, through: &Actor, command: Command) {
        let process = through.process.clone();
        let ask = async move { drop(process.propose(command).await) };
        spawn_in(&through.process.daemon, ask);
    }

    /// Has `through` propose a command; `None` if it was refused or nobody answered.
    pub(super) async fn order(&self, through: &Actor, command: Command) -> Option<()> {
        propose(&through.process, command)
            .await
            .ok()?
            .ok()
            .map(drop)
    }
}
