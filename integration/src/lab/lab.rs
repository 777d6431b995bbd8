//! The lab as a whole: one switch, some servers, a client and an observer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::unistd::geteuid;

use super::host::Host;
use super::netns::NetNs;
use super::{owner, run};

/// The one IPv4 subnet of every lab, with room for ten thousand VIPs; host number `k` has address `.0.k`, VIPs begin at
/// `.0.100`.
pub const NETWORK_V4: &str = "10.77.0.0/16";
/// The one IPv6 subnet of every lab; host number `k` has address `::k`, VIPs begin at `::100`.
pub const NETWORK_V6: &str = "fd77::/64";

/// Number of the first host that runs no daemon; servers have those below.
const FIRST_BACKEND: u8 = 60;
const CLIENT: (&str, u8) = ("client", 200);
const OBSERVER: (&str, u8) = ("observer", 250);

/// A running lab. Dropping it, Ctrl-C, or the next lab to start removes all of it.
#[derive(Debug)]
pub struct Lab {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    name: String,
    dir: PathBuf,
    pub(super) switch: NetNs,
    hosts: BTreeMap<String, Host>,
    servers: Vec<String>,
    backends: Vec<String>,
    pub(super) cuts: Mutex<BTreeSet<(String, String)>>,
    torn_down: AtomicBool,
}

impl Lab {
    /// Builds a switch, one host for each of `servers`, a client and an observer, all connected and
    /// addressed. Needs root and `ip` (iproute2).
    pub fn new(servers: &[&str]) -> Result<Self> {
        Self::with_backends(servers, &[])
    }

    /// The same, and one host for each of `backends`: on the switch like the others, without a daemon.
    pub fn with_backends(servers: &[&str], backends: &[&str]) -> Result<Self> {
        if !geteuid().is_root() {
            bail!("the lab needs root, for network namespaces: run it again as root");
        }
        owner::remove_leftovers().context("cannot remove what an earlier lab left behind")?;
        let name = owner::fresh_name();
        let built = Self::build(&name, servers, backends);
        if built.is_err()
            && let Err(e) = owner::remove_all(&name)
        {
            eprintln!("warning: {e:#}");
        }
        built.with_context(|| format!("cannot build the lab {name}"))
    }

    fn build(name: &str, servers: &[&str], backends: &[&str]) -> Result<Self> {
        let dir = owner::claim_folder(name)?;
        let bpf = dir.join("bpf");
        fs::create_dir(&bpf)?;
        mount(
            Some("bpf"),
            &bpf,
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .with_context(|| format!("cannot mount a BPF file system on {}", bpf.display()))?;

        let switch = NetNs::create(&format!("{name}-switch"))?;
        // The switch itself has no addresses and says nothing.
        switch.sysctl(&[
            ("net/ipv6/conf/default/disable_ipv6", "1"),
            ("net/ipv6/conf/all/disable_ipv6", "1"),
        ])?;
        switch.know_no_firewall()?;
        run::ip(
            switch.name(),
            "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set br0 up\n",
        )?;

        let numbered = servers.iter().copied().zip(1..);
        let mut hosts = BTreeMap::new();
        let others = backends.iter().copied().zip(FIRST_BACKEND..);
        for (host, number) in numbered.chain(others).chain([CLIENT, OBSERVER]) {
            hosts.insert(
                host.to_owned(),
                Host::build(name, &dir, &switch, host, number)?,
            );
        }
        let inner = Arc::new(Inner {
            name: name.to_owned(),
            dir,
            switch,
            hosts,
            servers: servers.iter().map(|&s| s.to_owned()).collect(),
            backends: backends.iter().map(|&s| s.to_owned()).collect(),
            cuts: Mutex::default(),
            torn_down: AtomicBool::new(false),
        });
        owner::remember(Arc::downgrade(&inner));
        Ok(Self { inner })
    }

    /// The name that all its namespaces begin with.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its folder: logs, data and runtime folders of the hosts.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The host `name`, a server or the client or the observer.
    ///
    /// # Panics
    /// When the lab has no host of that name: a mistake in the test.
    pub fn host(&self, name: &str) -> &Host {
        match self.inner.hosts.get(name) {
            Some(host) => host,
            None => panic!("this lab has no host {name:?}"),
        }
    }

    /// The servers, in the order given.
    pub fn servers(&self) -> impl Iterator<Item = &Host> {
        self.inner.servers.iter().map(|name| self.host(name))
    }

    /// The hosts without a daemon, in the order given.
    pub fn backends(&self) -> impl Iterator<Item = &Host> {
        self.inner.backends.iter().map(|name| self.host(name))
    }

    /// The host that uses the VIPs. Its neighbour table is that of any client: it learns from what
    /// the wire tells it, and nothing else in the lab asks on its behalf.
    pub fn client(&self) -> &Host {
        self.host(CLIENT.0)
    }

    /// The host that asks on the wire who has a VIP, so that the client's table stays untouched.
    pub fn observer(&self) -> &Host {
        self.host(OBSERVER.0)
    }

    /// The namespace of the switch, in which every port can be heard.
    pub fn switch(&self) -> &NetNs {
        &self.inner.switch
    }

    /// Prints the end of every process's log to standard error, for whoever looks into a failure.
    pub fn print_logs(&self) {
        self.inner.print_logs();
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.inner.print_logs();
        }
        self.inner.tear_down();
    }
}

impl Inner {
    pub(super) fn tear_down(&self) {
        if self.torn_down.swap(true, Ordering::SeqCst) {
            return;
        }
        for host in self.hosts.values() {
            host.halt();
        }
        if let Err(e) = owner::remove_all(&self.name) {
            eprintln!("warning: {e:#}");
        }
    }

    fn print_logs(&self) {
        for host in self.hosts.values() {
            for (process, tail) in host.tails(40) {
                eprintln!(
                    "---- {} on {}, end of its log:\n{tail}",
                    process,
                    host.name()
                );
            }
        }
    }
}
