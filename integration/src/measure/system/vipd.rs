//! vipd: three voters and one dual-stack VIP, at one of its profiles.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Command;
use std::str::FromStr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow};
use serde_json::json;

use super::super::fault::Fault;
use super::populate::VIP;
use super::{SERVERS, System, strike_host};
use crate::cluster::{Binaries, Cluster, PATIENCE, wait};
use crate::lab::Lab;

/// How long a drain of very many VIPs may take, and then the kernels to follow.
const GATHERING: Duration = Duration::from_secs(60);
/// The metric of how late the beats were.
const LATENESS: &str = "vipd_beat_lateness_seconds";
/// A voter that has just started withdraws nobody's lease for a while (see the README, "The first two seconds"), and is handed
/// nothing in the first five seconds of its lease.
const YOUNG: Duration = Duration::from_millis(5400);
/// How long a holder that was cut off is left so before the cut is healed.
const CUT: Duration = Duration::from_millis(500);

/// A lease profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// For dedicated cores.
    Fast,
    /// The default.
    Lan,
    /// For virtual machines.
    Safe,
}

impl Profile {
    /// Its name in the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Lan => "lan",
            Self::Safe => "safe",
        }
    }

    /// Between two beats, and the length of a lease.
    pub(crate) fn timing(self) -> (Duration, Duration) {
        let (beat, lease) = match self {
            Self::Fast => (10, 60),
            Self::Lan => (25, 150),
            Self::Safe => (50, 300),
        };
        (Duration::from_millis(beat), Duration::from_millis(lease))
    }
}

impl FromStr for Profile {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        [Self::Fast, Self::Lan, Self::Safe]
            .into_iter()
            .find(|profile| profile.name() == name)
            .ok_or_else(|| anyhow!("there is no profile {name:?}; there are: fast, lan, safe"))
    }
}

/// A running cluster.
#[derive(Debug)]
pub(crate) struct Vipd {
    cluster: Cluster,
    profile: Profile,
    vips: usize,
    addresses: Vec<IpAddr>,
    /// The node to which the VIP returns, while it is to return.
    home: Option<String>,
    /// Until when some voter is too young to help.
    young_until: Instant,
}

impl Vipd {
    /// Sets up a lab and a cluster in it, with `vips` VIPs.
    pub(crate) fn start(
        binaries: Binaries,
        profile: Profile,
        log_level: &str,
        vips: usize,
    ) -> Result<Self> {
        let cluster = Cluster::start_with(Lab::new(&SERVERS)?, binaries, SERVERS.len(), |node| {
            node.configure("lease", "profile", profile.name())?;
            node.configure("log", "level", log_level)
        })?;
        let addresses = super::populate::populate(&cluster, vips)?;
        Ok(Self {
            cluster,
            profile,
            vips,
            addresses,
            home: None,
            young_until: Instant::now() + YOUNG,
        })
    }

    fn run(&mut self, name: &str) -> Result<()> {
        self.cluster.node(name).run()?;
        self.young_until = Instant::now() + YOUNG;
        Ok(())
    }

    /// Whether the VIP returns to its home by itself.
    fn set_failback(&self, failback: &str) -> Result<()> {
        let mut spec = self.cluster.ask(&format!("/v1/vips/{VIP}"))?["spec"].take();
        spec["failback"] = failback.into();
        let body = json!({"name": VIP, "spec": spec});
        let api = self.cluster.leader_api()?;
        api.put(&format!("/v1/vips/{VIP}"), &body).map(drop)
    }

    fn other(&self, name: &str) -> Result<&'static str> {
        let others = SERVERS.into_iter().find(|&other| other != name);
        others.context("a cluster of one has nobody to move to")
    }

    /// Waits until the servers have on their interfaces what they shall have: the kernel takes seconds to put thousands of
    /// addresses there, and to take them off again. On hosts of their own that disturbs nobody else; here all share the CPUs.
    fn calm_down(&self, home: &str) -> Result<()> {
        wait(
            "the interfaces have the VIPs that they shall have",
            GATHERING,
            || {
                for name in SERVERS {
                    let mut list = Command::new("ip");
                    let said = self
                        .cluster
                        .node(name)
                        .host()
                        .run(list.args(["-o", "address"]))?;
                    let said = String::from_utf8_lossy(&said.stdout);
                    let there: BTreeSet<IpAddr> = said
                        .split_whitespace()
                        .filter_map(|word| word.split_once('/')?.0.parse().ok())
                        .collect();
                    let n = self
                        .addresses
                        .iter()
                        .filter(|at| there.contains(at))
                        .count();
                    let shall = if name == home {
                        self.addresses.len()
                    } else {
                        0
                    };
                    if n != shall {
                        return Ok(None);
                    }
                }
                Ok(Some(()))
            },
        )
    }
}

impl System for Vipd {
    fn name(&self) -> String {
        format!("vipd {}", self.profile.name())
    }

    fn lab(&self) -> &Lab {
        self.cluster.lab()
    }

    fn vips(&self) -> usize {
        self.vips
    }

    fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    fn knows(&self, _fault: Fault) -> bool {
        true
    }

    fn period(&self) -> Duration {
        self.profile.timing().0
    }

    fn detection(&self) -> Duration {
        self.profile.timing().1
    }

    fn settle(&mut self) -> Result<()> {
        self.cluster.wait_until_whole()?;
        sleep(self.young_until.saturating_duration_since(Instant::now()));
        if self.vips > 1 {
            return Ok(());
        }
        let one = |_: &str| true;
        self.cluster
            .wait_for_holder(&self.addresses, "one node holds the VIP", one)
            .map(drop)
    }

