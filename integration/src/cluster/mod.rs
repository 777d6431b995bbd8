//! Real `vipd` daemons on the hosts of a lab, set up as a newcomer does it: `init`, `join`, `run`,
//! and everything else through `vipctl`.

mod api;
mod binaries;
mod config;
mod history;
mod node;

use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

pub use api::{AddressState, Api};
pub use binaries::Binaries;
pub use history::History;
pub use node::{Node, Ticket};

use crate::lab::{Host, Lab};

/// How long anything that is not a measured failover may take, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long a daemon may take to answer when another one could be asked: it may be frozen.
const GLANCE: Duration = Duration::from_millis(250);

/// A cluster of daemons, one on each server of a lab.
#[derive(Debug)]
pub struct Cluster {
    lab: Lab,
    binaries: Binaries,
    voters: usize,
}

impl Cluster {
    /// `vipd init` on the first server, `vipd join` on the others, responders on all.
    ///
    /// The first `voters` servers vote, the others join as agents: they hold VIPs only.
    pub fn start(lab: Lab, binaries: Binaries, voters: usize) -> Result<Self> {
        Self::start_with(lab, binaries, voters, |_| Ok(()))
    }

    /// The same, with `configure` called for each node after it was set up and before it runs.
    pub fn start_with(
        lab: Lab,
        binaries: Binaries,
        voters: usize,
        configure: impl Fn(&Node<'_>) -> Result<()>,
    ) -> Result<Self> {
        let cluster = Self {
            lab,
            binaries,
            voters,
        };
        for server in cluster.lab.servers() {
            server.serve()?;
        }
        if let Err(e) = cluster.set_up(configure) {
            cluster.lab.print_logs();
            return Err(e.context("cannot set up the cluster"));
        }
        Ok(cluster)
    }

    fn set_up(&self, configure: impl Fn(&Node<'_>) -> Result<()>) -> Result<()> {
        let mut nodes = self.nodes();
        let first = nodes
            .next()
            .context("a cluster needs at least one server")?;
        let mut printed = Some(first.init()?);
        configure(&first)?;
        first.run()?;
        for (number, node) in (2..).zip(nodes) {
            // One joins with the command that `init` printed, the next ones with `vipctl cluster token`.
            let ticket = match printed.take() {
                Some(ticket) if number <= self.voters => ticket,
                _ if number <= self.voters => first.join_ticket("voter")?,
                _ => first.join_ticket("agent")?,
            };
            node.join(&ticket)?;
            configure(&node)?;
            node.run()?;
        }
        self.wait_until_whole()
    }

    /// The lab it runs in.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The daemon on the server `name`.
    pub fn node(&self, name: &str) -> Node<'_> {
        Node::new(self.lab.host(name), &self.binaries)
    }

    /// The programs it runs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The daemons of all servers.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        self.lab
            .servers()
            .map(|host| Node::new(host, &self.binaries))
    }

    /// Runs `vipctl` on the first server whose daemon answers; its output, or its error as it reads.
    pub fn vipctl(&self, args: &[&str]) -> Result<String> {
        self.any_node()?.vipctl(args)
    }

    /// Makes the pool and the VIP that most stories need; the addresses it was given.
    pub fn dual_stack_vip(&self, name: &str) -> Result<Vec<IpAddr>> {
        self.vipctl(&[
            "pool",
            "create",
            "web",
            "--block",
            "10.77.0.100-10.77.0.119",
            "--block",
            "fd77::100-fd77::11f",
        ])?;
        self.vipctl(&[
            "vip",
            "create",
            name,
            "--pool",
            "web",
            "--families",
            "require_dual",
        ])?;
        let states = wait("the VIP has two addresses and a holder", PATIENCE, || {
            let states = self.addresses()?;
            let held = states
                .iter()
                .filter(|s| s.vip == name && s.holder.is_some() && s.asked)
                .count();
            Ok((held == 2).then_some(states))
        })?;
        Ok(states
            .into_iter()
            .filter(|s| s.vip == name)
            .map(|s| s.address)
            .collect())
    }

    /// Every address and its holder, as the best informed of the daemons that answer sees it.
    pub fn addresses(&self) -> Result<Vec<AddressState>> {
        let mut views: Vec<Vec<AddressState>> = self
            .nodes()
            .filter_map(|n| n.api().addresses().ok())
            .collect();
        views.sort_by_key(|view| view.iter().map(|s| s.epoch).max());
        views
            .pop()
            .ok_or_else(|| anyhow!("no daemon answers on its API"))
    }

    /// The host that holds `address`.
    pub fn holder(&self, address: IpAddr) -> Result<&Host> {
        let states = self.addresses()?;
        let state = states.iter().find(|s| s.address == address);
        let name = state
            .and_then(|s| s.holder.as_deref())
            .ok_or_else(|| anyhow!("nobody holds {address}"))?;
        Ok(self.lab.host(name))
    }

    /// Waits until all of `addresses` have one and the same holder that `wanted` likes; its host.
    pub fn wait_for_holder(
        &self,
        addresses: &[IpAddr],
        what: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<&Host> {
        let name = wait(what, PATIENCE, || {
            let states = self.addresses()?;
            let mut holders: Vec<_> = states
                .into_iter()
                .filter(|s| addresses.contains(&s.address))
                .map(|s| s.holder.filter(|_| s.asked))
                .collect();
            holders.dedup();
            Ok(match &holders[..] {
                [Some(one)] if wanted(one) => Some(one.clone()),
                _ => None,
            })
        })?;
        Ok(self.lab.host(&name))
    }

    /// Waits until all servers are members and up, the voters among them vote, and one leads.
    pub fn wait_until_whole(&self) -> Result<()> {
        wait("all members are up, and one leads", PATIENCE, || {
            let cluster = self.ask("/v1/cluster?consistency=local")?;
            let members = cluster["members"].as_array().map_or(&[][..], Vec::as_slice);
            let count = |key: &str| members.iter().filter(|m| m[key] == true).count();
            let whole = count("up") == self.lab.servers().count() && count("voting") == self.voters;
            Ok((whole && cluster["leader"].is_string()).then_some(()))
        })
    }

    /// The name of the node that leads.
    pub fn leader(&self) -> Result<String> {
        wait("a leader", PATIENCE, || {
            let seen = self.ask("/v1/cluster?consistency=local")?;
            Ok(seen["leader"].as_str().map(str::to_owned))
        })
    }

    /// The API of the node that leads.
    pub fn leader_api(&self) -> Result<Api> {
        Ok(self.node(&self.leader()?).api())
    }

    /// `GET path` of the first daemon that answers.
    pub fn ask(&self, path: &str) -> Result<serde_json::Value> {
        self.any_node()?.api().get(path)
    }

    fn any_node(&self) -> Result<Node<'_>> {
        let answering = self
            .nodes()
            .find(|node| node.api().within(GLANCE).get("/healthz").is_ok());
        answering.ok_or_else(|| anyhow!("no daemon answers on its API"))
    }
}

/// Asks again and again until `look` finds something, at most `bound`. What went wrong last is the
/// reason of the failure.
pub fn wait<R>(
    what: &str,
    bound: Duration,
    mut look: impl FnMut() -> Result<Option<R>>,
) -> Result<R> {
    let until = Instant::now() + bound;
    loop {
        let last = match look() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(e) => Some(e),
        };
        if Instant::now() > until {
            return Err(last.unwrap_or_else(|| anyhow!("not so yet")))
                .with_context(|| format!("waited {bound:?} in vain until: {what}"));
        }
        sleep(Duration::from_millis(20));
    }
}
