//! The systems under test, each on three servers of a lab of its own.

mod classic;
mod keepalived;
pub(crate) mod populate;
mod ucarp;
mod vipd;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use nix::sys::signal::Signal;

pub(crate) use classic::{Classic, Program};
pub(crate) use keepalived::Keepalived;
pub(crate) use populate::populate;
pub(crate) use ucarp::Ucarp;
pub use vipd::Profile;
pub(crate) use vipd::Vipd;

use super::fault::Fault;
use crate::cluster::Binaries;
use crate::lab::{Host, Lab};

/// The servers of every system.
pub(crate) const SERVERS: [&str; 3] = ["n1", "n2", "n3"];

/// The addresses of VIPs begin here, above those of all hosts of a lab.
pub(crate) const FIRST_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
/// The same for IPv6.
pub(crate) const FIRST_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 1, 1);

/// Something that keeps addresses alive on one of several hosts.
pub(crate) trait System: Send {
    /// How it is called in the tables, with its setting.
    fn name(&self) -> String;

    /// Its lab.
    fn lab(&self) -> &Lab;

    /// How many VIPs it has. One has an address of each family (of those that the system knows); of many, every second
    /// one is IPv4 and the others are IPv6.
    fn vips(&self) -> usize;

    /// The addresses of all VIPs.
    fn addresses(&self) -> &[IpAddr];

    /// Whether the fault means anything to it.
    fn knows(&self, fault: Fault) -> bool;

    /// How often its holder says that it lives: a fault may come at any moment between two.
    fn period(&self) -> Duration;

    /// How long it may take to notice a lost holder, by its own arithmetic.
    fn detection(&self) -> Duration;

    /// Waits until the next fault may come: all members there, and nothing under way.
    fn settle(&mut self) -> Result<()>;

    /// The host that must hold the addresses before a fault, if its configuration says so.
    fn home(&self) -> Option<&'static str>;

    /// Brings all VIPs onto one host, where that host must be for the fault; which.
    fn gather(&mut self, fault: Fault) -> Result<String>;

    /// The fencing token of each address, of systems that have such: it changes with every holder.
    fn tokens(&self) -> Result<BTreeMap<IpAddr, u64>> {
        Ok(BTreeMap::new())
    }

    /// The worst lateness of its timers lately, of systems that measure it.
    fn lateness(&self) -> Result<Duration> {
        Ok(Duration::ZERO)
    }

    /// How often the VIP changes its holder when all goes well.
    fn moves(&self, fault: Fault) -> usize {
        fault.moves()
    }

    /// What a fault needs before it can happen to `holder`; the one who holds the addresses then.
    fn prepare(&mut self, fault: Fault, holder: &str) -> Result<String>;

    /// The fault itself.
    fn strike(&mut self, fault: Fault, holder: &str) -> Result<()>;

    /// Makes `struck` a sound member again.
    fn mend(&mut self, fault: Fault, struck: &str) -> Result<()>;
}

/// A system by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Contender {
    /// `vipd-lan`, `vipd-fast`, `vipd-safe`.
    Vipd(Profile),
    /// `keepalived-1`, `keepalived-0.1`: the number is the interval of advertisements in seconds.
    Keepalived(Duration),
    /// `ucarp`.
    Ucarp,
}

impl Contender {
    /// Whether it can hold so many VIPs.
    pub fn holds(self, vips: usize) -> bool {
        match self {
            Self::Vipd(_) | Self::Keepalived(_) => true,
            Self::Ucarp => vips == 1,
        }
    }

    /// Sets it up.
    pub(crate) fn start(
        self,
        binaries: &Binaries,
        log_level: &str,
        vips: usize,
    ) -> Result<Box<dyn System>> {
        Ok(match self {
            Self::Vipd(profile) => {
                Box::new(Vipd::start(binaries.clone(), profile, log_level, vips)?)
            }
            Self::Keepalived(advert) => Box::new(Classic::start(Keepalived { advert, vips })?),
            Self::Ucarp => Box::new(Classic::start(Ucarp)?),
        })
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vipd(profile) => write!(f, "vipd-{}", profile.name()),
            Self::Keepalived(advert) => write!(f, "keepalived-{}", advert.as_secs_f64()),
            Self::Ucarp => f.write_str("ucarp"),
        }
    }
}

impl FromStr for Contender {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name.split_once('-') {
            Some(("vipd", profile)) => Ok(Self::Vipd(profile.parse()?)),
            Some(("keepalived", seconds)) => {
                let advert = seconds
                    .parse()
                    .ok()
                    .and_then(|s| Duration::try_from_secs_f64(s).ok());
                // VRRPv3 counts in hundredths of a second, in twelve bits.
                let counted = Duration::from_millis(10)..=Duration::from_millis(40_950);
                let advert = advert.filter(|advert| counted.contains(advert));
                advert.map(Self::Keepalived).with_context(|| {
                    format!("{seconds:?} is no interval of keepalived: 0.01 to 40.95 seconds")
                })
            }
            None if name == "ucarp" => Ok(Self::Ucarp),
            _ => bail!(
                "there is no system {name:?}; there are: vipd-lan, vipd-fast, vipd-safe, keepalived-SECONDS, ucarp"
            ),
        }
    }
}

/// The addresses of `vips` VIPs: one has an address of each family, of many every second one is IPv6.
pub(crate) fn many_addresses(vips: usize) -> Vec<IpAddr> {
    let v4 = |k: u32| IpAddr::from(Ipv4Addr::from_bits(FIRST_V4.to_bits() + k));
    let v6 = |k: u32| IpAddr::from(Ipv6Addr::from_bits(FIRST_V6.to_bits() + u128::from(k)));
    match u32::try_from(vips).unwrap_or(u32::MAX) {
        1 => vec![v4(0), v6(0)],
        vips => (0..vips)
            .map(|k| if k % 2 == 0 { v4(k / 2) } else { v6(k / 2) })
            .collect(),
    }
}

/// The faults that are the same for everybody, done to `host` and its cables.
fn strike_host(lab: &Lab, fault: Fault, host: &Host) -> Result<()> {
    match fault {
        Fault::PowerOff | Fault::LeaderAndHolder => host.power_off(),
        Fault::PortDown => host.port_down(),
        Fault::Kill9 => host.signal_all(Signal::SIGKILL),
        Fault::Freeze => host.signal_all(Signal::SIGSTOP),
        Fault::Partition => lab.cut_from_all(host.name()),
        Fault::PartitionPeers => lab.cut_from_peers(host.name()),
        Fault::Deaf | Fault::Mute => {
            let others = lab.servers().filter(|other| other.name() != host.name());
            for other in others {
                if fault == Fault::Deaf {
                    lab.cut_one_way(other.name(), host.name())?;
                } else {
                    lab.cut_one_way(host.name(), other.name())?;
                }
            }
            Ok(())
        }
        Fault::Heal => lab.heal(),
        Fault::Stop | Fault::Drain | Fault::Move | Fault::Failback | Fault::Restart => {
            bail!("{fault} is not a fault of the host")
        }
    }
}
