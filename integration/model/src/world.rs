//! A moment of the whole cluster, and how one step leads to the next.
//!
//! What nothing stands in the way of happens at once: datagrams arrive, entries are committed and applied. Whatever
//! takes longer, does so because of a fault. Between any two things that happen, the judge looks.

mod flow;
mod judge;

use std::collections::BTreeSet;

use vipd_core::id::{Epoch, NodeId};
use vipd_core::lease::Datagram;

use crate::fault::{Fault, Place, Step};
use crate::log::{Entry, Log};
use crate::node::{Node, Remains};
use crate::scene::Scene;

pub use judge::Broken;

/// A node that runs, or what is left of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Host {
    Runs(Box<Node>),
    Dead(Remains),
}

/// A datagram on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Packet {
    from: Place,
    to: Place,
    datagram: Datagram,
}

/// The cluster at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    tick: u64,
    rates: Vec<crate::clock::Rate>,
    hosts: Vec<Host>,
    log: Log,
    /// Proposed and about to be committed.
    proposals: BTreeSet<Entry>,
    /// Proposals that a fault delays.
    late: Vec<Entry>,
    faults: BTreeSet<Fault>,
    /// How much more may go wrong.
    budget: u8,
    /// What the operator still means to do.
    operator: u8,
    /// Datagrams that a fault holds back.
    held: Vec<Packet>,
    /// Datagrams that wait for a daemon that is stopped.
    waiting: Vec<Packet>,
    /// The nodes that something happened to.
    touched: BTreeSet<Place>,
    /// The nodes whose wires were at fault.
    unwired: BTreeSet<Place>,
    /// The highest token under which the address was ever answered.
    highest: Epoch,
    broken: Option<Broken>,
}

impl World {
    /// A cluster that has run for a while without a fault: node 1 answers.
    #[must_use]
    pub fn settled(scene: &Scene, rates: &[crate::clock::Rate]) -> Self {
        let start = scene.logs().start().clone();
        let mut world = Self {
            tick: 0,
            rates: rates.to_vec(),
            hosts: Vec::new(),
            log: start.clone(),
            proposals: BTreeSet::new(),
            late: Vec::new(),
            faults: BTreeSet::new(),
            budget: 0,
            operator: 0,
            held: Vec::new(),
            waiting: Vec::new(),
            touched: BTreeSet::new(),
            unwired: BTreeSet::new(),
            highest: Epoch(0),
            broken: None,
        };
        for place in 0..scene.size() {
            let node = scene.node(
                place,
                world.now(scene, place),
                Remains::default(),
                start.clone(),
                0,
            );
            world.hosts.push(Host::Runs(Box::new(node)));
        }
        for _ in 0..scene.warm_up() {
            world.pass(scene);
        }
        world.budget = scene.budget;
        world
    }

    /// What has been broken, if anything.
    #[must_use]
    pub fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// Whether the run ends here.
    #[must_use]
    pub fn over(&self, scene: &Scene) -> bool {
        self.tick >= scene.end() || self.broken.is_some()
    }

    /// What may happen next.
    pub fn steps(&self, scene: &Scene, steps: &mut Vec<Step>) {
        if self.over(scene) {
            return;
        }
        steps.push(Step::Tick);
        if self.tick >= scene.calm() {
            return;
        }
        if self.budget > 0 {
            let possible = scene.faults.iter().filter(|fault| self.can(**fault));
            steps.extend(possible.map(|fault| Step::Break(*fault)));
        }
        steps.extend(
            self.faults
                .iter()
                .filter(|fault| !matches!(fault, Fault::Held { .. } | Fault::Late(_)))
                .map(|fault| Step::Mend(*fault)),
        );
        steps.extend((0..self.held.len()).map(Step::Arrive));
        steps.extend((0..self.late.len()).map(Step::Commit));
        if let Some(act) = scene.operator.get(usize::from(self.operator)) {
            steps.push(Step::Operator(*act));
        }
    }

