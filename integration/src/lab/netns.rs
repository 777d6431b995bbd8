//! A named network namespace, and threads inside it.

use std::fs::File;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use super::run;

/// A network namespace under `/run/netns`, so that `ip netns exec` finds it too.
///
/// It is not removed on drop: its [`super::Lab`] does that, in the order a power cut needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetNs {
    name: String,
}

impl NetNs {
    /// Makes a new, empty namespace; an existing one of that name is an error.
    pub fn create(name: &str) -> Result<Self> {
        run::check("ip", &["netns", "add", name])?;
        Ok(Self {
            name: name.to_owned(),
        })
    }

    /// Its name under `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Kills every process that lives in it, then removes it.
    pub fn remove(&self) -> Result<()> {
        remove(&self.name)
    }

    /// Runs `work` on a thread of its own inside the namespace and waits for it. Sockets opened and
    /// processes started there belong to the namespace and stay in it.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        let door = self.door()?;
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&door, CloneFlags::CLONE_NEWNET)
                        .with_context(|| format!("cannot enter {}", self.name))?;
                    work()
                })
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a thread in {} panicked", self.name)))
        })
    }

    /// Starts a thread that lives inside the namespace. Returns once it has entered.
    pub fn thread<R: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<JoinHandle<R>> {
        let door = self.door()?;
        let (entered, when) = std::sync::mpsc::channel();
        let handle = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let inside = setns(&door, CloneFlags::CLONE_NEWNET);
                drop(door);
                // The receiver waits for exactly this message, so it cannot have gone.
                let _ = entered.send(inside);
                work()
            })?;
        when.recv()
            .context("the thread ended early")?
            .with_context(|| format!("cannot enter {}", self.name))?;
        Ok(handle)
    }

    /// Has frames that a bridge of this namespace carries pass no packet filter, as in a switch. Where the kernel has
    /// `br_netfilter` they would, each at a cost that nobody's switch has.
    pub fn know_no_firewall(&self) -> Result<()> {
        if !std::path::Path::new("/proc/sys/net/bridge").exists() {
            return Ok(());
        }
        self.sysctl(&[
            ("net/bridge/bridge-nf-call-iptables", "0"),
            ("net/bridge/bridge-nf-call-ip6tables", "0"),
            ("net/bridge/bridge-nf-call-arptables", "0"),
        ])
    }

    /// Sets a network sysctl of this namespace, e.g. `net/ipv4/ip_forward`.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.enter(|| {
            for (key, value) in settings {
                std::fs::write(format!("/proc/sys/{key}"), value)
                    .with_context(|| format!("cannot set {key} to {value} in {}", self.name))?;
            }
            Ok(())
        })
    }

    fn door(&self) -> Result<File> {
        let path = format!("/run/netns/{}", self.name);
        File::open(&path).with_context(|| format!("cannot open the namespace {path}"))
    }
}

/// Kills every process in the namespace `name`, then removes it.
pub(super) fn remove(name: &str) -> Result<()> {
    kill_all(name)?;
    run::check("ip", &["netns", "del", name])
}

/// `kill -9` for every process that lives in the namespace `name`.
pub(super) fn kill_all(name: &str) -> Result<()> {
    signal_all(name, nix::sys::signal::Signal::SIGKILL)
}

/// Sends `signal` to every process that lives in the namespace `name`, this one excepted.
pub(super) fn signal_all(name: &str, signal: nix::sys::signal::Signal) -> Result<()> {
    use nix::sys::signal::kill;
    use nix::unistd::Pid;

    for pid in pids(name)? {
        // It may have ended by itself in the meantime, which is as good.
        let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
    }
    Ok(())
}

/// The processes that live in the namespace `name`, this one excepted.
pub(super) fn pids(name: &str) -> Result<Vec<u32>> {
    let listed = run::output(std::process::Command::new("ip").args(["netns", "pids", name]))?;
    let text = String::from_utf8_lossy(&listed.stdout);
    let read = |pid: &str| {
        pid.parse()
            .with_context(|| format!("`ip netns pids` said {pid:?}"))
    };
    let mut pids: Vec<u32> = text.split_whitespace().map(read).collect::<Result<_>>()?;
    pids.retain(|&pid| pid != std::process::id());
    Ok(pids)
}
