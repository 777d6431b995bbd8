//! The one thread of a host that forwards what comes in on an interface, as a CPU serves a queue of a network card.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::cluster::{PATIENCE, wait};
use crate::lab::Host;

/// A kernel thread.
#[derive(Debug)]
pub(super) struct Forwarder(i32);

impl Forwarder {
    /// Gives `interface` of `host` a thread of its own for what comes in, and has it stay on `cpu`. The interface must be
    /// one end of a veth pair, and have GRO: only then there is a queue.
    pub(super) fn of(host: &Host, interface: &str, cpu: usize) -> Result<Self> {
        let threaded = format!("echo 1 > /sys/class/net/{interface}/threaded");
        // `ip netns exec` shows the namespace's own /sys.
        let mut enable = Command::new("ip");
        enable.args(["netns", "exec", host.namespace(), "sh", "-c", &threaded]);
        let done = host.run(&mut enable)?;
        ensure!(
            done.status.success(),
            "the kernel gives {interface} no thread: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        let name = format!("napi/{interface}-");
        let what = format!("there is a thread {name}…");
        let pid = wait(&what, PATIENCE, || find(&name))?;
        stay(pid, cpu)?;
        Ok(Self(pid))
    }

    /// CPU time that it has had.
    pub(super) fn used(&self) -> Result<Duration> {
        let path = format!("/proc/{}/schedstat", self.0);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read {path} (the kernel needs CONFIG_SCHED_INFO)"))?;
        let nanos = text.split(' ').next().and_then(|field| field.parse().ok());
        let nanos = nanos.with_context(|| format!("{path} reads {text:?}"))?;
        Ok(Duration::from_nanos(nanos))
    }
}

/// Has a thread stay on one CPU; thread 0 is the calling one.
pub(super) fn stay(thread: i32, cpu: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu)?;
    sched_setaffinity(Pid::from_raw(thread), &only)
        .with_context(|| format!("cannot keep thread {thread} on CPU {cpu}"))
}

/// Two CPUs: one that sends, and one that forwards.
pub(super) fn two_cpus() -> Result<[usize; 2]> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut cpus = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let two = cpus.next().zip(cpus.next());
    let (first, second) = two.context("packets are measured on two CPUs, and there is one")?;
    Ok([first, second])
}

/// The process whose name begins so.
fn find(name: &str) -> Result<Option<i32>> {
    for entry in fs::read_dir("/proc")?.flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let (Some(pid), Ok(comm)) = (pid, fs::read_to_string(entry.path().join("comm"))) else {
            continue;
        };
        if comm.starts_with(name) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_the_beginning_of_its_name() {
        let comm = fs::read_to_string("/proc/1/comm").unwrap();
        let found = find(comm.trim()).unwrap();
        assert!(found.is_some(), "{comm:?}");
        assert_eq!(find("no-such-process-here").unwrap(), None);
    }
}
