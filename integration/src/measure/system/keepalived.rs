//! keepalived of Debian: VRRPv3, three priorities, one instance, everything else at its defaults.

use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Program, many_addresses};
use crate::lab::Host;

/// As many addresses an advertisement has room for (RFC 9568).
const ADVERTISED: usize = 255;
/// Priorities of the servers, by rank.
const PRIORITIES: [u8; 3] = [150, 100, 50];

/// How keepalived is configured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keepalived {
    /// Between two advertisements: 10 ms to 40 s.
    pub(crate) advert: Duration,
    /// How many VIPs: all in one instance, whose advertisements name the first one.
    pub(crate) vips: usize,
}

impl Keepalived {
    fn config(&self, host: &Host, priority: u8) -> String {
        let (name, interface) = (host.name(), host.interface());
        let advert = self.advert.as_secs_f64();
        let line = |address: &IpAddr| {
            let length = if address.is_ipv4() { 32 } else { 128 };
            format!("    {address}/{length} dev {interface}\n")
        };
        // An instance has one family, and an advertisement no more than 255 addresses; the others go along, "excluded".
        let (first, others): (Vec<IpAddr>, Vec<IpAddr>) =
            self.addresses().into_iter().partition(IpAddr::is_ipv4);
        let (first, rest) = first.split_at(first.len().min(ADVERTISED));
        let first: Vec<String> = first.iter().map(line).collect();
        let others: Vec<String> = rest.iter().chain(&others).map(line).collect();
        format!(
            "global_defs {{\n  router_id {name}\n  vrrp_version 3\n}}\n\
             vrrp_instance vip {{\n  state BACKUP\n  interface {interface}\n  virtual_router_id 51\n  \
             priority {priority}\n  advert_int {advert}\n  virtual_ipaddress {{\n{}  }}\n  \
             virtual_ipaddress_excluded {{\n{}  }}\n}}\n",
            first.concat(),
            others.concat(),
        )
    }
}

impl Program for Keepalived {
    fn name(&self) -> String {
        format!("keepalived {} s", self.advert.as_secs_f64())
    }

    fn vips(&self) -> usize {
        self.vips
    }

    fn addresses(&self) -> Vec<IpAddr> {
        many_addresses(self.vips)
    }

    fn command(&self, host: &Host, rank: usize) -> Result<Command> {
        let config = host.disk().join("keepalived.conf");
        fs::write(&config, self.config(host, PRIORITIES[rank]))
            .with_context(|| format!("cannot write {}", config.display()))?;
        let pid = |which: &str| host.runtime().join(format!("{which}.pid"));
        let mut command = Command::new("keepalived");
        command
            .args(["--dont-fork", "--log-console", "--vrrp", "--use-file"])
            .arg(&config)
            .arg("--pid")
            .arg(pid("keepalived"))
            .arg("--vrrp_pid")
            .arg(pid("vrrp"));
        Ok(command)
    }

    fn period(&self) -> Duration {
        self.advert
    }

    fn detection(&self) -> Duration {
        // RFC 9568: three intervals and the skew of the second server.
        self.advert * 361 / 100
    }
}
