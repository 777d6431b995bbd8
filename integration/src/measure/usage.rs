//! What the programs on a host cost: CPU time and memory, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::lab::Host;

/// The unit of CPU times in `/proc`: hundredths of a second on every Linux that Rust runs on.
const TICK: Duration = Duration::from_millis(10);

/// The cost of all programs of one host over some time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Usage {
    /// CPU time of all its threads, in per cent of one CPU.
    pub(crate) cpu_percent: f64,
    /// Resident memory of its own and of mapped files, in MiB.
    pub(crate) rss_mib: f64,
    /// Of which this is its own.
    pub(crate) anonymous_mib: f64,
    /// CPU time by the names of threads, in per cent of one CPU, the busiest first.
    pub(crate) threads: Vec<(String, f64)>,
}

/// The beginning of a measurement.
#[derive(Debug)]
pub(crate) struct Since {
    at: Instant,
    ticks: u64,
    threads: BTreeMap<String, u64>,
}

impl Since {
    /// Begins to measure the programs of `host`.
    pub(crate) fn now(host: &Host) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            ticks: ticks(host)?,
            threads: by_thread(host)?,
        })
    }

    /// What they cost since then.
    pub(crate) fn usage(&self, host: &Host) -> Result<Usage> {
        let per_cent = |ticks: u64, before: u64| {
            let used = TICK.as_secs_f64() * ticks.saturating_sub(before) as f64;
            100.0 * used / self.at.elapsed().as_secs_f64()
        };
        let (mut all, mut own) = (0, 0);
        for pid in host.pids()? {
            let read = |key| {
                memory(pid, key).with_context(|| format!("cannot read the memory of pid {pid}"))
            };
            all += read("VmRSS:")?;
            own += read("RssAnon:")?;
        }
        let before = |name: &str| self.threads.get(name).copied().unwrap_or_default();
        let mut threads: Vec<(String, f64)> = by_thread(host)?
            .into_iter()
            .map(|(name, ticks)| (name.clone(), per_cent(ticks, before(&name))))
            .collect();
        threads.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(Usage {
            cpu_percent: per_cent(ticks(host)?, self.ticks),
            rss_mib: all as f64 / 1024.0,
            anonymous_mib: own as f64 / 1024.0,
            threads,
        })
    }
}

/// CPU time that the programs of a host have had; none where none runs.
pub(crate) fn cpu_time(host: &Host) -> Result<Duration> {
    let none = host.pids()?.is_empty();
    let ticks = if none { 0 } else { ticks(host)? };
    Ok(TICK * u32::try_from(ticks).context("a CPU time of a year")?)
}

fn ticks(host: &Host) -> Result<u64> {
    let pids = host.pids()?;
    ensure!(!pids.is_empty(), "no program runs on {}", host.name());
    let mut sum = 0;
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("pid {pid} of {} has ended", host.name()))?;
        sum += cpu_ticks(&stat).with_context(|| format!("/proc/{pid}/stat reads {stat:?}"))?;
    }
    Ok(sum)
}

/// User and system time, fields 14 and 15, counted behind the command's name, which may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// CPU time of the threads that live, by name.
fn by_thread(host: &Host) -> Result<BTreeMap<String, u64>> {
    let mut threads = BTreeMap::new();
    for pid in host.pids()? {
        let folder = format!("/proc/{pid}/task");
        let tasks = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
        for task in tasks.flatten() {
            // A thread may end while it is looked at; then it has no part in this.
            let Ok(stat) = fs::read_to_string(task.path().join("stat")) else {
                continue;
            };
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            *threads.entry(name.trim().to_owned()).or_default() += cpu_ticks(&stat).unwrap_or(0);
        }
    }
    Ok(threads)
}

/// A line of `/proc/<pid>/status`, in KiB.
fn memory(pid: u32, key: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.with_context(|| format!("no {key}"))?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_a_name_with_brackets_and_blanks() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 1 2 3 4 150 25 0 0 20 0 5 0";
        assert_eq!(cpu_ticks(stat), Some(175));
        assert_eq!(cpu_ticks("7 (x) S 1"), None);
    }

    #[test]
    fn our_own_memory_can_be_read() {
        let me = std::process::id();
        let (all, own) = (
            memory(me, "VmRSS:").unwrap(),
            memory(me, "RssAnon:").unwrap(),
        );
        assert!(own > 0 && own < all, "{own} of {all} KiB");
    }
}
