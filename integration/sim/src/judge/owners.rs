//! At most one announcer per address, in true time; tokens only grow.
//!
//! A host announces an address while its gate is open and the host's own clock has not passed the deadline; during a planned
//! move the next holder speaks in the right of the silent one, for a while after each packet that was handed to it. Two can
//! begin to overlap only when a gate opens, a packet is handed on, or a deadline that had passed is moved into the future; so it
//! is enough to look then. Ends need no event: they are computed.
//!
//! Where the operator wants that holders go on without a majority, such a *frozen* host counts for nothing: whoever it is cut
//! off from may have replaced it. It counts again from the moment when a majority supports it, or it has to be silent.

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
    /// Hosts that serve in the right of a silent holder.
    serving: BTreeMap<IpAddr, BTreeSet<HostId>>,
    /// The newest token under which each address was announced, and by whom.
    tokens: BTreeMap<IpAddr, (Epoch, HostId)>,
    begun: u64,
}

struct Seen {
    clock: Arc<Clock>,
    deadline: u64,
    /// That deadline was granted by no majority.
    frozen: bool,
    open: BTreeSet<IpAddr>,
    /// What it serves in the right of a silent holder, and until when.
    serves: BTreeMap<IpAddr, u64>,
}

impl Seen {
    fn runs(&self, slack: u64) -> bool {
        self.deadline > 0 && self.clock.now() < self.deadline.saturating_add(slack)
    }

    /// How much longer, in nanoseconds of its own clock, it speaks for an address because of its gate.
    fn open_for(&self, slack: u64) -> Option<u64> {
        (self.runs(slack) && !self.frozen).then(|| self.deadline.saturating_sub(self.clock.now()))
    }

    /// The same, because of what was handed to it.
    fn serves_for(&self, address: IpAddr, slack: u64) -> Option<u64> {
        let until = (*self.serves.get(&address)?).min(self.deadline);
        let now = self.clock.now();
        (now < until.saturating_add(slack) && !self.frozen).then(|| until.saturating_sub(now))
    }
}

impl Owners {
    pub(super) fn add_host(&mut self, clock: Arc<Clock>) {
        self.hosts.push(Seen {
            clock,
            deadline: 0,
            frozen: false,
            open: BTreeSet::new(),
            serves: BTreeMap::new(),
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
        if self.hosts[host.0].open_for(0).is_some() {
            self.begins(host, address)?;
        }
        Ok(())
    }

    pub(super) fn serves(
        &mut self,
        host: HostId,
        address: IpAddr,
        until: Option<u64>,
    ) -> Result<(), String> {
        let seen = &mut self.hosts[host.0];
        let served = seen.serves_for(address, 0).is_some();
        let Some(until) = until else {
            seen.serves.remove(&address);
            if let Some(serving) = self.serving.get_mut(&address) {
                serving.remove(&host);
            }
            return Ok(());
        };
        seen.serves.insert(address, until);
        let serves = seen.serves_for(address, 0).is_some();
        self.serving.entry(address).or_default().insert(host);
        if serves && !served {
            self.alone(host, address, "is handed it")?;
        }
        Ok(())
    }

    pub(super) fn deadline(
        &mut self,
        host: HostId,
        boottime: u64,
        frozen: bool,
    ) -> Result<(), String> {
        let seen = &mut self.hosts[host.0];
        let ran = seen.runs(0) && !seen.frozen;
        (seen.deadline, seen.frozen) = (boottime, frozen);
        if ran || frozen || !seen.runs(0) {
            return Ok(());
        }
        let opened: Vec<IpAddr> = seen.open.iter().copied().collect();
        let served = seen.serves.keys().copied();
        let served: Vec<IpAddr> = served
            .filter(|address| seen.serves_for(*address, 0).is_some())
            .collect();
        for address in opened {
            self.begins(host, address)?;
        }
        for address in served {
            self.alone(host, address, "goes on with what it was handed")?;
        }
        Ok(())
    }

    /// Nobody else may speak for the address now, as `host` does something.
    fn alone(&self, host: HostId, address: IpAddr, does: &str) -> Result<(), String> {
        let holders = self.open.get(&address).map_or(&[][..], Vec::as_slice);
        let open = holders.iter().filter_map(|(other, token)| {
            let left = self.hosts[other.0].open_for(PATH)?;
            Some((*other, left, format!("token {token}")))
        });
        let serving = self.serving.get(&address).into_iter().flatten();
        let serving = serving.filter_map(|other| {
            let left = self.hosts[other.0].serves_for(address, PATH)?;
            Some((*other, left, "handed to it".to_owned()))
        });
        match open.chain(serving).find(|(other, _, _)| *other != host) {
            Some((other, left, why)) => Err(format!(
                "two announce {address} at {} us: {host} {does} while {other} may for another {} us ({why})",
                true_now() / 1_000,
                left / 1_000
            )),
            None => Ok(()),
        }
    }

    fn begins(&mut self, host: HostId, address: IpAddr) -> Result<(), String> {
        self.begun += 1;
        let holders = self.open.get(&address).map_or(&[][..], Vec::as_slice);
        let Some((_, epoch)) = holders.iter().find(|(holder, _)| *holder == host) else {
            return Ok(());
        };
        let epoch = *epoch;
        self.alone(host, address, &format!("begins (token {epoch})"))?;
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

    pub(super) fn frozen(&self) -> Vec<HostId> {
        let hosts = self.hosts.iter().enumerate();
        let frozen = hosts.filter(|(_, seen)| seen.frozen && seen.runs(0));
        frozen.map(|(n, _)| HostId(n)).collect()
    }

    pub(super) fn begun(&self) -> u64 {
        self.begun
    }
}
