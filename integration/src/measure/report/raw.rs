//! Every trial, as JSON.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::super::trial::Trial;
use super::Conditions;

/// The document: the conditions, and the trials in the order in which they were made.
pub(super) fn json(trials: &[Trial], conditions: &Conditions) -> Result<String> {
    let trials: Vec<Value> = trials.iter().map(raw).collect();
    let document = json!({
        "conditions": {
            "cpus": conditions.cpus,
            "kernel": conditions.kernel,
            "load": conditions.load,
            "versions": conditions.versions,
        },
        "trials": trials,
    });
    Ok(serde_json::to_string_pretty(&document)?)
}

fn raw(trial: &Trial) -> Value {
    let ms = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
    json!({
        "system": trial.system,
        "fault": trial.fault.name(),
        "vips": trial.vips,
        "at_ns": trial.at.0,
        "holder": trial.holder,
        "server": trial.seen.server,
        "outage_ms": ms(trial.seen.outage),
        "median_vip_ms": ms(trial.seen.median_vip),
        "announced_ms": trial.seen.announced.map(ms),
        "lost": trial.seen.lost,
        "overlap_ms": trial.seen.overlap.map(ms),
        "false_moves": trial.seen.false_moves,
        "dark": trial.dark,
    })
}
