//! The instruments of one trial: a client that asks each millisecond, an observer that asks the wire each 5 ms, and the
//! tap on every port of the switch. The same for every system.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::owners;
use crate::Stamp;
use crate::lab::{Lab, Mac};
use crate::probe::{Gap, Probe, Reply};
use crate::wire::{Asker, Tap};

/// How often the wire is asked who has an address.
const ASK_PERIOD: Duration = Duration::from_millis(5);
/// How long one host must have served the client alone before a trial begins.
const STEADY: Duration = Duration::from_millis(150);

/// What the instruments of one trial saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The longest time that the client asked in vain, the worse of the two families; of many VIPs, the last one to be
    /// served again.
    pub outage: Duration,
    /// The same of the median VIP.
    pub median_vip: Duration,
    /// When the last of many VIPs was announced by its new holder: those who never ask know no earlier.
    pub announced: Option<Duration>,
    /// Datagrams that never were answered, in all families; of many VIPs, those that nobody served again.
    pub lost: usize,
    /// How long two hosts spoke for the address, the worse of the two families; of many VIPs it is not known.
    pub overlap: Option<Duration>,
    /// Changes of the announcer that nothing called for: of one VIP those of the worse family, of many those of all.
    pub false_moves: usize,
    /// Who served the client at the end, if anybody did.
    pub server: Option<String>,
}

/// Everything that looks at one lab, until dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    _asker: Asker,
    probes: Vec<Probe>,
    tap: Tap,
    addresses: Vec<IpAddr>,
}

impl Watch {
    /// Starts to look at `addresses`.
    pub(crate) fn start(lab: &Lab, addresses: &[IpAddr]) -> Result<Self> {
        let tap = Tap::start(lab.switch())?;
        for &address in addresses {
            tap.watch(address);
        }
        let probes = addresses
            .iter()
            .map(|&address| Probe::start(lab.client(), address))
            .collect::<Result<_>>()?;
        Ok(Self {
            _asker: Asker::start(lab.observer(), addresses, ASK_PERIOD)?,
            probes,
            tap,
            addresses: addresses.to_vec(),
        })
    }

    /// Waits until one host alone serves the client on all addresses; its name.
    ///
    /// # Errors
    /// When that is not so within `bound`, or when it is not the one wanted.
    pub(crate) fn steady(&self, wanted: Option<&str>, bound: Duration) -> Result<String> {
        let until = Instant::now() + bound;
        loop {
            let now = Stamp::now();
            if let Some(server) = self.sole_server(now - STEADY, now)
                && wanted.is_none_or(|wanted| wanted == server)
            {
                return Ok(server);
            }
            if Instant::now() > until {
                let served: Vec<_> = self.probes.iter().map(|p| p.latest()).collect();
                bail!(
                    "waited {bound:?} in vain until {} alone serves the client; last answers: {served:?}",
                    wanted.unwrap_or("one host")
                );
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// The host that gave all answers between `from` and `to`, and gave them without a pause.
    fn sole_server(&self, from: Stamp, to: Stamp) -> Option<String> {
        let mut sole: Option<String> = None;
        for probe in &self.probes {
            let replies = probe.replies_since(from);
            let host = replies.first()?.host.to_string();
            let same = replies.iter().all(|reply| *reply.host == *host);
            let first = replies.first()?.at.since(from);
            let last = to.since(replies.last()?.at);
            if !same || first > STEADY / 3 || last > STEADY / 3 {
                return None;
            }
            if sole.get_or_insert_with(|| host.clone()) != &host {
                return None;
            }
        }
        sole
    }

    /// Waits until hosts that `welcome` likes answer on every address, at most `bound`. `false` when they did not.
    pub(crate) fn served(
        &self,
        after: Stamp,
        bound: Duration,
        welcome: impl Fn(&Reply) -> bool,
    ) -> bool {
        let until = Instant::now() + bound;
        loop {
            let served = |probe: &Probe| probe.replies_since(after).iter().any(&welcome);
            if self.probes.iter().all(served) {
                return true;
            }
            if Instant::now() > until {
                return false;
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// What was seen since `from`, when `holder` held the addresses, which had reason to move `moves` times.
    ///
    /// # Errors
    /// When the tap lost frames: then nothing can be said.
    pub(crate) fn seen(&self, from: Stamp, holder: Mac, moves: usize) -> Result<Seen> {
        let mut seen = Seen::default();
        for (&address, probe) in self.addresses.iter().zip(&self.probes) {
            let answers = self.tap.answers_after(address, from)?;
            seen.outage = seen.outage.max(
                Some(probe.outage_since(from))
                    .as_ref()
                    .map_or(Duration::ZERO, Gap::length),
            );
            seen.lost += probe.lost_since(from);
            seen.overlap = seen
                .overlap
                .max(Some(owners::overlap(&answers, owners::SOON)));
            let takeovers = owners::takeovers(&answers, holder);
            seen.false_moves = seen.false_moves.max(takeovers.saturating_sub(moves));
            seen.server = probe.latest().map(|reply| reply.host.to_string());
        }
        seen.median_vip = seen.outage;
        Ok(seen)
    }
}
