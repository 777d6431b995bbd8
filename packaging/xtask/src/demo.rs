//! `cargo xtask demo`: what a newcomer runs first. Installs, builds, and becomes `vipd demo`.

use std::os::unix::process::CommandExt;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::{apt, needs, repo, sh};

/// Does not return when the show starts: this process becomes `vipd demo`, whose exit code is the answer.
pub(crate) fn run(keep: bool) -> Result<()> {
    sh::require_root(
        "the demo makes network namespaces and loads eBPF programs, which",
        "cargo xtask demo",
    )?;
    apt::ensure("the demo", needs::DEMO)?;
    println!(
        "==> demo: building vipd and vipctl (release; about ten minutes on two cores the first time)"
    );
    let started = Instant::now();
    sh::run(&mut sh::cargo("build --release -p vipd -p vipctl"))?;
    println!(
        "==> demo: built in {:.0} s; three hosts and a client are next",
        started.elapsed().as_secs_f32()
    );
    let vipd = repo::program("release", "vipd");
    let mut demo = sh::command(&vipd);
    demo.arg("demo").stdin(std::process::Stdio::inherit());
    if keep {
        demo.arg("--keep");
    }
    Err(demo.exec()).with_context(|| format!("cannot start {}", vipd.display()))
}
