//! `[balance]`: bounds of load balancing on this node.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;
use vipd_datapath::{Bounds, Times, Xdp};

/// `[balance]`. Times are seconds after the last packet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BalanceSection {
    /// Whether packets of open connections are sent on in drivers of network cards: `off`, `auto` or `force`. Default: `off`, or
    /// `auto` where `[datapath]` says `attach = "xdp"`.
    pub xdp: Option<String>,
    /// Elements of the table of flows; a connection of mode `nat` takes two.
    pub flows: u32,
    /// Ports at which backends may be at loopback addresses: whoever writes VIPs can let others in to these.
    pub loopback_ports: Vec<u32>,
    /// New flows that all CPUs together may record in a second. Default: what fills three quarters of the table in ten seconds, and at
    /// least 5,000 for each CPU.
    pub new_flows: Option<u32>,
    /// Seconds from one look for flows that are over to the next.
    pub collect_s: u64,
    /// A TCP connection that nobody has answered yet.
    pub tcp_opening_s: u64,
    /// An open TCP connection.
    pub tcp_open_s: u64,
    /// A TCP connection that one side has closed.
    pub tcp_half_closed_s: u64,
    /// A TCP connection that both have closed, or one has reset.
    pub tcp_closing_s: u64,
    /// A single datagram of a client.
    pub udp_question_s: u64,
    /// More datagrams than one.
    pub udp_stream_s: u64,
}

impl Default for BalanceSection {
    fn default() -> Self {
        let Bounds {
            flows,
            new_flows,
            collect,
            times,
        } = Bounds::default();
        Self {
            xdp: None,
            loopback_ports: Vec::new(),
            flows,
            new_flows,
            collect_s: collect.as_secs(),
            tcp_opening_s: times.opening.as_secs(),
            tcp_open_s: times.open.as_secs(),
            tcp_half_closed_s: times.half_closed.as_secs(),
            tcp_closing_s: times.closing.as_secs(),
            udp_question_s: times.question.as_secs(),
            udp_stream_s: times.stream.as_secs(),
        }
    }
}

/// Elements of a table: 192 bytes of the kernel's memory each once they are used, and 8 in any case.
const FLOWS: RangeInclusive<u64> = 1_024..=16_777_216;
const NEW_FLOWS: RangeInclusive<u64> = 100..=10_000_000;
const COLLECT: RangeInclusive<u64> = 1..=60;
/// A minute for what is open is little, and a week is for ever.
const OPEN: RangeInclusive<u64> = 60..=604_800;
const SHORT: RangeInclusive<u64> = 1..=3_600;

impl BalanceSection {
    /// Where XDP is wanted, if nothing else is said here.
    ///
    /// # Errors
    /// If it says anything else, with the key.
    pub(super) fn xdp(&self, unless_said: Xdp) -> Result<Xdp, (&'static str, String)> {
        match self.xdp.as_deref() {
            None => Ok(unless_said),
            Some("off") => Ok(Xdp::Off),
            Some("auto") => Ok(Xdp::Auto),
            Some("force") => Ok(Xdp::Force),
            Some(other) => Err((
                "balance.xdp",
                format!("{other:?} is not one of off, auto, force"),
            )),
        }
    }

    /// The ports at which backends may be at loopback addresses.
    ///
    /// # Errors
    /// If one is none, with the key.
    pub(super) fn loopback_ports(&self) -> Result<BTreeSet<u16>, (&'static str, String)> {
        let port = |port: &u32| match u16::try_from(*port) {
            Ok(port) if port > 0 => Ok(port),
            Ok(_) | Err(_) => Err((
                "balance.loopback_ports",
                format!("{port} is no port: 1 to 65535 can be"),
            )),
        };
        self.loopback_ports.iter().map(port).collect()
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first that is no good, by its key.
    pub(super) fn bounds(&self) -> Result<Bounds, (&'static str, String)> {
        let new_flows = self.new_flows.map(u64::from);
        let values = [
            ("balance.flows", Some(self.flows.into()), FLOWS),
            ("balance.new_flows", new_flows, NEW_FLOWS),
            ("balance.collect_s", Some(self.collect_s), COLLECT),
            ("balance.tcp_opening_s", Some(self.tcp_opening_s), SHORT),
            ("balance.tcp_open_s", Some(self.tcp_open_s), OPEN),
            (
                "balance.tcp_half_closed_s",
                Some(self.tcp_half_closed_s),
                SHORT,
            ),
            ("balance.tcp_closing_s", Some(self.tcp_closing_s), SHORT),
            ("balance.udp_question_s", Some(self.udp_question_s), SHORT),
            ("balance.udp_stream_s", Some(self.udp_stream_s), SHORT),
        ];
        for (key, value, range) in values {
            if let Some(value) = value.filter(|value| !range.contains(value)) {
                let (from, to) = range.into_inner();
                return Err((key, format!("{value} is not between {from} and {to}")));
            }
        }
        Ok(Bounds {
            flows: self.flows,
            new_flows: self.new_flows,
            collect: Duration::from_secs(self.collect_s),
            times: Times {
                opening: Duration::from_secs(self.tcp_opening_s),
                open: Duration::from_secs(self.tcp_open_s),
                half_closed: Duration::from_secs(self.tcp_half_closed_s),
                closing: Duration::from_secs(self.tcp_closing_s),
                question: Duration::from_secs(self.udp_question_s),
                stream: Duration::from_secs(self.udp_stream_s),
            },
        })
    }
}
