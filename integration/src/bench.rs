//! A cluster with one dual-stack VIP under full observation: tap, asker, client and history.

use std::fs::File;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Stamp;
use crate::cluster::{Binaries, Cluster, History};
use crate::lab::{Host, Lab};
use crate::probe::{Gap, Probe};
use crate::wire::{Asker, Election, Tap, Verdict, judge};

/// How often the wire is asked who has an address.
const ASK_PERIOD: Duration = Duration::from_millis(5);

/// A voter that just started takes nobody's lease away for a while, so that a cluster that restarts
/// as a whole finds its holders as they were. Stories about failover begin after that.
pub const GRACE: Duration = Duration::from_millis(2500);

/// Everything a story about failover needs. Only one runs at a time on a machine: they measure
/// milliseconds, and two would measure each other.
#[derive(Debug)]
pub struct Bench {
    // In the order in which they have to end: those who look, then what they look at.
    _asker: Asker,
    probes: Vec<Probe>,
    history: History,
    tap: Tap,
    addresses: Vec<IpAddr>,
    cluster: Cluster,
    _turn: Option<Turn>,
}

/// The right to measure on this machine, until dropped.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "holds the lock")] File);

impl Turn {
    /// Waits until nobody else measures.
    pub fn wait() -> Result<Self> {
        let path = std::env::temp_dir().join("vipdlab.turn");
        let file =
            File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self(file))
    }
}

impl Bench {
    /// Three servers with the programs of this build, a VIP `www`, the client already served, and the
    /// [`GRACE`] after the start over.
    pub fn start() -> Result<Self> {
        Self::with(&["n1", "n2", "n3"], 3)
    }

    /// The same with these servers, of which the first `voters` vote and the others are agents.
    pub fn with(servers: &[&str], voters: usize) -> Result<Self> {
        let turn = Turn::wait()?;
        let cluster = Cluster::start(Lab::new(servers)?, Binaries::built()?, voters)?;
        let addresses = cluster.dual_stack_vip("www")?;
        let mut bench = Self::watch(cluster, addresses)?;
        bench._turn = Some(turn);
        bench.wait_for_one_holder("the client is served", |_| true)?;
        std::thread::sleep(GRACE);
        Ok(bench)
    }

    /// Puts `addresses` of a running cluster under observation.
    pub fn watch(cluster: Cluster, mut addresses: Vec<IpAddr>) -> Result<Self> {
        addresses.sort();
        let lab = cluster.lab();
        let tap = Tap::start(lab.switch())?;
        for &address in &addresses {
            tap.watch(address);
        }
        let history = History::start(&cluster)?;
        let probes = addresses
            .iter()
            .map(|&a| Probe::start(lab.client(), a))
            .collect::<Result<_>>()?;
        let asker = Asker::start(lab.observer(), &addresses, ASK_PERIOD)?;
        Ok(Self {
            _asker: asker,
            probes,
            history,
            tap,
            addresses,
            cluster,
            _turn: None,
        })
    }

    /// Ends the observation; the cluster stays.
    pub fn into_cluster(self) -> Cluster {
        self.cluster
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Its lab.
    pub fn lab(&self) -> &Lab {
        self.cluster.lab()
    }

    /// The addresses of the VIP, IPv4 first.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The tap.
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// What the daemons said among themselves.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The clients, one for each address.
    pub fn probes(&self) -> &[Probe] {
        &self.probes
    }

    /// Waits until one host holds all addresses, `wanted` likes it, and the client is served by it on
    /// all of them.
    pub fn wait_for_one_holder(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<&Host> {
        let from = Stamp::now();
        let holder = self
            .cluster
            .wait_for_holder(&self.addresses, what, wanted)?;
        for probe in &self.probes {
            probe.wait_for(holder.name(), from, crate::cluster::PATIENCE)?;
        }
        Ok(holder)
    }

    /// The longest time since `from` in which the client had no answer, for each address.
    pub fn outages(&self, from: Stamp) -> Vec<Gap> {
        self.probes
            .iter()
            .map(|probe| probe.outage_since(from))
            .collect()
    }

    /// Judges everything the wire said about `address` against who was elected.
    pub fn verdict(&self, address: IpAddr) -> Result<Verdict> {
        let elections = self.history.elections(address).into_iter();
        let elected: Vec<Election> = elections
            .map(|(name, heard)| Election {
                mac: self.lab().host(&name).mac(),
                not_before: heard - History::LAG,
            })
            .collect();
        let answers = self.tap.answers(address)?;
        ensure!(
            !answers.is_empty(),
            "the tap heard nothing about {address}: there is nothing to judge"
        );
        Ok(judge(&answers, &elected))
    }

    /// Fails if ever two hosts answered for one of the addresses; says who and when.
    pub fn ensure_never_two(&self) -> Result<()> {
        for &address in &self.addresses {
            let verdict = self.verdict(address)?;
            ensure!(
                verdict.is_clean(),
                "two hosts answered for {address}, for {:?}; {} frames by those who did not hold it, the first: {:?}; elected were {:?}",
                verdict.overlap,
                verdict.strays.len(),
                verdict.strays[0],
                self.history.epochs(address),
            );
        }
        Ok(())
    }
}
