//! What the programs on a host cost: CPU time and memory, from `/proc`.

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
    /// Resident memory, in MiB.
    pub(crate) rss_mib: f64,
}

/// The beginning of a measurement.
#[derive(Debug)]
pub(crate) struct Since {
    at: Instant,
    ticks: u64,
}

impl Since {
    /// Begins to measure the programs of `host`.
    pub(crate) fn now(host: &Host) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            ticks: ticks(host)?,
        })
    }

    /// What they cost since then.
    pub(crate) fn usage(&self, host: &Host) -> Result<Usage> {
        let used = TICK.as_secs_f64() * ticks(host)?.saturating_sub(self.ticks) as f64;
        let mut kib = 0;
        for pid in host.pids()? {
            kib += resident(pid).with_context(|| format!("cannot read the memory of pid {pid}"))?;
        }
        Ok(Usage {
            cpu_percent: 100.0 * used / self.at.elapsed().as_secs_f64(),
            rss_mib: kib as f64 / 1024.0,
        })
    }
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

fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no VmRSS")?.parse()?)
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
        assert!(resident(std::process::id()).unwrap() > 100);
    }
}
