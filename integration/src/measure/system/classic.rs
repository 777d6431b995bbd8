//! Programs of the VRRP family: servers with ranks, the first one holds the VIP whenever it is there, and each takes it
//! when it no longer hears a better one.

use std::fmt::Debug;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::super::fault::Fault;
use super::super::watch::Watch;
use super::{SERVERS, System, strike_host};
use crate::cluster::{PATIENCE, wait};
use crate::lab::{Host, Lab};

/// The name under which a host knows its daemon.
const DAEMON: &str = "peer";

/// One of the programs.
pub(crate) trait Program: Debug + Send {
    /// How it is called in the tables, with its setting.
    fn name(&self) -> String;

    /// How many VIPs it is configured with.
    fn vips(&self) -> usize;

    /// Their addresses.
    fn addresses(&self) -> Vec<IpAddr>;

    /// The program in the foreground for `host`, whose rank is 0 for the first; writes its configuration.
    fn command(&self, host: &Host, rank: usize) -> Result<Command>;

    /// Between two of its advertisements.
    fn period(&self) -> Duration;

    /// How long it may take to notice a lost holder.
    fn detection(&self) -> Duration;
}

/// The program on three servers.
#[derive(Debug)]
pub(crate) struct Classic<P> {
    lab: Lab,
    program: P,
    addresses: Vec<IpAddr>,
}

impl<P: Program> Classic<P> {
    /// Sets up a lab with the program on each server.
    pub(crate) fn start(program: P) -> Result<Self> {
        let system = Self {
            lab: Lab::new(&SERVERS)?,
            addresses: program.addresses(),
            program,
        };
        for server in system.lab.servers() {
            server.serve()?;
            system.run(server)?;
        }
        Ok(system)
    }

    fn run(&self, host: &Host) -> Result<()> {
        let rank = SERVERS.iter().position(|&server| server == host.name());
        let rank = rank.context("a host that is no server")?;
        host.spawn(DAEMON, &mut self.program.command(host, rank)?)
    }

    fn reboot(&self, host: &Host) -> Result<()> {
        host.power_on()?;
        self.run(host)
    }

    /// Waits until somebody else serves the client; who.
    fn replaced(&self, holder: &str) -> Result<String> {
        let watch = Watch::start(&self.lab, &self.addresses)?;
        wait("the lost holder is replaced", PATIENCE, || {
            let server = watch.steady(None, PATIENCE)?;
            Ok((server != holder).then_some(server))
        })
    }
}

impl<P: Program> System for Classic<P> {
    fn name(&self) -> String {
        self.program.name()
    }

    fn lab(&self) -> &Lab {
        &self.lab
    }

    fn vips(&self) -> usize {
        self.program.vips()
    }

    fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    fn knows(&self, fault: Fault) -> bool {
        // No leader, no drain, no command that moves a VIP; a restart is a stop; and a master need not hear anybody.
        !matches!(
            fault,
            Fault::LeaderAndHolder | Fault::Drain | Fault::Move | Fault::Restart | Fault::Deaf
        )
    }

    fn period(&self) -> Duration {
        self.program.period()
    }

    fn detection(&self) -> Duration {
        self.program.detection()
    }

    fn settle(&mut self) -> Result<()> {
        // Nobody to ask: that the first server serves the client is all there is to know.
        Ok(())
    }

    fn home(&self) -> Option<&'static str> {
        Some(SERVERS[0])
    }

    fn gather(&mut self, _fault: Fault) -> Result<String> {
        // It holds all of them or none; here the first server comes to hold them by itself.
        let watch = Watch::start(&self.lab, &self.addresses[..1])?;
        watch.steady(self.home(), PATIENCE)
    }

    fn moves(&self, fault: Fault) -> usize {
        // The preferred server takes over again as soon as it can.
        if fault == Fault::Heal {
            1
        } else {
            fault.moves()
        }
    }

    fn prepare(&mut self, fault: Fault, holder: &str) -> Result<String> {
        match fault {
            Fault::Heal => {
                self.lab.cut_from_peers(holder)?;
                self.replaced(holder)
            }
            Fault::Failback => {
                self.lab.host(holder).power_off()?;
                self.replaced(holder)
            }
            Fault::PowerOff
            | Fault::LeaderAndHolder
            | Fault::PortDown
            | Fault::Stop
            | Fault::Drain
            | Fault::Move
            | Fault::Kill9
            | Fault::Freeze
            | Fault::Partition
            | Fault::PartitionPeers
            | Fault::Deaf
            | Fault::Mute
            | Fault::Restart => Ok(holder.to_owned()),
        }
    }

    fn strike(&mut self, fault: Fault, holder: &str) -> Result<()> {
        let host = self.lab.host(holder);
        match fault {
            Fault::Stop => host.terminate(DAEMON, PATIENCE).map(drop),
            Fault::Failback => self.reboot(self.lab.host(SERVERS[0])),
            Fault::LeaderAndHolder | Fault::Drain | Fault::Move | Fault::Restart => {
                bail!("{} knows no {fault}", self.name())
            }
            Fault::PowerOff
            | Fault::PortDown
            | Fault::Kill9
            | Fault::Freeze
            | Fault::Partition
            | Fault::PartitionPeers
            | Fault::Deaf
            | Fault::Mute
            | Fault::Heal => strike_host(&self.lab, fault, host),
        }
    }

    fn mend(&mut self, fault: Fault, struck: &str) -> Result<()> {
        let host = self.lab.host(struck);
        match fault {
            Fault::PowerOff => self.reboot(host),
            Fault::PortDown => host.port_up(),
            Fault::Stop => self.run(host),
            Fault::Kill9 => {
                // What it left on the interface goes only with a reboot.
                host.power_off()?;
                self.reboot(host)
            }
            Fault::Freeze => host.signal_all(Signal::SIGCONT),
            Fault::Partition | Fault::PartitionPeers | Fault::Deaf | Fault::Mute | Fault::Heal => {
                self.lab.heal()
            }
            Fault::LeaderAndHolder
            | Fault::Drain
            | Fault::Move
            | Fault::Failback
            | Fault::Restart => Ok(()),
        }
    }
}
