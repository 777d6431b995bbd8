//! What came of the trials, for people and for programs.

mod conditions;
mod plot;
mod raw;
mod table;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

pub(crate) use conditions::Conditions;

use super::summary;
use super::system::System;
use super::trial::Trial;

/// Writes raw trials, tables and plot into `out`; returns the text table.
pub(super) fn write(trials: &[Trial], conditions: &Conditions, out: &Path) -> Result<String> {
    let rows = summary::rows(trials);
    let text = format!("{conditions}\n{}", table::text(&rows));
    save(out, "failover.json", &raw::json(trials, conditions)?)?;
    save(out, "failover.txt", &text)?;
    save(out, "failover.md", &table::markdown(&rows, conditions))?;
    save(out, "failover.svg", &plot::svg(&rows, conditions))?;
    Ok(text)
}

/// Writes one file of the report.
pub(crate) fn save(out: &Path, name: &str, text: &str) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let path = out.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Copies the daemons' logs of one system into `out`.
pub(super) fn keep_logs(system: &dyn System, out: &Path) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    for host in system.lab().servers() {
        for log in host.logs() {
            let name = format!("{}-{}.log", system.name().replace(' ', "-"), host.name());
            fs::copy(&log, out.join(name))
                .with_context(|| format!("cannot copy {}", log.display()))?;
        }
    }
    Ok(())
}
