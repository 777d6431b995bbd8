//! Where packets come out again: what has arrived translated is counted, and goes no further.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::Array;
use aya::programs::{Xdp, XdpMode};
use serde_json::Value;

use super::site::Site;
use super::way::{TRANSLATED, Way};
use crate::lab::Host;
use crate::lab::run::feed;
use crate::tools;

/// A short command.
const BOUND: Duration = Duration::from_secs(5);

/// The counter of one way. What it costs to count is part of the way's time, so each kind of packet is counted at the
/// first place that it comes to.
#[derive(Debug)]
pub(super) enum Arrivals<'a> {
    /// Packets of the kernel's: by nftables, at the interface's ingress.
    Packets { host: &'a Host, interface: String },
    /// Frames from XDP, which are no packets yet: by XDP.
    Frames(Ebpf),
}

impl<'a> Arrivals<'a> {
    /// Begins to count. `generator` is the object that has the program `sink`.
    pub(super) fn of(site: &'a Site, way: Way, generator: &Path) -> Result<Self> {
        let (host, interface) = site.arrival(way);
        let inside = host.netns()?;
        if way == Way::Xdp {
            return inside.enter(|| Ok(Self::Frames(sink(generator, &interface)?)));
        }
        let rules = format!(
            "table netdev {interface} {{\ncounter arrived {{ }}\n\
             chain sink {{ type filter hook ingress device \"{interface}\" priority 0; policy accept;\n\
             ip daddr {} udp dport {TRANSLATED} counter name arrived drop\n}}\n}}\n",
            way.server()
        );
        inside.enter(|| feed("nft", &["-f", "-"], &rules))?;
        Ok(Self::Packets { host, interface })
    }

    /// How many have arrived.
    pub(super) fn count(&self) -> Result<u64> {
        match self {
            Self::Packets { host, interface } => {
                let asked = ["-j", "list", "counter", "netdev", interface, "arrived"];
                let said = tools::run(host, BOUND, "nft", &asked)?;
                let read: Value = serde_json::from_str(&said)?;
                let all = read["nftables"].as_array().into_iter().flatten();
                let mut counts = all.filter_map(|one| one["counter"]["packets"].as_u64());
                let count = counts.next();
                count.with_context(|| format!("nft said of a counter: {said}"))
            }
            Self::Frames(ebpf) => {
                let map = ebpf.map("ARRIVED").context("the object has no ARRIVED")?;
                let map: Array<_, u64> = map.try_into()?;
                Ok(map.get(&0, 0)?)
            }
        }
    }
}

/// Puts the program in front of an interface of this namespace, for as long as the object is held.
fn sink(object: &Path, interface: &str) -> Result<Ebpf> {
    let path = object.display();
    let mut ebpf =
        Ebpf::load_file(object).with_context(|| format!("cannot load the counter of {path}"))?;
    let program = ebpf.program_mut("sink");
    let program: &mut Xdp = program.context("the object has no `sink`")?.try_into()?;
    program.load().context("the kernel refuses `sink`")?;
    program
        .attach(interface, XdpMode::Driver)
        .with_context(|| format!("cannot put `sink` in front of {interface}"))?;
    Ok(ebpf)
}