    fn gather(&mut self, fault: Fault) -> Result<String> {
        let home = if fault == Fault::LeaderAndHolder {
            self.cluster.leader()?
        } else {
            SERVERS[0].to_owned()
        };
        let others = SERVERS.into_iter().filter(|&name| name != home);
        for other in others.clone() {
            self.cluster.vipctl(&["node", "drain", other])?;
        }
        wait(&format!("all VIPs are on {home}"), GATHERING, || {
            let node = self
                .cluster
                .ask(&format!("/v1/nodes/{home}?consistency=local"))?;
            let held = node["status"]["held"].as_array().map_or(0, Vec::len);
            Ok((held == self.addresses.len()).then_some(()))
        })?;
        for other in others {
            self.cluster.vipctl(&["node", "undrain", other])?;
        }
        self.calm_down(&home)?;
        Ok(home)
    }

    fn home(&self) -> Option<&'static str> {
        None
    }

    fn tokens(&self) -> Result<BTreeMap<IpAddr, u64>> {
        let states = self.cluster.addresses()?.into_iter();
        Ok(states.map(|state| (state.address, state.epoch)).collect())
    }

    fn lateness(&self) -> Result<Duration> {
        let mut worst = Duration::ZERO;
        for node in self.cluster.nodes() {
            let metrics = node.api().get("/metrics")?;
            let seconds = metrics
                .as_str()
                .and_then(|text| text.lines().find_map(|line| line.strip_prefix(LATENESS)))
                .and_then(|value| value.trim().parse().ok())
                .with_context(|| format!("{}: no {LATENESS} in /metrics", node.host().name()))?;
            worst = worst.max(Duration::try_from_secs_f64(seconds)?);
        }
        Ok(worst)
    }

    fn prepare(&mut self, fault: Fault, holder: &str) -> Result<String> {
        match fault {
            Fault::LeaderAndHolder if self.vips == 1 => {
                let leader = self.cluster.leader()?;
                if leader != holder {
                    self.cluster
                        .vipctl(&["vip", "move", VIP, "--to", &leader])?;
                }
                Ok(leader)
            }
            Fault::Heal => {
                self.lab().cut_from_peers(holder)?;
                let new = self.cluster.wait_for_holder(
                    &self.addresses,
                    "the cut-off holder is replaced",
                    |name| name != holder,
                )?;
                sleep(CUT);
                Ok(new.name().to_owned())
            }
            Fault::Failback => {
                self.set_failback("always")?;
                let vip = self.cluster.ask(&format!("/v1/vips/{VIP}"))?;
                let home = vip["status"]["addresses"][0]["home"]
                    .as_str()
                    .with_context(|| format!("the VIP has no home: {vip}"))?
                    .to_owned();
                let what = "the VIP is at home";
                self.cluster
                    .wait_for_holder(&self.addresses, what, |name| name == home)?;
                self.lab().host(&home).power_off()?;
                let new = self.cluster.wait_for_holder(
                    &self.addresses,
                    "the dead holder is replaced",
                    |name| name != home,
                )?;
                let new = new.name().to_owned();
                self.home = Some(home);
                Ok(new)
            }
            Fault::PowerOff
            | Fault::LeaderAndHolder
            | Fault::PortDown
            | Fault::Stop
            | Fault::Drain
            | Fault::Move
            | Fault::Kill9
            | Fault::Freeze
            | Fault::Partition
            | Fault::PartitionPeers
            | Fault::Deaf
            | Fault::Mute
            | Fault::Restart => Ok(holder.to_owned()),
        }
    }

    fn strike(&mut self, fault: Fault, holder: &str) -> Result<()> {
        let host = self.cluster.lab().host(holder);
        match fault {
            Fault::Stop => self.cluster.node(holder).stop(PATIENCE),
            Fault::Drain => self.cluster.vipctl(&["node", "drain", holder]).map(drop),
            Fault::Move => {
                let to = self.other(holder)?;
                let order = ["vip", "move", VIP, "--to", to];
                self.cluster.vipctl(&order).map(drop)
            }
            Fault::Restart => {
                self.cluster.node(holder).reload()?;
                // A lease stretched for the reload, and a new life, are over after the same time.
                self.young_until = Instant::now() + YOUNG;
                Ok(())
            }
            Fault::Failback => {
                let home = self.home.clone().context("no home was prepared")?;
                self.cluster.lab().host(&home).power_on()?;
                self.run(&home)
            }
            Fault::PowerOff
            | Fault::LeaderAndHolder
            | Fault::PortDown
            | Fault::Kill9
            | Fault::Freeze
            | Fault::Partition
            | Fault::PartitionPeers
            | Fault::Deaf
            | Fault::Mute
            | Fault::Heal => strike_host(self.cluster.lab(), fault, host),
        }
    }

    fn mend(&mut self, fault: Fault, struck: &str) -> Result<()> {
        let host = self.cluster.lab().host(struck);
        match fault {
            Fault::PowerOff | Fault::LeaderAndHolder => {
                host.power_on()?;
                self.run(struck)
            }
            Fault::Stop => self.run(struck),
            Fault::Kill9 => {
                self.cluster.node(struck).kill9()?;
                self.run(struck)
            }
            Fault::PortDown => host.port_up(),
            Fault::Drain => self.cluster.vipctl(&["node", "undrain", struck]).map(drop),
            Fault::Freeze => self.cluster.node(struck).thaw(),
            Fault::Partition | Fault::PartitionPeers | Fault::Deaf | Fault::Mute | Fault::Heal => {
                self.cluster.lab().heal()
            }
            Fault::Failback => self.set_failback("never"),
            Fault::Move | Fault::Restart => Ok(()),
        }
    }
}
