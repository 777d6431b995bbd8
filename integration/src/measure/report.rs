//! What came of the trials, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::stats::{Sample, ms};
use super::system::System;
use super::trial::Trial;

/// One line for each fault and system, in the order of the faults.
pub(super) fn table(trials: &[Trial]) -> String {
    let mut groups: BTreeMap<_, Vec<&Trial>> = BTreeMap::new();
    for trial in trials {
        let key = (trial.vips, trial.fault, trial.system.clone());
        groups.entry(key).or_default().push(trial);
    }
    let mut text = String::from(
        "VIPs  fault            system             trials  median ms  p99 ms  max ms  lost  two owners ms  false moves  dark\n",
    );
    for ((vips, fault, system), trials) in groups {
        let Some(outages) = Sample::new(trials.iter().map(|t| t.seen.outage)) else {
            continue;
        };
        let lost = Sample::new(trials.iter().map(|t| t.seen.overlap));
        let replies: usize = trials.iter().map(|t| t.seen.lost).max().unwrap_or_default();
        let false_moves: usize = trials.iter().map(|t| t.false_moves).sum();
        let dark = trials.iter().filter(|t| t.dark).count();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{vips:>4}  {fault:<15}  {system:<17}  {:>6}  {:>9}  {:>6}  {:>6}  {replies:>4}  {:>13}  {false_moves:>11}  {dark:>4}",
            outages.count(),
            ms(outages.median()),
            ms(outages.p99()),
            ms(outages.max()),
            lost.map_or(String::new(), |l| ms(l.max())),
        );
    }
    text
}

/// Writes the raw trials as JSON.
pub(super) fn write(trials: &[Trial], out: &Path) -> Result<()> {
    let raw: Vec<Value> = trials.iter().map(raw).collect();
    let path = out.join("failover.json");
    fs::write(&path, serde_json::to_string_pretty(&raw)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn raw(trial: &Trial) -> Value {
    let ms = |duration: std::time::Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
    json!({
        "system": trial.system,
        "fault": trial.fault.name(),
        "vips": trial.vips,
        "at_ns": trial.at.0,
        "holder": trial.holder,
        "server": trial.seen.server,
        "outage_ms": ms(trial.seen.outage),
        "lost": trial.seen.lost,
        "overlap_ms": ms(trial.seen.overlap),
        "takeovers": trial.seen.takeovers,
        "false_moves": trial.false_moves,
        "dark": trial.dark,
    })
}

/// Copies the daemons' logs of one system into `out`.
pub(super) fn keep_logs(system: &dyn System, out: &Path) -> Result<()> {
    for host in system.lab().servers() {
        for log in host.logs() {
            let name = format!("{}-{}.log", system.name().replace(' ', "-"), host.name());
            fs::copy(&log, out.join(name))
                .with_context(|| format!("cannot copy {}", log.display()))?;
        }
    }
    Ok(())
}
