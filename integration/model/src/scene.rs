//! A scene: a cluster, what may go wrong in it, and for how long.

use anyhow::Result;
use vipd_core::time::{Instant, Span};

use crate::clock::Rate;
use crate::cluster::Cluster;
use crate::fault::{Fault, Place};
use crate::log::{Entry, Log, Logs};
use crate::mutant::Mutant;
use crate::node::{Node, Remains};

/// Ticks before anything may go wrong: the voters' wait after their start is over.
const WARM_UP: u64 = 10;

/// What to explore: every way to spend the budget on the faults, at any moment of the troubles.
#[derive(Debug)]
pub struct Scene {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// The length of a tick.
    pub tick: Span,
    /// Each node's lease.
    pub leases: Vec<Span>,
    /// How the clocks may run: one start for each.
    pub rates: Vec<Vec<Rate>>,
    /// What may go wrong.
    pub faults: Vec<Fault>,
    /// How many of them may, in one run.
    pub budget: u8,
    /// What the operator does, in this order, at any moment.
    pub operator: Vec<Entry>,
    /// For how many ticks things may go wrong.
    pub troubles: u64,
    /// How many ticks of calm follow.
    pub calm: u64,
    /// Whether the address must be answered at the end.
    pub live: bool,
    /// The rule left out.
    pub mutant: Option<Mutant>,
    logs: Logs,
}

impl Scene {
    /// A scene of this cluster in which nothing happens yet.
    ///
    /// # Errors
    /// When the cluster cannot be set up.
    pub fn new(
        name: &'static str,
        about: &'static str,
        cluster: Cluster,
        mutant: Option<Mutant>,
    ) -> Result<Self> {
        let size = cluster.size();
        Ok(Self {
            name,
            about,
            tick: Span::millis(500),
            leases: vec![crate::clock::LEASE; size],
            rates: vec![vec![Rate::True; size]],
            faults: Vec::new(),
            budget: 0,
            operator: Vec::new(),
            troubles: 0,
            calm: 0,
            live: false,
            mutant,
            logs: Logs::new(cluster, mutant)?,
        })
    }

    pub(crate) fn logs(&self) -> &Logs {
        &self.logs
    }

    pub(crate) fn size(&self) -> usize {
        self.logs.cluster().size()
    }

    pub(crate) fn warm_up(&self) -> u64 {
        WARM_UP
    }

    /// The tick at which nothing goes wrong any more.
    pub(crate) fn calm(&self) -> u64 {
        WARM_UP + self.troubles
    }

    /// The last tick.
    pub(crate) fn end(&self) -> u64 {
        self.calm() + self.calm
    }

    pub(crate) fn node(
        &self,
        place: Place,
        now: Instant,
        remains: Remains,
        log: Log,
        goal: u64,
    ) -> Node {
        let me = self.logs.cluster().nodes()[place];
        let lease = self.leases[place];
        Node::start(me, lease, self.mutant, now, remains, log, goal)
    }
}
