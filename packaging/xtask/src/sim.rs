//! `cargo xtask sim`: builds the simulator and becomes it.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::{repo, sh};

/// Does not return when the simulator starts: this process becomes it, and its exit code is the answer.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    sh::run(&mut sh::cargo("build --profile sim -p vipd-sim"))?;
    let program = repo::program("sim", "vipd-sim");
    let mut sim = sh::command(&program);
    sim.args(arguments).stdin(std::process::Stdio::inherit());
    Err(sim.exec()).with_context(|| format!("cannot start {}", program.display()))
}
