//! Whether what is answered is on disk: how often each daemon calls `fdatasync` or `fsync` under load.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::contender::Contender;
use super::load;
use crate::cluster::{Cluster, wait};
use crate::measure::system::SERVERS;

/// How long it is looked at: `strace` slows the daemons down, so nothing else is measured meanwhile.
const SPAN: Duration = Duration::from_secs(3);
/// How long `strace` may take to begin and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The syncs of the three daemons while clients allocate, and the allocations of that time.
pub(super) struct Synced {
    pub(super) syncs: Vec<u64>,
    pub(super) allocations: usize,
}

/// Looks.
///
/// # Errors
/// When a daemon did not sync at all: it is not durable, and nothing that was measured can be compared.
pub(super) fn look(
    contender: Contender,
    cluster: &Cluster,
    next: &'static std::sync::atomic::AtomicU32,
) -> Result<Synced> {
    let mut watchers = Vec::new();
    for server in SERVERS {
        let host = cluster.lab().host(server);
        let pid = contender.pid(host)?;
        let out = host.runtime().join(format!("{}.strace", contender.name()));
        let child = Command::new("strace")
            .args(["-f", "-q", "-e", "trace=fdatasync,fsync", "-o"])
            .arg(&out)
            .args(["-p", &pid.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start strace (Debian package strace)")?;
        watchers.push((server, pid, out, Watcher(child)));
    }
    for (server, pid, _, _) in &watchers {
        let traced = || {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let tracer = status
                .lines()
                .find_map(|line| line.strip_prefix("TracerPid:"));
            Ok(tracer
                .is_some_and(|tracer| tracer.trim() != "0")
                .then_some(()))
        };
        wait(
            &format!("strace watches {} on {server}", contender.name()),
            PATIENCE,
            traced,
        )?;
    }
    let allocations = load::run(contender, cluster, next, SPAN)?.latencies.count();
    let mut syncs = Vec::new();
    for (server, _, out, watcher) in watchers {
        drop(watcher);
        let text = fs::read_to_string(&out)
            .with_context(|| format!("cannot read what strace wrote to {}", out.display()))?;
        let count = text.lines().filter(|line| line.contains("sync(")).count() as u64;
        ensure!(
            count > 0,
            "{} on {server} answered {allocations} allocations and synced nothing",
            contender.name()
        );
        syncs.push(count);
    }
    Ok(Synced { syncs, allocations })
}

/// A `strace` that lets go of its daemon when it is dropped.
struct Watcher(Child);

impl Drop for Watcher {
    fn drop(&mut self) {
        // It detaches by SIGINT; one that has ended already needs nothing.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGINT);
        let _ = self.0.wait();
    }
}
