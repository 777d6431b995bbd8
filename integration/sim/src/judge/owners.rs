//! At most one announcer per address, in true time; tokens only grow.
//!
//! A host announces an address while its gate is open and the host's own clock has not passed the deadline. Two can
//! begin to overlap only when a gate opens or when a deadline that had passed is moved into the future; so it is
//! enough to look then. Ends need no event: they are computed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use vipd_core::id::Epoch;

use crate::net::HostId;
use crate::runtime::{Clock, true_now};

/// A packet that passed the check just before the deadline is on the wire this much later, in nanoseconds.
const PATH: u64 = 2_000_000;

#[derive(Default)]
pub(super) struct Owners {
    hosts: Vec<Seen>,
    open: BTreeMap<IpAddr, Vec<(HostId, Epoch)>>,
    /// The newest token under which each address was announced, and by whom.
    tokens: BTreeMap<IpAddr, (Epoch, HostId)>,
    begun: u64,
}

struct Seen {
    clock: Arc<Clock>,
    deadline: u64,
    open: BTreeSet<IpAddr>,
}

impl Seen {
    fn runs(&self, slack: u64) -> bool {
        self.deadline > 0 && self.clock.now() < self.deadline.saturating_add(slack)
    }
}

impl Owners {
    pub(super) fn add_host(&mut self, clock: Arc<Clock>) {
        self.hosts.push(Seen {
            clock,
            deadline: 0,
            open: BTreeSet::new(),
        });
    }

    pub(super) fn gate(
        &mut self,
        host: HostId,
        address: IpAddr,
        open: bool,
        epoch: Epoch,
    ) -> Result<(), String> {
        let holders = self.open.entry(address).or_default();
        holders.retain(|(holder, _)| *holder != host);
        if !open {
            self.hosts[host.0].open.remove(&address);
            return Ok(());
        }
        holders.push((host, epoch));
        self.hosts[host.0].open.insert(address);
        if self.hosts[host.0].runs(0) {
            self.begins(host, address)?;
        }
        Ok(())
    }

    pub(super) fn deadline(&mut self, host: HostId, boottime: u64) -> Result<(), String> {
        let seen = &mut self.hosts[host.0];
        let ran = seen.runs(0);
        seen.deadline = boottime;
        if ran || !seen.runs(0) {
            return Ok(());
        }
        let addresses: Vec<IpAddr> = seen.open.iter().copied().collect();
        addresses
            .into_iter()
            .try_for_each(|address| self.begins(host, address))
    }

    fn begins(&mut self, host: HostId, address: IpAddr) -> Result<(), String> {
        self.begun += 1;
        let holders = self.open.get(&address).map_or(&[][..], Vec::as_slice);
        let Some((_, epoch)) = holders.iter().find(|(holder, _)| *holder == host) else {
            return Ok(());
        };
        let epoch = *epoch;
        for (other, theirs) in holders.iter().filter(|(other, _)| *other != host) {
            let seen = &self.hosts[other.0];
            if seen.runs(PATH) {
                let left = seen.deadline.saturating_sub(seen.clock.now()) / 1_000;
                return Err(format!(
                    "two announce {address} at {} us: {host} begins (token {epoch}) while {other} may for another \
                     {left} us (token {theirs})",
                    true_now() / 1_000
                ));
            }
        }
        match self.tokens.insert(address, (epoch, host)) {
            Some((before, by)) if before > epoch => Err(format!(
                "token of {address} went back: {host} announces under {epoch}, {by} had {before}"
            )),
            Some((before, by)) if before == epoch && by != host => Err(format!(
                "{host} and {by} both announced {address} under token {epoch}"
            )),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn announcer(&self, address: IpAddr) -> Option<HostId> {
        let holders = self.open.get(&address)?;
        holders
            .iter()
            .map(|(host, _)| *host)
            .find(|host| self.hosts[host.0].runs(0))
    }

    pub(super) fn begun(&self) -> u64 {
        self.begun
    }
}