    /// Takes a step.
    pub fn step(&mut self, scene: &Scene, step: Step) {
        match step {
            Step::Tick => self.pass(scene),
            Step::Break(fault) => {
                self.budget -= 1;
                self.go_wrong(scene, fault);
            }
            Step::Mend(fault) => self.mend(scene, fault),
            Step::Arrive(n) => {
                let packet = self.held.remove(n);
                self.arrive(scene, packet);
            }
            Step::Commit(n) => {
                let entry = self.late.remove(n);
                self.commit(scene, entry);
            }
            Step::Operator(entry) => {
                self.operator += 1;
                self.commit(scene, entry);
            }
        }
        self.settle(scene);
    }

    /// A tick: what passes by itself has passed when the calm begins; then every daemon that runs has its turn.
    fn pass(&mut self, scene: &Scene) {
        self.tick += 1;
        if self.tick == scene.calm() {
            self.held.clear();
            for entry in std::mem::take(&mut self.late) {
                self.commit(scene, entry);
            }
            for fault in self.faults.clone() {
                if fault.passes() {
                    self.mend(scene, fault);
                }
            }
        }
        for place in 0..self.hosts.len() {
            self.turn(scene, place);
        }
        self.settle(scene);
    }

    fn can(&self, fault: Fault) -> bool {
        if self.faults.contains(&fault) {
            return false;
        }
        match fault {
            Fault::Paused { node, .. } | Fault::Dead { node, .. } => self.awake(node),
            Fault::Isolated(_)
            | Fault::Deaf(_)
            | Fault::Mute(_)
            | Fault::Cut(..)
            | Fault::Behind(_)
            | Fault::DiskStalls(_)
            | Fault::Late(_)
            | Fault::Held { .. } => true,
        }
    }

    fn go_wrong(&mut self, scene: &Scene, fault: Fault) {
        self.faults.insert(fault);
        self.touched
            .extend((0..scene.size()).filter(|place| fault.touches(*place)));
        self.unwired
            .extend((0..scene.size()).filter(|place| fault.on_wire_of(*place)));
        if let Fault::Dead { node, written } = fault
            && let Host::Runs(running) = &self.hosts[node]
        {
            self.hosts[node] = Host::Dead(running.as_ref().clone().crash(written));
        }
    }

    fn mend(&mut self, scene: &Scene, fault: Fault) {
        self.faults.remove(&fault);
        match fault {
            Fault::Paused { node, .. } => self.turn(scene, node),
            Fault::Dead { node, .. } => {
                if let Host::Dead(remains) = &self.hosts[node] {
                    let now = self.now(scene, node);
                    let start = scene.logs().start().clone();
                    let goal = self.log.index();
                    let node_again = scene.node(node, now, remains.clone(), start, goal);
                    self.hosts[node] = Host::Runs(Box::new(node_again));
                }
            }
            Fault::DiskStalls(node) => {
                if let Host::Runs(node) = &mut self.hosts[node] {
                    node.disk_goes_on();
                }
            }
            Fault::Isolated(_)
            | Fault::Deaf(_)
            | Fault::Mute(_)
            | Fault::Cut(..)
            | Fault::Behind(_)
            | Fault::Late(_)
            | Fault::Held { .. } => {}
        }
    }

    fn awake(&self, place: Place) -> bool {
        let stopped = |fault: &Fault| matches!(fault, Fault::Paused { node, .. } if *node == place);
        matches!(self.hosts[place], Host::Runs(_)) && !self.faults.iter().any(stopped)
    }

    fn behind(&self, place: Place) -> bool {
        self.faults.contains(&Fault::Behind(place))
    }

    fn now(&self, scene: &Scene, place: Place) -> vipd_core::time::Instant {
        self.rates[place].at(vipd_core::time::Span(scene.tick.0 * self.tick))
    }

    fn place(scene: &Scene, node: NodeId) -> Place {
        scene.logs().cluster().place(node).unwrap_or_default()
    }
}
