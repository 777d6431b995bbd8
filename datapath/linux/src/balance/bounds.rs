//! How much is remembered of flows, and for how long.

use std::time::Duration;

use vipd_datapath_common::max_entries;

/// How long a flow is remembered after its last packet, by how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// TCP, nothing but attempts to open it.
    pub opening: Duration,
    /// TCP, open and idle. RFC 5382 asks for two hours and four minutes at least; a keepalive comes after two hours.
    pub open: Duration,
    /// TCP, one side has sent its last byte, and the other sends nothing either (what Linux's connection tracking gives it);
    /// or the backend has agreed to open the connection, and has said nothing since.
    pub half_closed: Duration,
    /// TCP, both sides have sent their last byte, or one has broken it off: what is still on its way.
    pub closing: Duration,
    /// UDP, one packet of the client and perhaps an answer: DNS and the like.
    pub question: Duration,
    /// UDP, more than that. RFC 4787 asks for two minutes.
    pub stream: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            opening: Duration::from_secs(10),
            open: Duration::from_secs(9_000),
            half_closed: Duration::from_secs(120),
            closing: Duration::from_secs(10),
            question: Duration::from_secs(10),
            stream: Duration::from_secs(120),
        }
    }
}

impl Times {
    /// Anything, while this node does not hold the address and sees no packets: the holder tells what ends.
    #[must_use]
    pub fn standby(&self) -> Duration {
        let others = [self.opening, self.half_closed, self.closing];
        let others = others.into_iter().chain([self.question, self.stream]);
        others.fold(self.open, Duration::max)
    }
}

/// Bounds of balancing on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Elements of the table of flows; a flow of mode nat takes two. A table that is in the kernel already stays as large as it
    /// is.
    pub flows: u32,
    /// New flows that all CPUs together may record in a second; `None`: as many as half fill the table in ten seconds, and at
    /// least 5,000 for each CPU.
    pub new_flows: Option<u32>,
    /// From one look for flows that are over to the next.
    pub collect: Duration,
    /// How long flows are remembered.
    pub times: Times,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            flows: max_entries::FLOWS as u32,
            new_flows: None,
            collect: Duration::from_secs(5),
            times: Times::default(),
        }
    }
}

impl Bounds {
    /// New flows that each of `cpus` may record in a second, with a table of so many elements. Without a bound that is named: so
    /// many that those of 10 s, in two halves each, are three quarters of the table. It slows a flood down, no more: the
    /// collector needs longer than these 10 s, and a CPU gets 5,000 at least, since network cards do not spread evenly.
    #[must_use]
    pub fn guard(&self, elements: u32, cpus: usize) -> u32 {
        const OPENING_S: u32 = 10;
        const LEAST: u32 = 5_000;
        let cpus = u32::try_from(cpus.max(1)).unwrap_or(u32::MAX);
        match self.new_flows {
            Some(all) => (all / cpus).max(1),
            None => (elements / 4 * 3 / 2 / OPENING_S / cpus).max(LEAST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_may_record_its_share_of_what_all_may() {
        let usual = Bounds::default();
        assert_eq!(usual.guard(usual.flows, 1), 39_321);
        assert_eq!(usual.guard(usual.flows, 4), 9_830);
        assert_eq!(usual.guard(usual.flows, 64), 5_000);
        let named = Bounds {
            new_flows: Some(1_000),
            ..usual
        };
        assert_eq!(named.guard(usual.flows, 4), 250);
        assert_eq!(named.guard(usual.flows, 4_000), 1, "0 would be no bound");
    }

    #[test]
    fn a_standby_keeps_what_any_holder_might() {
        assert_eq!(Times::default().standby(), Duration::from_secs(9_000));
        let streams = Times {
            open: Duration::from_secs(60),
            ..Times::default()
        };
        assert_eq!(streams.standby(), Duration::from_secs(120));
    }
}
